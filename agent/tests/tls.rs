//! The API over TCP: who gets in, what each role may do, and what happens to files that change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;
#[allow(dead_code, reason = "only the list of methods is asked for")]
#[path = "common/reflection.rs"]
mod reflection;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::FakeAgent;
use common::certificates::{AGENT, Authority, Wanted};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use weir::api::port::{Port, PortError};
use weir::api::roles::TABLE;
use weir::client::{Address, Client, ClientError, channel};
use weir::node::events::{EventQuery, Kind, Recorded};
use weir::tls::{Files, Role};

/// An agent on a port of its own, with its authority.
struct Secured {
    agent: FakeAgent,
    authority: Authority,
    address: SocketAddr,
    files: Files,
    directory: tempfile::TempDir,
}

impl Secured {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.agent(&directory.path().join("agent"));
        let port = Port::bind("127.0.0.1:0".parse().unwrap(), files.clone()).unwrap();
        let address = port.address();
        Self { agent: FakeAgent::start_at(Some(port)), authority, address, files, directory }
    }

    fn place(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn at(&self, files: &Files) -> Address {
        Address::parse(&format!("https://{}", self.address), Some(files), None).unwrap()
    }

    fn of_role(&self, role: &str) -> Address {
        let uri = format!("weir://role/{role}");
        let name = format!("{role}-1.example");
        self.at(&self.authority.client(&self.place(role), &name, &uri))
    }

    async fn client(&self, role: &str) -> Client {
        Client::connect(self.of_role(role)).await.unwrap()
    }
}

