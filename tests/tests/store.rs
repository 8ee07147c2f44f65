//! The state on disk: a damaged file is found and the state before is used, and a full disk refuses
//! changes while connections go on.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use weir_tests::agent::{binary, pins, socket};
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), HTTP_PORT)
}

/// The weights asked for, with which the tables agree, and the service's generation.
fn held(node: &mut Node) -> (u64, [u32; 3]) {
    let status = node.status("web").unwrap();
    let mut asked = [0; 3];
    for (asked, (_, version)) in asked.iter_mut().zip(status.versions.iter()) {
        *asked = version.asked.bp();
        let exact = f64::from(16_384_u32) * f64::from(*asked) / 10_000.0;
        assert!((f64::from(version.table.slots) - exact).abs() <= 1.0);
    }
    (status.generation, asked)
}

fn connect(lab: &Lab) {
    let plan = FreshPlan::new(target(), lab.client_addresses(Family::V4)).count(200);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    assert_eq!(counts.answered(), 200, "{counts}");
}

fn node() -> Node {
    let mut node = Node::start(LabBuilder::new().clients(50), Mode::Tc, &[]).unwrap();
    let service = node.lab().service("web", target(), Protocol::Tcp);
    node.apply(&[service]).unwrap();
    for canary in [1_000, 2_000] {
        node.shift(&["web"], [10_000 - canary, 0, canary]).unwrap();
    }
    node
}

fn state(lab: &Lab) -> PathBuf {
    lab.directory().join("state/state.json")
}

/// Damages a file in the middle: one bit of one byte.
fn damage(path: &Path) {
    let mut text = fs::read(path).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 4;
    fs::write(path, text).unwrap();
}

#[test]
fn a_damaged_state_is_found_and_the_state_before_is_used() {
    let mut node = node();
    let before = held(&mut node);
    assert_eq!(before, (3, [8_000, 0, 2_000]));
    node.take_agent().unwrap().kill().unwrap();
    let path = state(node.lab());
    damage(&path);
    let damaged = fs::read(&path).unwrap();
    // What the tables still say is led to what is stored, without breaking anything.
    connect(node.lab());
    node.restart().unwrap();
    assert_eq!(held(&mut node), (2, [9_000, 0, 1_000]));
    let warnings = node.node_status().unwrap().warnings;
    let said = warnings.iter().find(|text| text.contains("state.json was damaged")).unwrap();
    let aside = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.into_iter().find(|path| path.to_string_lossy().contains("corrupt-")).unwrap();
    assert!(said.contains(aside.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(aside).unwrap(), damaged);
    connect(node.lab());
    node.shift(&["web"], [7_000, 0, 3_000]).unwrap();

    // Both: the agent says so, and changes nothing.
    node.take_agent().unwrap().kill().unwrap();
    let previous = path.with_extension("json.prev");
    for path in [&path, &previous] {
        damage(path);
    }
    let there = [fs::read(&path).unwrap(), fs::read(&previous).unwrap()];
    let mut command = node.lab().lb().command(binary().unwrap());
    command.arg("--socket").arg(socket(node.lab())).args(["agent", "--interface", "cli0:tc"]);
    command.arg("--state-dir").arg(path.parent().unwrap()).arg("--bpffs").arg(pins(node.lab()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("state.json is not a state of weir: its checksum is wrong"), "{said}");
    assert!(said.contains("move both away to start empty"), "{said}");
    assert_eq!([fs::read(&path).unwrap(), fs::read(&previous).unwrap()], there);
    connect(node.lab());
}

/// A small file system of its own, over a directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        mount(Some("weir-test"), &at, Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap();
        Self(at)
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever still looks at it must not keep the lab from being removed.
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_refuses_changes_and_connections_go_on() {
    let mut node = node();
    // The next agent's state is on the small disk.
    node.take_agent().unwrap().stop().unwrap();
    let disk = SmallDisk::mount(node.lab().directory().join("small"));
    fs::copy(state(node.lab()), disk.0.join("state.json")).unwrap();
    let options = node.options().clone().state_dir(&disk.0);
    node.restart_with(options).unwrap();
    node.shift(&["web"], [7_000, 0, 3_000]).unwrap();
    let before = held(&mut node);
    assert_eq!(before, (4, [7_000, 0, 3_000]));

    let plan = FreshPlan::new(target(), node.lab().client_addresses(Family::V4)).rate(200);
    let fresh = Fresh::start(node.lab().clients(), plan).unwrap();
    disk.fill();
    for _ in 0..3 {
        let error = node.shift(&["web"], [5_000, 0, 5_000]).unwrap_err().to_string();
        assert!(
            error.contains("No space left") && error.contains("nothing was changed"),
            "{error}"
        );
        assert_eq!(held(&mut node), before);
    }
    let warnings = node.node_status().unwrap().warnings;
    assert!(warnings.iter().any(|text| text.contains("could not be stored")), "{warnings:?}");
    std::thread::sleep(Duration::from_millis(500));
    // An agent that comes now finds the state that holds.
    node.take_agent().unwrap().kill().unwrap();
    node.restart().unwrap();
    assert_eq!(held(&mut node), before);
    node.shift(&["web"], [5_000, 0, 5_000]).unwrap_err();
    disk.make_room();

    node.shift(&["web"], [5_000, 0, 5_000]).unwrap();
    assert_eq!(held(&mut node), (5, [5_000, 0, 5_000]));
    let warnings = node.node_status().unwrap().warnings;
    assert!(!warnings.iter().any(|text| text.contains("stored")), "{warnings:?}");
    fresh.stop().unwrap().check().unwrap();
    node.take_agent().unwrap().stop().unwrap();
}
