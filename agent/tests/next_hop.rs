//! Next hops against the real kernel, in network namespaces that each test makes for itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tokio::sync::mpsc;
use weir::dataplane::next_hop::{
    Change, Device, DeviceKind, Mac, NextHop, Resolver, own_addresses,
};

/// How long the kernel and the resolver may take for anything here.
const PATIENCE: Duration = Duration::from_secs(15);

/// Two namespaces, `node` and `peer`, joined by the veth pairs v0 and v1. Network k is
/// 10.0.k.0/24 and `fd00:k::/64`; the node is .1, the peer .2.
struct Net {
    node: String,
    peer: String,
}

impl Net {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        assert!(root, "needs root, to make network namespaces: run it with sudo");
        let name = format!("weir-{}-nh{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let net = Self { node: format!("{name}-node"), peer: format!("{name}-peer") };
        ip(&["netns", "add", &net.node]);
        ip(&["netns", "add", &net.peer]);
        for k in ["0", "1"] {
            let veth = format!("v{k}");
            let pair = format!("type veth peer name {veth} netns {}", net.peer);
            net.node(&format!("link add {veth} {pair}"));
            for (namespace, host) in [(&net.node, 1), (&net.peer, 2)] {
                let run = |words: &str| ip_in(namespace, words);
                // A link-local address, needed for ND, that is there at once: the kernel's own
                // comes seconds later, and would be an event of its own.
                run(&format!("link set {veth} addrgenmode none"));
                run(&format!("address add fe80::{host}/64 dev {veth} nodad"));
                run(&format!("address add 10.0.{k}.{host}/24 dev {veth}"));
                run(&format!("address add fd00:{k}::{host}/64 dev {veth} nodad"));
                run(&format!("link set {veth} up"));
            }
        }
        net
    }

    fn node(&self, words: &str) {
        ip_in(&self.node, words);
    }

    fn peer(&self, words: &str) {
        ip_in(&self.peer, words);
    }

    /// The hop by which the node reaches the peer over network `k`.
    fn hop(&self, k: u32) -> NextHop {
        let (interface, interface_mac) = link(&self.node, k);
        NextHop { mtu: 1500, ..NextHop::plain(interface, interface_mac, link(&self.peer, k).1) }
    }

    /// Runs `test` in the node's namespace, on a thread of its own.
    fn run(&self, test: impl AsyncFnOnce(&Self, Hops) + Send) {
        let inside = || {
            let namespace = File::open(format!("/run/netns/{}", self.node)).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { test(self, Hops::start()).await });
        };
        let outcome = thread::scope(|scope| scope.spawn(inside).join());
        outcome.unwrap_or_else(|cause| panic::resume_unwind(cause));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {complaint}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

fn ip_in(namespace: &str, words: &str) -> String {
    let arguments: Vec<&str> = ["-n", namespace].into_iter().chain(words.split(' ')).collect();
    ip(&arguments)
}

/// Index and MAC of `v{k}`: `7: v0@if7: <FLAGS> … link/ether 02:… brd …` on one line.
fn link(namespace: &str, k: u32) -> (u32, Mac) {
    let line = ip_in(namespace, &format!("-o link show v{k}"));
    let index = line.split(':').next().unwrap().parse().unwrap();
    let mut words = line.split_whitespace().skip_while(|word| *word != "link/ether");
    (index, mac(words.nth(1).unwrap()))
}

fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A resolver and all that it has told.
struct Hops {
    resolver: Resolver,
    changes: mpsc::Receiver<Vec<Change>>,
    known: BTreeMap<IpAddr, Option<NextHop>>,
    locals: Option<BTreeSet<IpAddr>>,
    devices: BTreeMap<u32, Device>,
    told: usize,
}

impl Hops {
    fn start() -> Self {
        let (sender, changes) = mpsc::channel(1);
        let resolver = Resolver::start(sender).unwrap();
        let (known, devices) = (BTreeMap::new(), BTreeMap::new());
        Self { resolver, changes, known, locals: None, devices, told: 0 }
    }

    fn watch(&self, texts: &[&str]) {
        self.resolver.watch(addresses(texts));
    }