/// What `error` says of an agent that was not reached.
fn unreachable(result: Result<Client, ClientError>) -> String {
    match result.expect_err("it must not get in") {
        ClientError::Unreachable { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// Sends nothing, and takes whatever is answered.
#[derive(Clone, Copy)]
struct Nothing;

impl Codec for Nothing {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Nothing {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Nothing {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use prost_reflect::prost::bytes::Buf as _;
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

/// Calls a method with an empty message, and says how that began.
async fn call(channel: &Channel, path: &str) -> Code {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let request = Request::new(());
    match grpc.server_streaming(request, path.parse().unwrap(), Nothing).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn each_role_may_call_what_the_table_says_and_the_table_forgets_no_method() {
    let secured = Secured::start();
    let admin = channel(&secured.of_role("admin")).await.unwrap();
    let mut methods = reflection::methods(&admin).await;
    assert!(methods.len() > 19, "{methods:?}");
    // The older name of the reflection does not tell of itself.
    methods.push("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    // A coordinator serves the same and these.
    let pool = DescriptorPool::decode(weir_proto::ROLLOUT_DESCRIPTOR_SET).unwrap();
    let rollouts = pool.get_service_by_name("weir.rollout.v1.Rollouts").unwrap();
    let path = |method: MethodDescriptor| format!("/{}/{}", rollouts.full_name(), method.name());
    methods.extend(rollouts.methods().map(path));
    methods.sort();
    let mut table: Vec<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
    table.sort();
    assert_eq!(table, methods, "api::roles::TABLE names every method that is served, once");

    for role in Role::ALL {
        let channel = channel(&secured.of_role(role.name())).await.unwrap();
        for (method, needed) in TABLE {
            let denied = call(&channel, method).await == Code::PermissionDenied;
            assert_eq!(denied, role < *needed, "{role} calls {method}");
        }
        // What is not in the table is nobody's but an admin's.
        let unknown = call(&channel, "/weir.v1.Weir/Explode").await;
        let expected =
            if role == Role::Admin { Code::Unimplemented } else { Code::PermissionDenied };
        assert_eq!(unknown, expected, "{role}");
    }
    secured.agent.stop().await;
}

#[tokio::test]
async fn who_may_not_is_told_what_it_takes() {
    let secured = Secured::start();
    let mut reader = secured.client("reader").await;
    let delete = weir::node::messages::Delete {
        services: vec![weir::model::ServiceName::new("shop").unwrap()],
        request_id: None,
        fence: None,
    };
    let error = reader.delete(&delete).await.expect_err("a reader deletes nothing");
    assert_eq!(
        error.to_string(),
        "refused: reader-1.example has the role reader, and Delete takes admin: use a certificate with \
         URI:weir://role/admin"
    );
    assert!(matches!(&error, ClientError::Refused { reason, .. } if reason == "ROLE"));
    for (uri, said) in [
        ("https://example/", "its certificate names no role"),
        ("weir://role/owner", "names the role \"owner\"; there are reader, shifter and admin"),
    ] {
        let files = secured.authority.client(&secured.place("none"), "nobody.example", uri);
        let mut nobody = Client::connect(secured.at(&files)).await.unwrap();
        let error = nobody.list().await.expect_err("no role, no answer").to_string();
        assert!(error.starts_with("refused: nobody.example has no role: "), "{error}");
        assert!(error.contains(said), "{error}");
    }
    secured.agent.stop().await;
}

#[tokio::test]
async fn events_say_whose_certificate_it_was() {
    let secured = Secured::start();
    let mut admin = secured.client("admin").await;
    let text = "name: shop\nlisteners: [{address: 10.50.0.100, port: 80, protocol: tcp}]\n\
                versions: {blue: {weight: 100%, backends: [{address: 10.61.0.2, port: 80}]}}";
    let spec: weir::model::ServiceSpec = serde_saphyr::from_str(text).unwrap();
    admin.apply(&[spec], &weir::node::messages::ChangeOptions::default()).await.unwrap();
    let events = events(&mut admin).await;
    let who = events.iter().find(|one| one.event.kind == Kind::Applied).unwrap().event.who.clone();
    assert_eq!(who.as_deref(), Some("admin-1.example (admin)"));
    secured.agent.stop().await;
}

async fn events(client: &mut Client) -> Vec<Recorded> {
    let stream = client.watch_events(&EventQuery::default(), false).await.unwrap();
    tokio::pin!(stream);
    stream.next().await.unwrap().unwrap().events
}

#[tokio::test]
async fn only_certificates_of_the_authority_get_in_and_errors_say_why_not() {
    let secured = Secured::start();
    let (own, foreign) = (&secured.authority, Authority::named("somebody else"));
    let wanted = Wanted { name: "a.example", uris: &["weir://role/admin"], expired: false };

    // Also one that has only the name of the right one.
    for foreign in [&foreign, &Authority::new()] {
        let files = foreign.issue(&secured.place("foreign"), wanted, own);
        let said = unreachable(Client::connect(secured.at(&files)).await);
        assert!(said.contains("no authority in its --tls-ca has signed it"), "{said}");
    }

    let files = own.issue(&secured.place("old"), Wanted { expired: true, ..wanted }, own);
    let said = unreachable(Client::connect(secured.at(&files)).await);
    assert!(said.contains("which has expired: get a new one"), "{said}");

    let files = own.issue(&secured.place("misled"), wanted, &foreign);
    let said = unreachable(Client::connect(secured.at(&files)).await);
    assert!(said.contains("its certificate is not signed by an authority in"), "{said}");

    let files = own.issue(&secured.place("good"), wanted, own);
    let named = |name| {
        Address::parse(&format!("https://{}", secured.address), Some(&files), Some(name)).unwrap()
    };
    let said = unreachable(Client::connect(named("lb2.weir.example")).await);
    assert!(said.contains("not for the name lb2.weir.example, but for"), "{said}");
    assert!(said.contains(AGENT), "{said}");
    Client::connect(named(AGENT)).await.unwrap().list().await.unwrap();

    fs::write(&files.key, "no key").unwrap();
    let said = unreachable(Client::connect(secured.at(&files)).await);
    assert!(said.contains("key.pem: holds no private key in PEM"), "{said}");
    secured.agent.stop().await;
}

/// TLS without a certificate of ours.
fn anonymous(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn without_a_certificate_or_without_tls_nobody_gets_in() {
    let secured = Secured::start();
    let stream = TcpStream::connect(secured.address).await.unwrap();
    let name = ServerName::try_from(AGENT).unwrap();
    // In TLS 1.3 the client has ended its handshake before it is judged.
    let mut stream = anonymous(&secured.files.authority).connect(name, stream).await.unwrap();
    let error = stream.read_u8().await.expect_err("turned away").to_string();
    assert!(error.contains("CertificateRequired"), "{error}");

    let mut stream = TcpStream::connect(secured.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert of TLS at most, and then nothing more. A reset is a no, too.
    let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() <= 7 && answer.first().is_none_or(|kind| *kind == 21), "{answer:?}");

    secured.client("reader").await.list().await.unwrap();
    secured.agent.stop().await;
}

#[tokio::test]
async fn half_open_handshakes_end_and_keep_nobody_out_for_long() {
    let secured = Secured::start();
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(secured.address).await.unwrap());
    }
    // The socket is not in their way at all.
    secured.agent.client().await.list().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    let mut late = loop {
        match Client::connect(secured.of_role("reader")).await {
            Ok(client) => break client,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    late.list().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for stream in &mut silent {
        let closed = timeout(Duration::from_secs(8), stream.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    secured.agent.stop().await;
}

/// Waits until there are so many events of a kind.
async fn await_event(client: &mut Client, kind: Kind, number: usize) -> String {
    let began = Instant::now();
    loop {
        let of_kind: Vec<_> =
            events(client).await.into_iter().filter(|one| one.event.kind == kind).collect();
        if of_kind.len() >= number {
            assert_eq!(of_kind.len(), number);
            return of_kind.last().unwrap().event.text.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no event {kind}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn new_files_are_taken_up_bad_ones_are_not_and_no_connection_is_lost() {
    let secured = Secured::start();
    let mut before = secured.client("reader").await;
    let old = secured.of_role("reader");
    let stream = before.watch_counters(&[], Duration::from_millis(100)).await.unwrap();
    tokio::pin!(stream);
    stream.next().await.unwrap().unwrap();

    // Another authority altogether, for both ends.
    let other = Authority::new();
    other.agent(&secured.place("agent"));
    let mut local = secured.agent.client().await;
    await_event(&mut local, Kind::CertificatesReloaded, 1).await;
    let files = other.client(&secured.place("new"), "new.example", "weir://role/reader");
    Client::connect(secured.at(&files)).await.unwrap().list().await.unwrap();
    let said = unreachable(Client::connect(old).await);
    assert!(said.contains("not signed by an authority in"), "{said}");

    let wanted = Wanted { name: AGENT, uris: &[], expired: true };
    for (number, (damage, said)) in [
        ("garbage", "cert.pem: holds no certificate in PEM"),
        ("expired", "cert.pem: this certificate has expired"),
        ("absent", "key.pem: No such file or directory"),
        ("foreign", "is not the certificate of the key in"),
    ]
    .into_iter()
    .enumerate()
    {
        match damage {
            "garbage" => fs::write(&secured.files.certificate, "garbage").unwrap(),
            "expired" => drop(other.issue(&secured.place("agent"), wanted, &other)),
            "absent" => fs::remove_file(&secured.files.key).unwrap(),
            _ => {
                let elsewhere = other.agent(&secured.place("elsewhere"));
                let here = other.agent(&secured.place("agent"));
                fs::copy(elsewhere.key, here.key).unwrap();
            }
        }
        let text = await_event(&mut local, Kind::CertificatesRefused, number + 1).await;
        assert!(text.contains(said), "{damage}: {text}");
        Client::connect(secured.at(&files)).await.unwrap().list().await.unwrap();
    }
    // Who was there has noticed nothing.
    before.list().await.unwrap();
    for _ in 0..3 {
        stream.next().await.unwrap().unwrap();
    }
    secured.agent.stop().await;
}

#[tokio::test]
async fn a_port_that_cannot_be_had_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.agent(directory.path());
    let first = Port::bind("127.0.0.1:0".parse().unwrap(), files.clone()).unwrap();
    let error = Port::bind(first.address(), files.clone()).err().unwrap();
    assert!(matches!(error, PortError::Bind(..)) && error.to_string().contains("--listen"));
    fs::write(&files.authority, "").unwrap();
    let error = Port::bind("127.0.0.1:0".parse().unwrap(), files).err().unwrap().to_string();
    assert!(error.contains("ca.pem: holds no certificate in PEM"), "{error}");
}

#[test]
fn the_command_line_takes_an_address_and_files() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let secured = Secured::start();
    let files =
        secured.authority.client(&secured.place("cli"), "cli.example", "weir://role/reader");
    let weir = |arguments: &[&str], environment: &BTreeMap<&str, &Path>| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .envs(environment)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let paths: BTreeMap<&str, &Path> = BTreeMap::from([
        ("WEIR_TLS_CERT", files.certificate.as_path()),
        ("WEIR_TLS_KEY", files.key.as_path()),
        ("WEIR_TLS_CA", files.authority.as_path()),
    ]);
    let at = format!("https://{}", secured.address);
    let (code, printed, said) = weir(&["--address", &at, "status"], &paths);
    assert!(code == 0 && printed.contains("generation"), "{said}");
    let (code, _, said) = weir(&["--address", &at, "delete", "shop"], &paths);
    assert!(code == 4 && said.contains("takes admin"), "{code} {said}");
    let (code, _, said) = weir(&["--address", &at, "status"], &BTreeMap::new());
    assert!(code == 2 && said.contains("takes --tls-cert, --tls-key and --tls-ca"), "{said}");
    let (code, _, said) = weir(&["agent", "-i", "lo", "--listen", "127.0.0.1:1"], &BTreeMap::new());
    assert!(code == 2 && said.contains("mutual TLS only"), "{said}");
    let unix = format!("unix:{}", secured.agent.socket.display());
    let (code, _, said) = weir(&["--address", &unix, "status"], &BTreeMap::new());
    assert_eq!(code, 0, "{said}");
    runtime.block_on(secured.agent.stop());
}
