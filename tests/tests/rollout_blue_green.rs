//! Blue-green releases and presets, on three agents.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_tests::fleet::Release;
use weir_tests::fleet::release::{SERVICE, at, served, short, small_lab, unbroken};
use weir_tests::identity::Version::{Blue, Canary, Green};
use weir_tests::lab::addresses::{Family, vip};
use weir_tests::lab::spec::{Protocol, yaml};
use weir_tests::load::fresh::{Fresh, FreshPlan};

const LIMIT: Duration = Duration::from_secs(60);

fn spec_of(revision: &str, strategy: &str, bake: &str) -> String {
    format!(
        "\
kind: Rollout
service: web
revision: {revision}
strategy: {strategy}
analysis: {{ metrics: [connectSuccess, earlyReset], minSamples: 20 }}
bake: {bake}
drain: {{ idle: 1s, timeout: 2s }}
"
    )
}

/// Everything moves at once, and back at once; then for good. Nothing breaks on the way.
#[test]
fn green_gets_everything_and_gives_it_back_at_once() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(150).unwrap(), release.hold().unwrap());

    let blue_green = "{ blueGreen: { autoPromotion: never } }";
    let began = release.run(&spec_of("v2", blue_green, "5m")).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    assert_eq!(release.weights(Green).unwrap(), [0; 3], "it is not promoted yet");
    let promoted = Instant::now();
    release.coordinator.rollout(&["promote", SERVICE]).unwrap();
    release.coordinator.wait_for(SERVICE, "baking", LIMIT).unwrap();
    println!("promoted and verified on three agents in {:.1?}", promoted.elapsed());
    assert_eq!(release.weights(Green).unwrap(), [10_000; 3]);
    let during = release.long_lived(100).unwrap();
    assert_eq!(during[0].state().by_version(), [0, 100, 0]);

    let aborted = Instant::now();
    release.coordinator.rollout(&["abort", SERVICE]).unwrap();
    while release.weights(Blue).unwrap() != [10_000; 3] {
        assert!(aborted.elapsed() < Duration::from_secs(10));
    }
    println!("everything was back on three agents in {:.1?}", aborted.elapsed());
    release.ends("v2", "degraded", began, LIMIT).unwrap();

    let began =
        release.run(&spec_of("v3", "{ blueGreen: { autoPromotion: { after: 1s } } }", "1s"));
    release.ends("v3", "healthy", began.unwrap(), LIMIT).unwrap();
    assert_eq!(release.weights(Green).unwrap(), [10_000; 3]);
    let undone = Instant::now();
    release.coordinator.rollout(&["undo", SERVICE]).unwrap();
    while release.weights(Blue).unwrap() != [10_000; 3] {
        assert!(undone.elapsed() < Duration::from_secs(10));
    }
    println!("undone in {:.1?}", undone.elapsed());
    served(load).unwrap();
    unbroken(&long).unwrap();
    unbroken(&during).unwrap();
}

/// `CodeDeploy`'s presets, from start to healthy; a person ends their pauses, which are minutes.
#[test]
fn presets_come_to_their_end() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let load = release.load(150).unwrap();
    for preset in ["AllAtOnce", "Canary10Percent5Minutes", "Linear25PercentEvery1Minute"] {
        let began =
            release.run(&spec_of(preset, &format!("{{ preset: {preset} }}"), "1s")).unwrap();
        let mut weights = Vec::new();
        loop {
            let waits = |one: &serde_json::Value| {
                one["revision"] == preset
                    && (one["activity"] == "waiting" && one["phase"] == "progressing"
                        || one["phase"] == "healthy")
            };
            let rollout = release.coordinator.wait(SERVICE, LIMIT, waits).unwrap();
            if rollout["phase"] == "healthy" {
                break;
            }
            let now = release.weights(Canary).unwrap();
            if weights.last() != Some(&now) {
                weights.push(now);
            }
            let at = rollout["step"].clone();
            release.coordinator.rollout(&["promote", SERVICE]).unwrap();
            release.coordinator.wait(SERVICE, LIMIT, |one| one["step"] != at).unwrap();
        }
        println!("{preset}: {weights:?}");
        let expected: &[u32] = match preset {
            "AllAtOnce" => &[],
            "Canary10Percent5Minutes" => &[1_000],
            _ => &[2_500, 5_000, 7_500],
        };
        assert_eq!(weights, expected.iter().map(|one| vec![*one; 3]).collect::<Vec<_>>());
        release.ends(preset, "healthy", began, LIMIT).unwrap();
        // Back to where it began, for the next one.
        release.coordinator.rollout(&["undo", SERVICE]).unwrap();
        let back = |one: &serde_json::Value| one["phase"] == "healthy" && one["revision"] != preset;
        let _ = release.coordinator.wait(SERVICE, Duration::from_secs(5), back);
        let began = Instant::now();
        while release.weights(Blue).unwrap() != [10_000; 3] {
            assert!(began.elapsed() < LIMIT, "undone");
        }
        let _ = release.coordinator.wait_for(SERVICE, "healthy", LIMIT).unwrap();
    }
    served(load).unwrap();
}

/// Green is tried through a listener of its own before it has any weight.
#[test]
fn green_is_tried_by_its_preview_first() {
    // In nat a preview would be a service of its own.
    let release = Release::start(1, small_lab().direct(), &[]).unwrap();
    let (lab, preview) = (release.fleet.lab(), SocketAddr::new(vip(Family::V4, 1), 80));
    let spec = lab.service(SERVICE, at(0), Protocol::Tcp).forwarding("dsr-l2");
    let text = yaml(&[spec]);
    let (main, also) = (at(0).ip(), preview.ip());
    let own = format!(r#"{{ address: "{main}", port: 0, protocol: tcp }}"#);
    let more = format!(r#"{own}, {{ address: "{also}", port: 0, protocol: tcp, version: green }}"#);
    release.fleet.apply_text(&text.replace(&own, &more)).unwrap();
    let load = release.load(150).unwrap();
    let trying = FreshPlan { target: preview, ..short(lab, 150) };
    let previews = Fresh::start(lab.clients(), trying).unwrap();

    let strategy = "{ blueGreen: { preview: listener, autoPromotion: never, \
                    prePromotionAnalysis: { minDuration: 2s, maxDuration: 4s } } }";
    let began = release.run(&spec_of("v2", strategy, "1s")).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    let tried = previews.stop().unwrap();
    println!("by the preview: {tried}");
    tried.check().unwrap();
    assert_eq!((tried.by_version()[0], tried.by_version()[2]), (0, 0), "all of it is green's");
    assert_eq!(release.weights(Green).unwrap(), [0]);
    release.coordinator.rollout(&["promote", SERVICE]).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    served(load).unwrap();
}