    async fn hear(&mut self, until: Instant) -> bool {
        let Ok(batch) = tokio::time::timeout_at(until.into(), self.changes.recv()).await else {
            return false;
        };
        for change in batch.expect("the resolver runs") {
            match change {
                Change::Hop(address, hop) => {
                    self.known.insert(address, hop);
                    self.told += 1;
                }
                Change::Locals(locals) => self.locals = Some(locals),
                Change::Devices(devices) => self.devices = devices,
            }
        }
        true
    }

    /// Waits until the hop told of an address is this one.
    async fn expect(&mut self, address: &str, hop: Option<NextHop>) {
        let address: IpAddr = address.parse().unwrap();
        let until = Instant::now() + PATIENCE;
        while self.known.get(&address) != Some(&hop) {
            let heard = self.hear(until).await;
            assert!(heard, "{address}: wanted {hop:?}, last told {:?}", self.known.get(&address));
        }
    }

    /// Waits until this is told of an interface, by its name.
    async fn expect_redirect(&mut self, name: &str, wanted: Option<bool>) {
        let until = Instant::now() + PATIENCE;
        let told = |devices: &BTreeMap<u32, Device>| {
            devices.values().find(|device| device.name == name).map(|device| device.redirect)
        };
        while told(&self.devices) != Some(wanted) {
            assert!(self.hear(until).await, "{name}: wanted {wanted:?}, told {:?}", self.devices);
        }
    }

    /// Listens for this long, whatever comes.
    async fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.hear(until).await {}
    }
}

#[test]
fn neighbours_and_gateways_of_both_families_are_resolved() {
    let net = Net::new();
    net.node("route add 192.0.2.0/24 via 10.0.0.2");
    net.node("route add 198.51.100.0/24 via inet6 fd00:1::2");
    net.node("-6 route add 2001:db8::/32 via fd00:1::2");
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2", "192.0.2.7", "198.51.100.7", "fd00:0::2", "2001:db8::7"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        hops.expect("192.0.2.7", Some(net.hop(0))).await;
        hops.expect("198.51.100.7", Some(net.hop(1))).await;
        hops.expect("fd00:0::2", Some(net.hop(0))).await;
        hops.expect("2001:db8::7", Some(net.hop(1))).await;
    });
}

#[test]
fn a_changed_mac_is_followed() {
    let net = Net::new();
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2", "fd00:0::2"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        hops.expect("fd00:0::2", Some(net.hop(0))).await;

        let forced = Some(NextHop { mac: mac("02:00:00:00:00:aa"), ..net.hop(0) });
        for address in ["10.0.0.2", "fd00:0::2"] {
            let entry = format!("{address} lladdr 02:00:00:00:00:aa dev v0 nud permanent");
            net.node(&format!("neigh replace {entry}"));
            hops.expect(address, forced).await;
        }

        // Gone, so asked for anew; and the peer answers with the address it has by now.
        net.peer("link set v0 address 02:00:00:00:00:bb");
        net.node("neigh flush dev v0 nud permanent");
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        hops.expect("fd00:0::2", Some(net.hop(0))).await;
        assert_eq!(net.hop(0).mac, mac("02:00:00:00:00:bb"));
        assert!(hops.known.values().all(|hop| hop == &Some(net.hop(0))));

        net.node("link set v0 address 02:00:00:00:00:cc");
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        assert_eq!(net.hop(0).interface_mac, mac("02:00:00:00:00:cc"));
    });
}

#[test]
fn a_stale_neighbour_is_verified_by_the_kernel() {
    let net = Net::new();
    // Wrong, so that verifying it shows.
    net.node("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:aa dev v0 nud stale");
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2"]);
        let wrong = NextHop { mac: mac("02:00:00:00:00:aa"), ..net.hop(0) };
        hops.expect("10.0.0.2", Some(wrong)).await;
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
    });
}

#[test]
fn a_changed_route_is_followed() {
    let net = Net::new();
    net.node("route add 192.0.2.0/24 via 10.0.0.2");
    net.run(async |net, mut hops| {
        hops.watch(&["192.0.2.7"]);
        hops.expect("192.0.2.7", Some(net.hop(0))).await;
        net.node("route replace 192.0.2.0/24 via 10.0.1.2");
        hops.expect("192.0.2.7", Some(net.hop(1))).await;
        net.node("route add 192.0.2.7 via 10.0.0.2");
        hops.expect("192.0.2.7", Some(net.hop(0))).await;
        net.node("route replace blackhole 192.0.2.7");
        hops.expect("192.0.2.7", None).await;
        net.node("route del blackhole 192.0.2.7");
        hops.expect("192.0.2.7", Some(net.hop(1))).await;
        net.node("rule add to 192.0.2.7 unreachable");
        hops.expect("192.0.2.7", None).await;
    });
}

