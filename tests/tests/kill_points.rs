//! The agent is killed at every step of a change and of the end of a transition, and once more at
//! the same step of the next agent's start. The one after that comes up with the state from before
//! or with the new one, entirely; the change, made once more, converges; and no connection breaks.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weir::fault::Point;
use weir::node::messages::Traffic;
use weir_tests::agent::faulty_binary;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};

const CONNECTIONS: u32 = 100;
const SLOTS: u32 = 16_384;
/// Steps of rounds, which begin every five seconds.
const BY_ITSELF: Duration = Duration::from_secs(40);

/// The ends of transitions, which come by themselves.
const LATER: [Point; 3] = [Point::Settled, Point::Untracked, Point::Released];

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// Both services, by weights, with one backend of canary's or with all.
fn services(lab: &Lab, weights: [u16; 3], all: bool) -> [ServiceSpec; 2] {
    [("echo", ECHO_PORT), ("web", HTTP_PORT)].map(|(name, port)| {
        let mut service = lab.service(name, target(port), Protocol::Tcp).weights(weights);
        service.backends[2].truncate(if all { usize::MAX } else { 1 });
        service
    })
}

/// What an agent says of both services, all of which belongs together: the spec, its generation,
/// the digest, and the slots read back, which are by the weights asked for.
fn held(node: &mut Node) -> Vec<(String, u64, String, [u32; 3])> {
    let of = |service| {
        let status = node.status(service).unwrap();
        let mut slots = [0; 3];
        for (slots, (_, version)) in slots.iter_mut().zip(status.versions.iter()) {
            *slots = version.table.slots;
            let exact = f64::from(SLOTS) * f64::from(version.asked.bp()) / 10_000.0;
            assert!((f64::from(*slots) - exact).abs() <= 1.0, "{service}: {slots} of {exact}");
        }
        (format!("{:?}", status.spec), status.generation, status.digest, slots)
    };
    ["echo", "web"].map(of).into()
}

/// The file by which an agent is told where to end.
struct Trigger(PathBuf);

impl Trigger {
    fn arm(&self, point: Point) {
        // As a whole: the agent may look at any time.
        let new = self.0.with_extension("new");
        fs::write(&new, point.name()).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    fn disarm(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// A node with connections that stay, and new ones all the time.
struct Scene {
    node: Node,
    trigger: Trigger,
    long: LongLived,
    fresh: Fresh,
    counted: Traffic,
}

impl Scene {
    fn start(mode: Mode) -> Self {
        let arguments = ["--drain-idle=3", "--on-exit=keep"];
        let mut node = Node::start(LabBuilder::new(), mode, &arguments).unwrap();
        let trigger = Trigger(node.lab().directory().join("fault"));
        assert!(node.take_agent().unwrap().stop().unwrap().success());
        let options = node.options().clone().binary(&faulty_binary().unwrap());
        let options = options.environment("WEIR_FAULT", trigger.0.to_str().unwrap());
        node.restart_with(options).unwrap();
        let all = services(node.lab(), [5_000, 0, 5_000], true);
        node.apply(&all).unwrap();
        let clients: Vec<IpAddr> = node.lab().client_addresses(Family::V4);
        let plan = LongLivedPlan::new(target(ECHO_PORT), clients.clone(), CONNECTIONS)
            .talking(CONNECTIONS, Duration::from_millis(400));
        let long = LongLived::open(node.lab().clients(), plan).unwrap();
        let plan = FreshPlan::new(target(HTTP_PORT), clients).rate(100);
        let fresh = Fresh::start(node.lab().clients(), plan).unwrap();
        Self { node, trigger, long, fresh, counted: Traffic::default() }
    }

    /// The agent, which was armed, has killed itself; so does the next one, if it comes that far;
    /// and the one after that is not told to.
    fn dies(&mut self, point: Point, limit: Duration) {
        let status = self.node.take_agent().unwrap().ends(limit).unwrap();
        assert_eq!(status.signal(), Some(9), "{}: {status}", point.name());
        if !LATER.contains(&point) && point != Point::Stored {
            let again = self.node.restart();
            assert!(again.is_err(), "the start does not come by {}", point.name());
        }
        self.trigger.disarm();
        self.node.restart().unwrap();
    }

    /// Connections go on, and no version's count has gone back.
    fn is_well(&mut self) {
        self.long.state().check().unwrap();
        let counted = self.node.total("web").unwrap();
        assert!(counted.connections >= self.counted.connections, "{counted:?} {:?}", self.counted);
        self.counted = counted;
    }
}

#[test]
fn an_agent_killed_at_any_step_leaves_one_of_two_states_in_tc() {
    killed_at_any_step(Mode::Tc);
}

#[test]
fn an_agent_killed_at_any_step_leaves_one_of_two_states_in_native_xdp() {
    killed_at_any_step(Mode::Xdp);
}

fn killed_at_any_step(mode: Mode) {
    let mut scene = Scene::start(mode);
    let (mut old, mut new) = (0, 0);
    let at_once = Point::ALL
        .iter()
        .filter(|point| !LATER.contains(point) && !Point::COORDINATOR.contains(point));
    for (round, point) in (0_u16..).zip(at_once) {
        // Other weights each time, and a backend that comes or goes.
        let canary = 1_000 + round * 500;
        let wanted =
            services(scene.node.lab(), [10_000 - canary, 0, canary], !round.is_multiple_of(2));
        let before = held(&mut scene.node);
        scene.trigger.arm(*point);
        scene.node.apply(&wanted).unwrap_err();
        scene.dies(*point, Duration::from_secs(5));
        let after = held(&mut scene.node);
        scene.is_well();

        scene.node.apply(&wanted).unwrap();
        let converged = held(&mut scene.node);
        assert_ne!(converged, before);
        let is_new = after == converged;
        assert!(
            is_new || after == before,
            "{}: {after:?} is neither {before:?} nor {converged:?}",
            point.name()
        );
        *(if is_new { &mut new } else { &mut old }) += 1;
        println!("{mode:?}: killed at {}: {}", point.name(), if is_new { "new" } else { "old" });
        scene.is_well();
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new");

    // All of these come one after the other, once a backend has gone.
    for (round, point) in (0_u16..).zip(LATER) {
        let canary = 1_000 + round * 1_000;
        let weights = [10_000 - canary, 0, canary];
        let all = services(scene.node.lab(), weights, true);
        scene.node.apply(&all).unwrap();
        let wanted = services(scene.node.lab(), weights, false);
        scene.node.apply(&wanted).unwrap();
        let before = held(&mut scene.node);
        scene.trigger.arm(point);
        let armed = Instant::now();
        scene.dies(point, BY_ITSELF);
        assert_eq!(held(&mut scene.node), before, "{}", point.name());
        scene.is_well();
        println!("{mode:?}: killed at {} after {:?}", point.name(), armed.elapsed());
    }
    scene.fresh.stop().unwrap().check().unwrap();
    scene.long.verify().check().unwrap();
}
