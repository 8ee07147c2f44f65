//! Scrapes of a node that is full: what they cost, and what others notice of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::http::get;
use crate::live::Live;

/// So many services with four backends each; a node has room for 512.
pub(crate) fn services(count: u32) -> String {
    let mut yaml = "services:\n".to_owned();
    for service in 0..count {
        let (high, low) = (service / 256, service % 256);
        let backends = |version: u8| {
            let one =
                |last| format!("{{ address: 10.6{high}.{low}.{}, port: 80 }}", version + last);
            format!("[{}, {}]", one(1), one(2))
        };
        writeln!(yaml, "  - name: s{service}").unwrap();
        writeln!(
            yaml,
            "    listeners: [{{ address: 10.5{high}.0.{low}, port: 80, protocol: tcp }}]"
        )
        .unwrap();
        writeln!(yaml, "    versions:").unwrap();
        writeln!(yaml, "      blue: {{ weight: 95%, backends: {} }}", backends(0)).unwrap();
        writeln!(yaml, "      canary: {{ weight: 5%, backends: {} }}", backends(10)).unwrap();
    }
    yaml
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_of_a_full_node_disturbs_nobody() {
    let node = Live::start(&[("lo", true)]);
    node.apply(&services(512)).await;
    // Somebody else, who wants an answer all the time.
    let other = tokio::spawn({
        let node = node.node.clone();
        async move {
            let mut longest = Duration::ZERO;
            for _ in 0..200 {
                let start = Instant::now();
                node.status().await.unwrap();
                longest = longest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        }
    });
    // Many scrapes at the same time, of which one looks.
    let start = Instant::now();
    let scrapes: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let at = node.address;
                async move { get(at, "/metrics").await }
            })
        })
        .collect();
    let mut looks = BTreeSet::new();
    let mut size = 0;
    for scrape in scrapes {
        let answer = scrape.await.unwrap();
        assert_eq!(answer.status, 200);
        size = answer.body.len();
        let took =
            answer.body.lines().find_map(|line| line.strip_prefix("weir_collection_seconds "));
        looks.insert(took.unwrap().to_owned());
    }
    let all = start.elapsed();
    let longest = other.await.unwrap();
    println!(
        "512 services: 20 scrapes of {size} bytes in {all:?}, of one look that took {looks:?} s; \
         the longest that another waited: {longest:?}"
    );
    assert_eq!(looks.len(), 1, "one look serves all: {looks:?}");
    assert!(size < 16 << 20, "{size}");
    assert!(longest < Duration::from_secs(2), "another waited for {longest:?}");
}