#[test]
fn an_interface_that_goes_down_and_comes_back_is_followed() {
    let net = Net::new();
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2", "10.0.1.2"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        hops.expect("10.0.1.2", Some(net.hop(1))).await;
        net.node("link set v0 down");
        hops.expect("10.0.0.2", None).await;
        net.node("link set v0 up");
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        net.peer("link set v0 down");
        hops.expect("10.0.0.2", None).await;
        net.peer("link set v0 up");
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        net.node("link del v0");
        hops.expect("10.0.0.2", None).await;
        assert_eq!(hops.known[&"10.0.1.2".parse().unwrap()], Some(net.hop(1)));
    });
}

#[test]
fn a_changed_mtu_of_an_interface_or_of_a_route_is_followed() {
    let net = Net::new();
    net.node("route add 192.0.2.0/24 via 10.0.0.2 mtu 1400");
    net.node("-6 route add 2001:db8::/32 via fd00:1::2 mtu 1400");
    net.run(async |net, mut hops| {
        let sized = |k, mtu| Some(NextHop { mtu, ..net.hop(k) });
        hops.watch(&["10.0.0.2", "192.0.2.7", "2001:db8::7"]);
        hops.expect("10.0.0.2", sized(0, 1500)).await;
        hops.expect("192.0.2.7", sized(0, 1400)).await;
        hops.expect("2001:db8::7", sized(1, 1400)).await;

        net.node("link set v0 mtu 9000");
        hops.expect("10.0.0.2", sized(0, 9000)).await;
        net.node("link set v0 mtu 1300");
        hops.expect("10.0.0.2", sized(0, 1300)).await;
        hops.expect("192.0.2.7", sized(0, 1300)).await;
        net.node("link set v0 mtu 1500");
        hops.expect("192.0.2.7", sized(0, 1400)).await;

        net.node("route replace 192.0.2.0/24 via 10.0.0.2");
        hops.expect("192.0.2.7", sized(0, 1500)).await;
        net.node("-6 route replace 2001:db8::/32 via fd00:1::2 mtu 1380");
        hops.expect("2001:db8::7", sized(1, 1380)).await;
    });
}

#[test]
#[ignore = "needs a kernel with VLAN devices: cargo xtask vm"]
fn the_tags_of_vlan_devices_are_followed() {
    let net = Net::new();
    for (namespace, host) in [(&net.node, 1), (&net.peer, 2)] {
        let run = |words: &str| ip_in(namespace, words);
        run("link add link v0 name v0.7 type vlan id 7");
        run("link add link v1 name v1.8 type vlan proto 802.1ad id 8");
        run("link add link v1.8 name v1.8.9 type vlan id 9");
        for (k, vlan) in [(7, "v0.7"), (9, "v1.8.9")] {
            run(&format!("address add 10.1.{k}.{host}/24 dev {vlan}"));
        }
        for vlan in ["v0.7", "v1.8", "v1.8.9"] {
            run(&format!("link set {vlan} up"));
        }
    }
    let index = |name: &str| {
        let line = ip_in(&net.node, &format!("-o link show {name}"));
        line.split(':').next().unwrap().parse::<u32>().unwrap()
    };
    let tag = |protocol: u16, id: u16| {
        let ([a, b], [c, d]) = (protocol.to_be_bytes(), id.to_be_bytes());
        u32::from_ne_bytes([a, b, c, d])
    };
    let (one, two) = (index("v0.7"), index("v1.8.9"));
    net.run(async |net, mut hops| {
        hops.watch(&["10.1.7.2", "10.1.9.2"]);
        let tags = [tag(0x8100, 7), 0];
        let hop = NextHop { interface: one, tags, ..net.hop(0) };
        hops.expect("10.1.7.2", Some(hop)).await;
        let tags = [tag(0x88a8, 8), tag(0x8100, 9)];
        // Four bytes less: the kernel counts the inner tag, and not the outer one.
        let hop = NextHop { interface: two, tags, ..net.hop(1) };
        hops.expect("10.1.9.2", Some(NextHop { mtu: mtu_of(net, "v1.8.9"), ..hop })).await;

        for namespace in [&net.node, &net.peer] {
            ip_in(namespace, "link del v0.7");
            ip_in(namespace, "link add link v0 name v0.7 type vlan id 77");
            ip_in(namespace, "link set v0.7 up");
        }
        net.peer("address add 10.1.7.2/24 dev v0.7");
        net.node("address add 10.1.7.1/24 dev v0.7");
        let until = Instant::now() + PATIENCE;
        let address: IpAddr = "10.1.7.2".parse().unwrap();
        let tags = [tag(0x8100, 77), 0];
        while hops.known.get(&address).copied().flatten().is_none_or(|hop| hop.tags != tags) {
            assert!(hops.hear(until).await, "told {:?}", hops.known);
        }
    });
}

