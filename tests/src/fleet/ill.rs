//! Backends that fall ill while they serve, and get well again.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use crate::identity::Version;
use crate::lab::addresses::{FAR_END, Family, HTTP_PORT, backend};
use crate::lab::{Lab, Task};

impl Lab {
    /// The backends of a version receive, and nobody hears from them.
    pub fn silence(&self, version: Version, family: Family) -> Result<()> {
        self.version(version).ip(&[format!("route add blackhole {}", family.clients())])
    }

    /// They are heard again.
    pub fn unsilence(&self, version: Version, family: Family) -> Result<()> {
        self.version(version).ip(&[format!("route del blackhole {}", family.clients())])
    }

    /// The network of a version's backends is gone, as if their power was.
    pub fn unplug(&self, version: Version) -> Result<()> {
        self.version(version).ip(&[format!("link set {FAR_END} down")])
    }

    /// One backend of a version is dead: nobody has its address.
    pub fn bury(&self, version: Version, family: Family, index: u8) -> Result<()> {
        let (address, length) = (backend(family, version, index), family.link_prefix());
        self.version(version).ip(&[format!("address del {address}/{length} dev {FAR_END}")])
    }

    /// It is back.
    pub fn raise(&self, version: Version, family: Family, index: u8) -> Result<()> {
        let (address, length) = (backend(family, version, index), family.link_prefix());
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        self.version(version).ip(&[format!("address add {address}/{length} dev {FAR_END}{nodad}")])
    }

    /// What the backends of a version send waits for its turn on a narrow link.
    pub fn slow_down(&self, version: Version) -> Result<()> {
        let narrow = ["qdisc", "replace", "dev", FAR_END, "root", "tbf"];
        let width = ["rate", "96kbit", "burst", "300", "latency", "2s"];
        self.version(version).exec("tc", &[&narrow[..], &width[..]].concat()).map(drop)
    }

    /// The link is as wide as before.
    pub fn speed_up(&self, version: Version) -> Result<()> {
        self.version(version).exec("tc", &["qdisc", "del", "dev", FAR_END, "root"]).map(drop)
    }

    /// The backends of a version accept connections and reset them at once, until the task is dropped.
    pub fn reset_all(&mut self, version: Version, family: Family) -> Result<Task<()>> {
        self.stop_servers(version);
        let at: Vec<IpAddr> = self.backends(family, version);
        let listeners = self.version(version).inside(|| {
            let bind = |address: &IpAddr| {
                let at = SocketAddr::new(*address, HTTP_PORT);
                let listener = std::net::TcpListener::bind(at)?;
                listener.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(listener)
            };
            at.iter().map(bind).collect::<Result<Vec<_>, _>>()
        })?;
        let listeners = listeners.context("binding servers that reset")?;
        self.version(version).spawn(move || async move {
            let mut all = tokio::task::JoinSet::new();
            for listener in listeners {
                all.spawn(async move {
                    let listener = TcpListener::from_std(listener)?;
                    loop {
                        let (stream, _) = listener.accept().await?;
                        stream.set_zero_linger()?;
                    }
                });
            }
            while let Some(ended) = all.join_next().await {
                let _: Result<Result<(), std::io::Error>, _> = ended;
            }
        })
    }
}
