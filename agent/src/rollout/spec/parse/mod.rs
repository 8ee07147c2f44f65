//! From a document to a [`Rollout`], or everything that is wrong with it.

mod analysis;
mod hooks;
mod policy;
mod strategy;

#[cfg(test)]
mod tests;

use super::reader::{Field, Map, Problems};
use super::tree::Node;
use super::{OnFailure, OnNewRevision, Problem, Rollout, lint};
use crate::model::{ServiceName, Version};
use crate::rollout::time::Seconds;

/// The most characters of a revision.
pub const MAX_REVISION: usize = 128;
/// How long the candidate is watched with everything on it, if nothing is said.
pub const BAKE: Seconds = Seconds::minutes(5);
/// How long anything may take that is neither time, evidence nor a person, if nothing is said.
pub const PROGRESS_DEADLINE: Seconds = Seconds::minutes(10);

/// Reads a document.
///
/// # Errors
///
/// All problems, in the order of the document; of a document that is no YAML, the first.
pub fn parse(yaml: &str) -> Result<Rollout, Vec<Problem>> {
    let tree = Node::parse(yaml).map_err(|problem| vec![problem])?;
    let problems = Problems::default();
    let root = Field { node: &tree, path: String::new(), problems: &problems };
    let rollout = root.map().and_then(rollout);
    if let Some(rollout) = &rollout {
        for (field, message) in lint::lint(rollout) {
            // What stands in for something wrong must not be blamed on who wrote the document.
            let section = field.split(['.', '[']).next().unwrap_or_default();
            if !problems.concern(section) {
                problems.push(tree.place_of(&field), &field, message);
            }
        }
    }
    let list = problems.into_list();
    match rollout {
        Some(rollout) if list.is_empty() => Ok(rollout),
        _ => Err(list),
    }
}

/// The keys of a document. What is wrong is noted, so the result counts only if nothing is.
fn rollout(mut map: Map<'_>) -> Option<Rollout> {
    let _: Option<()> = map.need("kind").and_then(|kind| kind.word(&[("Rollout", ())]));
    let service = map.need("service").and_then(|field| service(&field));
    let revision = map.need("revision").and_then(|field| revision(&field));
    let candidate = map.get("candidate").and_then(|field| field.read::<Version>());
    let stable = map.get("stable").and_then(|field| field.read::<Version>());
    let strategy = map.need("strategy").and_then(|field| strategy::strategy(&field, candidate));
    let (analysis, external) = analysis::config(map.get("analysis").as_ref());
    let guard = map.get("guard").and_then(|field| policy::guard(&field));
    let bake = map.or("bake", BAKE, Field::time);
    let drain = map.or("drain", super::Drain::default(), policy::drain);
    let verify = map.or("verify", super::Verify::default(), policy::verify);
    let agents = map.or("agents", super::Agents::default(), policy::agents);
    let progress_deadline = map.or("progressDeadline", PROGRESS_DEADLINE, Field::time);
    let paused = map.or("paused", super::Unattended::default(), policy::unattended);
    let on_failure = map.or("onFailure", OnFailure::default(), on_failure);
    let rollback_in_flight = map.or("rollback", super::InFlightKind::default(), policy::rollback);
    let on_new_revision = map.or("onNewRevision", OnNewRevision::default(), on_new_revision);
    let hooks = map.or("hooks", Vec::new(), |field| Some(hooks::hooks(field)));
    drop(map);
    Some(Rollout {
        service: service?,
        revision: revision?,
        candidate,
        stable,
        strategy: strategy?,
        analysis,
        external,
        guard,
        bake,
        drain,
        verify,
        agents,
        progress_deadline,
        paused,
        on_failure,
        rollback_in_flight,
        on_new_revision,
        hooks,
    })
}

fn service(field: &Field<'_>) -> Option<ServiceName> {
    ServiceName::new(&field.text()?).map_err(|message| field.wrong(message)).ok()
}

fn revision(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let length = text.chars().count();
    if length == 0 || length > MAX_REVISION || text.chars().any(char::is_control) {
        field.wrong(format!(
            "must have 1 to {MAX_REVISION} characters, none of them a control character"
        ));
        return None;
    }
    Some(text)
}

fn on_failure(field: &Field<'_>) -> Option<OnFailure> {
    field.word(&[
        ("rollback", OnFailure::Rollback),
        ("freeze", OnFailure::Freeze),
        ("notify", OnFailure::Notify),
    ])
}

fn on_new_revision(field: &Field<'_>) -> Option<OnNewRevision> {
    field.word(&[
        ("queue", OnNewRevision::Queue),
        ("supersede", OnNewRevision::Supersede),
        ("reject", OnNewRevision::Reject),
    ])
}
