//! Backends that are replaced.

use super::super::*;
use super::world::*;
use crate::model::{BackendState, PerVersion, Version};

fn lines(more: &str) -> String {
    format!(
        "
strategy: {{ rolling: {{ maxUnavailable: 2, minReadySeconds: 5s }} }}
bake: 5s
drain: {{ idle: 10s, timeout: 30s }}
hooks: [{{ stage: replace, command: [replace], timeout: 1m }}]
{more}"
    )
}

fn world(more: &str) -> World {
    World::with(&lines(more), 2, PerVersion::new(6, 0, 0))
}

fn all_serve(world: &World) -> bool {
    world.agents.values().all(|agent| {
        agent.view.backends.iter().all(|one| one.healthy && one.state == BackendState::Active)
    })
}

/// What the hook was called for: the last number of the address, negative to bring back.
fn called(world: &World) -> Vec<i32> {
    let number = |call: &HookCall| match call.backend.unwrap().ip() {
        std::net::IpAddr::V4(v4) => i32::from(v4.octets()[3]),
        std::net::IpAddr::V6(_) => 0,
    };
    let signed = |call: &HookCall| if call.revert { -number(call) } else { number(call) };
    world.calls.iter().map(|(_, call)| signed(call)).collect()
}

#[test]
fn backends_are_replaced_two_at_a_time() {
    let mut world = world("");
    let mut fewest = 6;
    while world.state.status() != Status::Healthy {
        world.run(1);
        for agent in world.agents.values() {
            fewest = fewest.min(agent.view.ready[Version::Blue]);
        }
        assert!(world.events.len() < 200, "{:?}", world.trace());
    }
    assert_eq!(called(&world), [1, 2, 3, 4, 5, 6]);
    assert_eq!(fewest, 4, "never more than two are out");
    assert!(all_serve(&world));
}

#[test]
fn a_partition_stays_as_it_is() {
    let document = lines("").replace("maxUnavailable: 2", "maxUnavailable: 50%, partition: 4");
    let mut world = World::with(&document, 2, PerVersion::new(6, 0, 0));
    world.until(Status::Healthy, 60);
    assert_eq!(called(&world), [5, 6]);
    let document = document.replace("partition: 4", "partition: 7");
    let mut world = World::with(&document, 2, PerVersion::new(6, 0, 0));
    world.until(Status::Degraded, 620);
    assert!(world.state.reason.contains("partition keeps 7 backends, but there are 6"));
}

#[test]
fn a_replacement_that_fails_stops_it_and_brings_back_what_was_done() {
    let mut world = world("");
    world.answers = vec![HookAnswer::Succeeded; 3];
    world.answers.push(HookAnswer::Failed("no image".to_owned()));
    world.until(Status::Degraded, 200);
    assert_eq!(called(&world), [1, 2, 3, 4, -3, -4, -1, -2], "in reverse, batch by batch");
    assert!(all_serve(&world));
    assert!(world.state.reason.contains("no image"), "{}", world.state.reason);
    assert!(world.state.scars.is_empty());
}

#[test]
fn what_cannot_be_brought_back_is_named() {
    let mut world = world("");
    world.answers = vec![
        HookAnswer::Succeeded,
        HookAnswer::Failed("no image".to_owned()),
        HookAnswer::Failed("no old image either".to_owned()),
    ];
    world.until(Status::Degraded, 200);
    assert!(world.state.reason.contains("no old image either"), "{}", world.state.reason);
    assert!(all_serve(&world), "those that are well serve");
}

#[test]
fn a_backend_that_does_not_become_healthy_fails_it() {
    let mut world = world("");
    world.until_stage(Stage::Readying, 20);
    for agent in world.agents.values_mut() {
        agent.view.backends[0].healthy = false;
        agent.count();
    }
    world.run(550);
    assert_eq!(world.state.status(), Status::Progressing);
    world.run(60);
    assert!(world.state.is_going_back(), "{}", world.state.reason);
    world.until_stage(Stage::Readying, 100);
    for agent in world.agents.values_mut() {
        agent.view.backends[0].healthy = true;
        agent.count();
    }
    world.until(Status::Degraded, 30);
    assert!(world.state.reason.contains("10.61.0.1:80, 10.61.0.2:80 did not become healthy"));
    assert!(all_serve(&world));
}

#[test]
fn nothing_is_taken_out_where_others_are_ill() {
    let mut world = world("");
    for agent in world.agents.values_mut() {
        agent.view.backends[5].healthy = false;
        agent.count();
    }
    world.run(300);
    let out = |world: &World| {
        world
            .agents
            .values()
            .any(|agent| agent.view.backends.iter().any(|one| one.state != BackendState::Active))
    };
    assert!(!out(&world), "two and one are more than two");
    for agent in world.agents.values_mut() {
        agent.view.backends[5].healthy = true;
        agent.count();
    }
    world.run(2);
    assert!(out(&world));
}

#[test]
fn an_abort_waits_for_the_hook_that_is_at_work() {
    let mut world = world("");
    world.answers = vec![HookAnswer::InProgress; 40];
    world.until_stage(Stage::Replacing, 20);
    world.run(3);
    world.command(Verb::Abort);
    world.run(2);
    assert_eq!(world.state.status(), Status::Aborting);
    world.answers.clear();
    world.until(Status::RollingBack, 5);
    world.until(Status::Degraded, 60);
    assert_eq!(called(&world), [1, 2, -1, -2]);
    assert!(all_serve(&world));
}

#[test]
fn a_pause_calls_no_hook_again() {
    let mut world = world("");
    world.answers = vec![HookAnswer::InProgress; 10];
    world.until_stage(Stage::Replacing, 20);
    world.run(1);
    world.command(Verb::Pause);
    world.run(5);
    world.command(Verb::Resume);
    world.run(10);
    assert_eq!(called(&world)[..2], [1, 2]);
    world.until(Status::Healthy, 100);
    assert_eq!(called(&world), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_last_backend_is_never_taken_out() {
    let mut world = World::with(&lines(""), 2, PerVersion::new(2, 0, 0));
    world.until(Status::Degraded, 620);
    assert!(world.state.reason.contains("which leaves none"), "{}", world.state.reason);
    assert!(world.calls.is_empty());
}

#[test]
fn each_new_batch_is_judged_against_the_rest() {
    let judged = "analysis: { maxDuration: 20s, advanceEarly: true, minDuration: 3s } } }";
    let document =
        lines("").replace("minReadySeconds: 5s } }", &format!("minReadySeconds: 5s, {judged}"));
    let mut world = World::with(&document, 2, PerVersion::new(6, 0, 0));
    world.verdict = pass(true);
    world.until_step(2, 60);
    world.until_step(3, 60);
    world.verdict = fail();
    world.until(Status::Degraded, 60);
    assert_eq!(called(&world), [1, 2, 3, 4, -3, -4, -1, -2]);
}

#[test]
fn a_rolling_release_can_be_undone() {
    let mut world = world("");
    world.until(Status::Healthy, 200);
    world.calls.clear();
    world.command(Verb::Undo { to_revision: None });
    world.until(Status::RollingBack, 3);
    world.until(Status::Healthy, 200);
    assert_eq!(called(&world), [-6, -5, -4, -3, -2, -1]);
    assert!(all_serve(&world));
}
