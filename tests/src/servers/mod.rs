//! The servers on the backends of one version: HTTP, TCP echo and UDP echo on each address, on one
//! thread in the version's namespace.

mod echo;
pub mod http;
pub mod ill;
mod udp;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::identity::{Identity, Version};
use crate::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, lb_for_backends};
use crate::lab::{Namespace, Task};

/// Connections waiting to be accepted, for each listener.
const BACKLOG: i32 = 4096;

/// Connections served at a time, for each listener. Further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 8192;

/// What one backend has served: the balancer host's own checks of it are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Connections accepted by the HTTP server.
    pub http_connections: u64,
    /// HTTP requests answered.
    pub http_requests: u64,
    /// Connections accepted by the TCP echo server.
    pub echo_connections: u64,
    /// Datagrams answered by the UDP echo server.
    pub datagrams: u64,
}

/// The live form of [`Served`].
#[derive(Debug, Default)]
struct Counters {
    http_connections: AtomicU64,
    http_requests: AtomicU64,
    echo_connections: AtomicU64,
    datagrams: AtomicU64,
}

impl Served {
    /// Adds what was served elsewhere.
    pub(crate) fn add(&mut self, more: &Self) {
        self.http_connections += more.http_connections;
        self.http_requests += more.http_requests;
        self.echo_connections += more.echo_connections;
        self.datagrams += more.datagrams;
    }
}

impl Counters {
    fn read(&self) -> Served {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            http_connections: read(&self.http_connections),
            http_requests: read(&self.http_requests),
            echo_connections: read(&self.echo_connections),
            datagrams: read(&self.datagrams),
        }
    }
}

/// The running servers of one version. Dropping them closes their connections.
#[derive(Debug)]
pub struct Servers {
    counters: Vec<(Identity, Arc<Counters>)>,
    listeners: Vec<Socket>,
    _task: Task<()>,
}

impl Servers {
    /// Binds servers, each with the name it gives itself and its address, and starts them. On
    /// return all of them listen. `files_apart`: as [`LabBuilder::files_apart`](crate::lab::LabBuilder)
    /// has it.
    pub(crate) fn start(
        namespace: &Namespace,
        all: Vec<(Identity, IpAddr)>,
        files_apart: bool,
    ) -> Result<Self> {
        let bind = |(identity, address)| Backend::bind(identity, address);
        let backends =
            namespace.inside(|| all.into_iter().map(bind).collect::<Result<Vec<_>>>())??;
        let counters = backends
            .iter()
            .map(|backend| (backend.identity, Arc::clone(&backend.counters)))
            .collect();
        let listeners = backends
            .iter()
            .flat_map(|backend| [&backend.http, &backend.echo])
            .map(|listener| Ok(listener.try_clone().context("keeping a listener")?.into()))
            .collect::<Result<_>>()?;
        let task = namespace.spawn(move || async move {
            if files_apart && let Err(error) = unshare(CloneFlags::CLONE_FILES) {
                eprintln!("the servers share the limit on open files: {error}");
            }
            let mut serving = JoinSet::new();
            for backend in backends {
                serving.spawn(backend.serve());
            }
            while let Some(ended) = serving.join_next().await {
                if let Ok(Err(error)) = ended {
                    eprintln!("a server of the lab ended: {error:#}");
                }
            }
        })?;
        Ok(Self { counters, listeners, _task: task })
    }

    /// What each backend has served.
    pub(crate) fn served(&self) -> impl Iterator<Item = (Identity, Served)> {
        self.counters.iter().map(|(identity, counters)| (*identity, counters.read()))
    }
}

impl Drop for Servers {
    /// Closing would not do: a process that is being started elsewhere holds copies of our sockets
    /// until it runs its program, and a copy of a listener still takes connections.
    fn drop(&mut self) {
        for listener in &self.listeners {
            // It fails for a listener that has ended already.
            let _ = listener.shutdown(Shutdown::Both);
        }
    }
}

/// One backend whose sockets are bound and listen.
struct Backend {
    identity: Identity,
    counters: Arc<Counters>,
    http: TcpListener,
    echo: TcpListener,
    udp: UdpSocket,
}

impl Backend {
    fn bind(identity: Identity, address: IpAddr) -> Result<Self> {
        let at = |port| SocketAddr::new(address, port);
        let bound = || -> io::Result<Self> {
            let udp = UdpSocket::bind(at(ECHO_PORT))?;
            udp.set_nonblocking(true)?;
            Ok(Self {
                identity,
                counters: Arc::default(),
                http: listen(at(HTTP_PORT))?,
                echo: listen(at(ECHO_PORT))?,
                udp,
            })
        };
        bound().with_context(|| format!("binding the servers of {identity}"))
    }

    async fn serve(self) -> Result<()> {
        let Self { identity, counters, http, echo, udp } = self;
        let accepted = &counters;
        tokio::try_join!(
            accept(http, &accepted.http_connections, |stream| http::serve(
                stream,
                identity,
                Arc::clone(&counters)
            )),
            accept(echo, &accepted.echo_connections, |stream| echo::serve(stream, identity)),
            udp::serve(udp, identity, &accepted.datagrams),
        )
        .with_context(|| format!("serving {identity}"))?;
        Ok(())
    }
}

/// Whether it is the balancer host that speaks for itself.
fn is_balancer(address: IpAddr) -> bool {
    let family = Family::of(address);
    Version::ALL.into_iter().any(|version| lb_for_backends(family, version) == address)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections for ever, counts them and gives each to a task of its own.
async fn accept<F>(
    listener: TcpListener,
    accepted: &AtomicU64,
    serve: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, peer)) = listener.accept().await else {
            // The client is gone already, or there are too many files: a pause helps the second.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        if !is_balancer(peer.ip()) {
            accepted.fetch_add(1, Ordering::Relaxed);
        }
        let serving = serve(stream);
        tokio::spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}
