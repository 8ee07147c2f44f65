//! The agent's TCP port: mutual TLS, and nothing before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::caller::Peer;
use super::clients::{Connection, Connections, MAX_CONNECTIONS};
use crate::node::Handle;
use crate::node::events::{Event, Kind};
use crate::tls::files::Contents;
use crate::tls::{Files, Identity, LoadError, explain, reload};

/// Handshakes at once. Further clients wait in the backlog.
const MAX_HANDSHAKES: usize = 256;
/// How long one may take. So long can clients that begin many and end none keep others waiting.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(3);
/// Clients that wait until they are accepted; further ones are not heard.
const BACKLOG: u32 = 1_024;
/// Time after an error of the listener, such as too many open files.
const RETRY: Duration = Duration::from_millis(100);

/// Why the port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A file is wrong.
    #[error("the API over TLS: {0}")]
    Files(#[from] LoadError),
    /// The address cannot be had.
    #[error("cannot listen at {0}: {1}; choose another --listen")]
    Bind(SocketAddr, io::Error),
}

/// A port that clients can connect to.
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
    files: Files,
    contents: Contents,
    config: Arc<ServerConfig>,
}

impl Port {
    /// Binds `address`, and reads the files. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A file is wrong, or the address cannot be had.
    pub fn bind(address: SocketAddr, files: Files) -> Result<Self, PortError> {
        let contents = files.read()?;
        let config = files.server(&contents)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(error) = files.outdated(&contents, now) {
            // A host that was off for long must still come up: the socket works, and files can change.
            tracing::warn!("{error}: clients will refuse it until there is a new one");
        }
        let fail = |error| PortError::Bind(address, error);
        let listener = listen(address).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, files, contents, config })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an agent before may still be about to end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections at the port until nobody takes them any more. What becomes of files that
/// change is told to the node, if there is one, and else logged.
pub(crate) async fn accept(port: Port, node: Option<Handle>, connections: Connections) {
    let (configs, config) = watch::channel(port.config);
    let follow =
        reload::follow(port.files, port.contents, configs, |became| tell(node.as_ref(), became));
    tokio::select! {
        () = follow => {}
        () = shake_hands(&port.listener, &config, &connections) => {}
        () = connections.closed() => {}
    }
}

async fn shake_hands(
    listener: &TcpListener,
    config: &watch::Receiver<Arc<ServerConfig>>,
    connections: &Connections,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let hands = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let turned_away = Arc::new(Seldom::default());
    // The semaphores are never closed.
    while let (Ok(room), Ok(hand)) =
        (Arc::clone(&room).acquire_owned().await, Arc::clone(&hands).acquire_owned().await)
    {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted over TLS; it is tried again");
                sleep(RETRY).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        let (connections, turned_away) = (connections.clone(), Arc::clone(&turned_away));
        tokio::spawn(async move {
            let shaken = timeout(HANDSHAKE_WAIT, shake_hand(&acceptor, stream)).await;
            drop(hand);
            match shaken.unwrap_or_else(|_| Err("its handshake took too long".to_owned())) {
                Ok((stream, peer)) => {
                    // The server may have stopped meanwhile.
                    let _ = connections.send(Ok(Connection::new(stream, peer, room))).await;
                }
                Err(why) => turned_away.say(|others| {
                    tracing::warn!(%address, others, "a client was turned away: {why}");
                }),
            }
        });
    }
}

async fn shake_hand(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer), String> {
    // Answers are small, and waited for.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream = acceptor.accept(stream).await.map_err(|error| explain::to_server(&error))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let first = certificates.and_then(<[_]>::first).ok_or("it showed no certificate")?;
    let peer = Peer::Remote(Arc::new(Identity::of(first)));
    Ok((stream, peer))
}

/// Records what became of files that have changed.
async fn tell(node: Option<&Handle>, became: Result<(), String>) {
    let event = match became {
        Ok(()) => Event::new(
            Kind::CertificatesReloaded,
            "new TLS files are in use for connections to come; those that are stay as they are",
        ),
        Err(why) => Event::new(
            Kind::CertificatesRefused,
            format!("new TLS files cannot be used, so those before are: {why}"),
        ),
    };
    if let Some(node) = node { node.tell(event).await } else { tracing::info!("{}", event.text) }
}

/// Says at most one thing a second, whatever others do; and how often it has said nothing.
struct Seldom {
    began: Instant,
    /// The second in which something was said last.
    said: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { began: Instant::now(), said: AtomicU64::new(u64::MAX), unsaid: AtomicU64::new(0) }
    }
}

impl Seldom {
    fn say(&self, line: impl FnOnce(u64)) {
        let second = self.began.elapsed().as_secs();
        if self.said.swap(second, Relaxed) == second {
            self.unsaid.fetch_add(1, Relaxed);
        } else {
            line(self.unsaid.swap(0, Relaxed));
        }
    }
}