fn mtu_of(net: &Net, name: &str) -> u32 {
    let line = ip_in(&net.node, &format!("-o link show {name}"));
    line.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap().parse().unwrap()
}

#[test]
fn which_interfaces_take_redirected_frames_is_followed() {
    let net = Net::new();
    net.node("link add br0 type bridge");
    net.run(async |net, mut hops| {
        hops.expect_redirect("v0", Some(false)).await;
        hops.expect_redirect("br0", Some(false)).await;
        let kinds = |hops: &Hops| -> Vec<(String, DeviceKind)> {
            let devices = hops.devices.values();
            let mut kinds: Vec<_> = devices.map(|d| (d.name.clone(), d.kind)).collect();
            kinds.retain(|(name, _)| ["v0", "br0"].contains(&name.as_str()));
            kinds.sort_by(|a, b| a.0.cmp(&b.0));
            kinds
        };
        let (bridge, veth) = (DeviceKind::Other, DeviceKind::Veth);
        assert_eq!(kinds(&hops), [("br0".to_owned(), bridge), ("v0".to_owned(), veth)]);

        // It is the peer that makes the difference, and its namespace hears of the change.
        gro(net, "v0", "on");
        hops.expect_redirect("v0", Some(true)).await;
        hops.expect_redirect("v1", Some(false)).await;
        gro(net, "v0", "off");
        hops.expect_redirect("v0", Some(false)).await;
    });
}

/// Switches GRO of the peer's end.
fn gro(net: &Net, interface: &str, state: &str) {
    let words = ["netns", "exec", &net.peer, "ethtool", "-K", interface, "gro", state];
    ip(&words);
}

#[test]
fn the_addresses_that_others_can_send_to_are_read() {
    let net = Net::new();
    net.node("address add 10.0.0.50/32 dev v1");
    net.run(async |net, _| {
        let own = own_addresses().await.unwrap();
        let own: BTreeSet<(u32, String)> = own
            .iter()
            .map(|own| (own.interface, format!("{}/{}", own.address, own.prefix)))
            .collect();
        let (v0, v1) = (link(&net.node, 0).0, link(&net.node, 1).0);
        let wanted = [
            (v0, "10.0.0.1/24"),
            (v0, "fd00::1/64"),
            (v1, "10.0.1.1/24"),
            (v1, "10.0.0.50/32"),
            (v1, "fd00:1::1/64"),
        ];
        assert_eq!(own, wanted.map(|(index, text)| (index, text.to_owned())).into());
    });
}

#[test]
fn what_cannot_be_reached_stays_unresolved_without_hurry() {
    let net = Net::new();
    // 10.0.0.99: nobody answers. 203.0.113.1: no route. 10.0.0.1 and 127.0.0.1: the node itself.
    let unreachable = ["10.0.0.99", "203.0.113.1", "10.0.0.1", "127.0.0.1", "fd00:9::9"];
    net.run(async |net, mut hops| {
        hops.watch(&unreachable);
        for address in unreachable {
            hops.expect(address, None).await;
        }
        let (worked, sent) = (time_on_cpu(), frames_sent("v0"));
        hops.listen(Duration::from_secs(5)).await;
        let worked = time_on_cpu().saturating_sub(worked);
        let sent = frames_sent("v0") - sent;
        assert_eq!(hops.told, unreachable.len(), "each is told once");
        assert!(worked < Duration::from_millis(250), "busy for {worked:?} of 5 s");
        // Three ARP requests for each of at most three pokes, and what IPv6 says by itself.
        assert!(sent < 20, "{sent} frames in 5 s");

        net.peer("address add 10.0.0.99/24 dev v0");
        hops.expect("10.0.0.99", Some(net.hop(0))).await;
    });
}

