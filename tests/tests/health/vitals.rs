//! What health checks ask of the backends of a version: on each a TCP listener, an HTTP server and a
//! gRPC health service, whose answers the test sets. The backends' other servers go on whatever these
//! say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;
use weir_tests::lab::{Namespace, Task};

pub(crate) const TCP: u16 = 7_000;
pub(crate) const HTTP: u16 = 7_001;
pub(crate) const GRPC: u16 = 7_002;

pub(crate) struct Vitals {
    well: BTreeMap<IpAddr, watch::Sender<bool>>,
    _task: Task<()>,
}

impl Vitals {
    /// All are well to begin with.
    pub(crate) fn start(namespace: &Namespace, backends: &[IpAddr]) -> Self {
        let well: BTreeMap<IpAddr, watch::Sender<bool>> =
            backends.iter().map(|address| (*address, watch::Sender::new(true))).collect();
        let all: Vec<_> = well.iter().map(|(at, well)| (*at, well.subscribe())).collect();
        let task = namespace.spawn(move || async move {
            for (address, well) in all {
                tokio::spawn(tcp(SocketAddr::new(address, TCP), well.clone()));
                tokio::spawn(http(SocketAddr::new(address, HTTP), well.clone()));
                tokio::spawn(grpc(SocketAddr::new(address, GRPC), well));
            }
            std::future::pending::<()>().await;
        });
        let vitals = Self { well, _task: task.unwrap() };
        // They listen a moment after this.
        std::thread::sleep(Duration::from_millis(100));
        vitals
    }

    pub(crate) fn set(&self, backend: IpAddr, well: bool) {
        self.well[&backend].send_replace(well);
    }
}

/// Listens while it is well.
async fn tcp(at: SocketAddr, mut well: watch::Receiver<bool>) {
    loop {
        if well.wait_for(|well| *well).await.is_err() {
            return;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(at).unwrap();
        let listener = socket.listen(64).unwrap();
        let serve = async {
            loop {
                drop(listener.accept().await);
            }
        };
        tokio::select! {
            () = serve => {}
            // It ends with the test, too.
            ill = well.wait_for(|well| !well) => drop(ill),
        }
    }
}

/// Answers `/healthz` with 200 or 500.
async fn http(at: SocketAddr, well: watch::Receiver<bool>) {
    let listener = TcpListener::bind(at).await.unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let status = if *well.borrow() { "200 OK" } else { "500 Internal Server Error" };
        tokio::spawn(async move {
            let asked = asked(&mut stream).await;
            let status = if asked.starts_with("GET /healthz ") { status } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.read(&mut [0; 16]).await;
        });
    }
}

async fn asked(stream: &mut TcpStream) -> String {
    let mut request = vec![0; 2_048];
    let length = stream.read(&mut request).await.unwrap_or(0);
    request.truncate(length);
    String::from_utf8_lossy(&request).into_owned()
}

/// Says `SERVING` or `NOT_SERVING` of the server as a whole.
async fn grpc(at: SocketAddr, mut well: watch::Receiver<bool>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind(at).await.unwrap();
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    loop {
        let status =
            if *well.borrow() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        if well.changed().await.is_err() {
            return;
        }
    }
}
