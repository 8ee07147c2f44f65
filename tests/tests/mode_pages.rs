//! The pages of the documentation about forwarding modes hold: their commands and specs are run as
//! they are written, and files then arrive bit for bit.
//!
//! The lab's addresses are those of the pages.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use weir::model::SpecFile;
use weir_tests::identity::Version;
use weir_tests::lab::addresses::Family;
use weir_tests::lab::{LabBuilder, Namespace};
use weir_tests::load::transfer::{download, upload};
use weir_tests::node::{Mode, Node};

const LENGTHS: [usize; 3] = [1, 10_000, 5_000_000];
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_page_about_nat_holds() {
    holds(include_str!("../../docs/forwarding/nat.md"));
}

#[test]
fn the_page_about_dsr_l2_holds() {
    holds(include_str!("../../docs/forwarding/dsr-l2.md"));
}

#[test]
#[ignore = "needs kernel tunnel devices: cargo xtask vm"]
fn the_page_about_dsr_ipip_holds() {
    holds(include_str!("../../docs/forwarding/dsr-ipip.md"));
}

#[test]
#[ignore = "needs kernel tunnel devices: cargo xtask vm"]
fn the_page_about_dsr_gue_holds() {
    holds(include_str!("../../docs/forwarding/dsr-gue.md"));
}

fn holds(page: &str) {
    let lab = LabBuilder::new().clients(10).backends(1);
    let mut node = Node::start(lab, Mode::Tc, &[]).unwrap();
    for script in blocks(page, "sh balancer") {
        run(node.lab().lb(), &script);
    }
    for script in blocks(page, "sh backend") {
        run(node.lab().version(Version::Blue), &script);
    }
    let specs = blocks(page, "yaml");
    assert_eq!(specs.len(), 1, "a page has one spec");
    node.apply_text(&specs[0]).unwrap();
    let services = SpecFile::parse(&specs[0]).unwrap().services;
    let listeners = services.iter().flat_map(|service| &service.listeners);
    let targets: Vec<SocketAddr> = listeners
        .map(|listener| {
            SocketAddr::new(listener.address.parse().unwrap(), listener.port.try_into().unwrap())
        })
        .collect();
    if !specs[0].contains("forwarding: nat") {
        let addresses: Vec<_> = targets.iter().map(SocketAddr::ip).collect();
        node.lab_mut().serve_on(Version::Blue, &addresses).unwrap();
    }
    for target in targets {
        let client = SocketAddr::new(node.lab().client_addresses(Family::of(target.ip()))[0], 0);
        let transfers = node.lab().clients().run(move || async move {
            for length in LENGTHS {
                upload(client, target, length, LIMIT).await?;
                download(client, target, length, LIMIT).await?;
            }
            anyhow::Ok(())
        });
        transfers.unwrap().unwrap();
        println!("files to and from {target} arrive");
    }
}

/// What stands between the fences of code blocks that say `info`.
fn blocks(page: &str, info: &str) -> Vec<String> {
    let begin = format!("```{info}\n");
    let after = page.split(begin.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs a script as a person would paste it, and stops at the first command that fails.
fn run(namespace: &Namespace, script: &str) {
    namespace.exec("sh", &["-eux", "-c", script]).unwrap();
}