/// Processor time of this thread, from the first field of its schedstat, in nanoseconds.
fn time_on_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Frames sent on an interface of this thread's namespace: the tenth counter in `net/dev`.
fn frames_sent(interface: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:")));
    line.unwrap().split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn the_nodes_own_addresses_are_told() {
    let net = Net::new();
    net.run(async |net, mut hops| {
        let ours = addresses(&["10.0.0.1", "10.0.1.1", "fd00:0::1", "fd00:1::1"]);
        let has = |locals: &Option<BTreeSet<IpAddr>>, address: &str| {
            locals.as_ref().is_some_and(|locals| locals.contains(&address.parse().unwrap()))
        };
        let until = Instant::now() + PATIENCE;
        while hops.locals.as_ref().is_none_or(|locals| !locals.is_superset(&ours)) {
            assert!(hops.hear(until).await, "told {:?}", hops.locals);
        }
        assert!(!has(&hops.locals, "10.0.0.2"), "the peer's is not ours");
        net.node("address add 10.0.0.50/32 dev v0");
        while !has(&hops.locals, "10.0.0.50") {
            assert!(hops.hear(until).await, "told {:?}", hops.locals);
        }
        net.node("address del 10.0.0.50/32 dev v0");
        while has(&hops.locals, "10.0.0.50") {
            assert!(hops.hear(until).await, "told {:?}", hops.locals);
        }
    });
}

#[test]
fn an_address_watched_again_is_told_again() {
    let net = Net::new();
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        let told = hops.told;
        hops.watch(&["10.0.0.2", "10.0.1.2"]);
        hops.expect("10.0.1.2", Some(net.hop(1))).await;
        hops.known.clear();
        // Both calls come before the resolver can look.
        hops.watch(&[]);
        hops.watch(&["10.0.0.2"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        assert!(hops.told > told);
        hops.watch(&[]);
        hops.listen(Duration::from_millis(200)).await;
        let told = hops.told;
        net.node("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:aa dev v0 nud permanent");
        hops.listen(Duration::from_millis(500)).await;
        assert_eq!(hops.told, told, "nothing is told of what nobody watches");
    });
}

#[test]
fn lost_events_lead_to_a_new_look() {
    let net = Net::new();
    net.run(async |net, mut hops| {
        hops.watch(&["10.0.0.2"]);
        hops.expect("10.0.0.2", Some(net.hop(0))).await;
        hops.listen(Duration::from_millis(500)).await;

        // The resolver shares this thread, so it reads no event until the batch is done. Events
        // about strangers fill the socket; the one about the neighbour of interest is lost.
        let mut batch = String::new();
        for host in 0..4000 {
            let stranger = format!("10.0.1.{}", 10 + host % 200);
            let state = if host / 200 % 2 == 0 { "permanent" } else { "noarp" };
            let mac = format!("02:00:00:00:01:{:02x}", host % 256);
            writeln!(batch, "neigh replace {stranger} lladdr {mac} dev v1 nud {state}").unwrap();
        }
        batch += "neigh replace 10.0.0.2 lladdr 02:00:00:00:00:aa dev v0 nud permanent\n";
        let mut command = Command::new("ip")
            .args(["-n", &net.node, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        command.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(command.wait().unwrap().success());
        assert!(events_lost() > 0, "the batch was too small to lose an event");
        let forced = NextHop { mac: mac("02:00:00:00:00:aa"), ..net.hop(0) };
        hops.expect("10.0.0.2", Some(forced)).await;
    });
}

/// Messages dropped for a full buffer, over the netlink sockets of this thread's namespace.
fn events_lost() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let drops = text.lines().skip(1).map(|line| line.split_whitespace().nth(8).unwrap());
    drops.map(|count| count.parse::<u64>().unwrap()).sum()
}
