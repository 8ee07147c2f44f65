//! Next hops of backends, as the kernel sees them, followed when they change.
//!
//! The data plane writes a backend's interface and MAC addresses into its record, so that no
//! packet needs a lookup. Here is where they come from: routes, neighbours and links are asked for
//! over rtnetlink, and its events say when to ask again. Redirected packets never touch the
//! kernel's neighbour table, so the entries in use are also kept alive here.
//!
//! - `table`: what is known, what to ask, what to tell. Pure.
//! - `messages`, `link`: reads the kernel's messages; interfaces and their VLANs. Pure.
//! - `netlink`, `xdp_features`: the sockets.

mod link;
mod messages;
mod netlink;
mod table;
mod xdp_features;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use netlink::{Failure, Kernel};
use table::{Hints, Table, Wanted};

/// An Ethernet address, in the order of the wire.
pub type Mac = [u8; 6];

/// Events come in flocks: after the first one, this long is waited for the others.
const GATHER: Duration = Duration::from_millis(20);
/// Asking takes at most one part in this many and one of the time, however many events come.
const REST: u32 = 4;
/// Everything is asked for this often even if no event came.
const RECHECK: Duration = Duration::from_secs(60);
/// Wait before the sockets are opened again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// At most one warning in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What a frame to an address needs: the interface it leaves by and both MAC addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index of the output interface.
    pub interface: u32,
    /// Index of the interface that frames with `tags` leave by: the one below a VLAN device, else
    /// the same.
    pub lower: u32,
    /// Largest IP packet that the interface takes, in bytes. Zero: not known.
    pub mtu: u32,
    /// Tags of the VLAN, outer one first, each four bytes as on the wire. Zero: none.
    pub tags: [u32; 2],
    /// The output interface's own MAC: the frame's source.
    pub interface_mac: Mac,
    /// The neighbour's MAC: the frame's destination.
    pub mac: Mac,
}

impl NextHop {
    /// Through an interface that is no VLAN and whose MTU is not known.
    #[must_use]
    pub const fn plain(interface: u32, interface_mac: Mac, mac: Mac) -> Self {
        Self { interface, lower: interface, mtu: 0, tags: [0; 2], interface_mac, mac }
    }
}

/// Something the data plane has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The next hop of a watched address. Told once after the address is first watched, then at
    /// each difference. None: no usable one now, leave the packet to the kernel.
    Hop(IpAddr, Option<NextHop>),
    /// The node's own addresses on all interfaces, whole. Told at the start, then at each
    /// difference.
    Locals(BTreeSet<IpAddr>),
    /// The node's interfaces by index, whole. Told at the start, then at each difference.
    Devices(BTreeMap<u32, Device>),
}

/// A network interface, and whether an XDP program can send through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Whether it takes frames that an XDP program redirects to it. None: the kernel does not say.
    pub redirect: Option<bool>,
    /// Whether it is known to take such frames in several buffers (jumbo) too.
    pub in_buffers: bool,
}

/// What an interface is, as far as it matters to XDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A network card's, or a virtual machine's.
    Hardware,
    /// One end of a pair.
    Veth,
    /// Of the kernel's making: a bridge, a bond, a VLAN and so on.
    Other,
}

/// An address of the node that other hosts can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAddress {
    /// Index of the interface it is on.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
}

/// The node's addresses of global scope, in the kernel's order: once, without following them.
///
/// # Errors
///
/// The kernel gave no socket, or did not answer.
pub async fn own_addresses() -> Result<Vec<OwnAddress>, Error> {
    let kernel = Kernel::open()?;
    kernel.own().await.map_err(|failure| Error::Unanswered(failure.to_string()))
}

/// Why next hops cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gave no netlink socket.
    #[error("cannot open a netlink socket to follow routes and neighbours: {0}")]
    Socket(#[from] io::Error),
    /// The kernel did not answer.
    #[error("cannot read the node's addresses: {0}")]
    Unanswered(String),
}

/// Follows the next hops of a set of addresses until it is dropped.
#[derive(Debug)]
pub struct Resolver {
    wanted: watch::Sender<Calls>,
    /// Aborted with us.
    _task: JoinSet<()>,
}

/// The calls to [`Resolver::watch`] so far: how many, and what they want.
#[derive(Debug, Default)]
struct Calls {
    count: u64,
    wanted: Wanted,
}

impl Resolver {
    /// Starts with no address watched. Changes go to `changes` in batches, each with at most one
    /// change for an address; when its receiver is gone the resolver stops. Needs `CAP_NET_ADMIN`
    /// to keep neighbours alive; without it that part fails with a warning.
    ///
    /// Asks the kernel of the calling thread's network namespace. To be called inside a tokio
    /// runtime with I/O and time; panics outside of one.
    pub fn start(changes: mpsc::Sender<Vec<Change>>) -> Result<Self, Error> {
        let kernel = Kernel::open()?;
        let (wanted, calls) = watch::channel(Calls::default());
        let follower = Follower { table: Table::default(), calls, changes, warned: None };
        let mut task = JoinSet::new();
        task.spawn(follower.run(kernel));
        Ok(Self { wanted, _task: task })
    }

    /// Replaces the set of addresses to follow. The hops of addresses in both sets go on without
    /// being told again.
    pub fn watch(&self, set: BTreeSet<IpAddr>) {
        self.wanted.send_modify(|calls| {
            calls.count += 1;
            let before = std::mem::take(&mut calls.wanted);
            let since = |address: &IpAddr| before.get(address).copied().unwrap_or(calls.count);
            calls.wanted = set.into_iter().map(|address| (address, since(&address))).collect();
        });
    }
}

/// The task behind a [`Resolver`].
struct Follower {
    table: Table,
    calls: watch::Receiver<Calls>,
    changes: mpsc::Sender<Vec<Change>>,
    warned: Option<Instant>,
}

/// The resolver, or the receiver of its changes, is gone.
struct Stop;

impl Follower {
    async fn run(mut self, mut kernel: Kernel) {
        // Each turn of this loop has its own pair of sockets.
        loop {
            let Err(failure) = self.follow(&mut kernel).await else { return };
            self.warn(&failure);
            kernel = loop {
                tokio::time::sleep(RETRY).await;
                match Kernel::open() {
                    Ok(kernel) => break kernel,
                    Err(error) => self.warn(&error),
                }
            };
        }
    }

    /// Follows by these sockets until they fail, or until nobody wants to know any more.
    async fn follow(&mut self, kernel: &mut Kernel) -> Result<Stop, Failure> {
        kernel.hear_of_features().await?;
        let mut hints = Hints { everything: true, ..Hints::default() };
        let mut recheck = Instant::now();
        loop {
            let began = Instant::now();
            if began >= recheck {
                hints.everything = true;
                recheck = began + RECHECK;
            }
            self.round(kernel, &hints).await?;
            let rest = GATHER.max(began.elapsed() * REST);
            let batch = self.table.changes();
            if !batch.is_empty() && self.changes.send(batch).await.is_err() {
                return Ok(Stop);
            }
            if let Err(stop) = self.pause(kernel, rest, recheck).await {
                return Ok(stop);
            }
            hints = kernel.take_hints();
            if hints.closed {
                return Err(Failure::Closed("the next event"));
            }
        }
    }

    /// Asks for all that may have changed or is due.
    async fn round(&mut self, kernel: &Kernel, hints: &Hints) -> Result<(), Failure> {
        self.table.want(&self.calls.borrow_and_update().wanted);
        self.table.mark(hints);
        if hints.everything {
            self.table.links(kernel.links().await?);
            self.table.locals(kernel.locals().await?);
        }
        let mut routes = BTreeMap::new();
        for address in self.table.routes_to_ask() {
            routes.insert(address, kernel.route(address).await?);
        }
        let now = Instant::now();
        self.table.routes(&routes, now);
        for target in self.table.neighbours_to_ask(now) {
            self.table.neighbour(target, kernel.neighbour(target).await?, now);
        }
        for target in self.table.pokes(now) {
            match kernel.poke(target).await {
                Ok(()) => {}
                // The interface may have gone meanwhile; the next look tells.
                Err(failure @ Failure::Refused(..)) => self.warn(&failure),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Waits for a reason for another round, and at least so long that rounds stay rare.
    async fn pause(
        &mut self,
        kernel: &Kernel,
        rest: Duration,
        recheck: Instant,
    ) -> Result<(), Stop> {
        let due = self.table.next_due().unwrap_or(recheck).min(recheck);
        let due = due.max(Instant::now() + rest);
        tokio::select! {
            called = self.calls.changed() => called.map_err(|_| Stop),
            () = self.changes.closed() => Err(Stop),
            () = kernel.news() => {
                tokio::time::sleep(rest).await;
                Ok(())
            }
            () = tokio::time::sleep_until(due.into()) => Ok(()),
        }
    }

    fn warn(&mut self, what: &dyn std::fmt::Display) {
        let now = Instant::now();
        if self.warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!("next hops: {what}; packets without a next hop are left to the kernel");
        }
    }
}
