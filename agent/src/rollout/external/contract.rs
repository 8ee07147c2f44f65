//! What a hook is told, and what it may answer. Pure.
//!
//! A web hook gets a POST with JSON and answers with a status of success and
//! `{"status": "SUCCEEDED" | "FAILED" | "IN_PROGRESS", "message": "…"}`. A command gets the same as
//! environment variables and answers by its exit status: 0, [`IN_PROGRESS`], or any other. Whoever
//! is in progress is asked again, with the same id.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::machine::{Event, HookCall, HookKey};
use super::http::one_line;
use crate::model::ServiceName;

/// The exit status of a command that is to be asked again (`EX_TEMPFAIL` of sysexits.h).
pub const IN_PROGRESS: i32 = 75;

/// The rollout that a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The service.
    pub service: ServiceName,
    /// What is released.
    pub revision: String,
    /// The step, from 1; none: before the first or after the last.
    pub step: Option<usize>,
}

/// What a hook is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The same id is the same call: what it asks for is to be done once.
    pub id: String,
    /// `SERVICE/REVISION`.
    pub rollout: String,
    /// The service.
    pub service: ServiceName,
    /// What is released.
    pub revision: String,
    /// The stage; a gate has `gate`.
    pub stage: &'static str,
    /// The step, from 1.
    pub step: Option<usize>,
    /// The backend to replace.
    pub backend: Option<SocketAddr>,
    /// With a backend: bring back what was there.
    pub revert: bool,
    /// What happened, with stage `event`.
    pub event: Option<Event>,
}

impl Told {
    /// Of a call.
    pub(super) fn of(about: &About, key: &HookKey, call: &HookCall) -> Self {
        let About { service, revision, step } = about;
        let stage = key.stage.map_or("gate", super::super::spec::Stage::name);
        Self {
            id: format!("{service}/{}/{stage}/{}", key.transition, key.index),
            rollout: format!("{service}/{revision}"),
            service: service.clone(),
            revision: revision.clone(),
            stage,
            step: *step,
            backend: call.backend,
            revert: call.revert,
            event: None,
        }
    }

    /// Of an event.
    pub(super) fn event(about: &About, event: &Event) -> Self {
        let About { service, revision, step } = about;
        Self {
            id: format!("{service}/event/{}", event.number),
            rollout: format!("{service}/{revision}"),
            service: service.clone(),
            revision: revision.clone(),
            stage: "event",
            step: *step,
            backend: None,
            revert: false,
            event: Some(event.clone()),
        }
    }

    /// As environment variables of a command.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("WEIR_ID", self.id.clone()),
            ("WEIR_ROLLOUT", self.rollout.clone()),
            ("WEIR_SERVICE", self.service.to_string()),
            ("WEIR_REVISION", self.revision.clone()),
            ("WEIR_STAGE", self.stage.to_owned()),
            ("WEIR_STEP", self.step.map(|step| step.to_string()).unwrap_or_default()),
            ("WEIR_BACKEND", self.backend.map(|at| at.to_string()).unwrap_or_default()),
            ("WEIR_REVERT", if self.revert { "1" } else { "" }.to_owned()),
        ];
        if let Some(event) = self.event.as_ref().and_then(|e| serde_json::to_string(e).ok()) {
            variables.push(("WEIR_EVENT", event));
        }
        variables
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    Succeeded,
    Failed(String),
    /// It is to be asked again; with what it says.
    InProgress(String),
    /// It could not be asked, or its answer says nothing. It is to be asked again.
    Unclear(String),
}

/// What the answer of a web hook says.
pub(super) fn answered(status: StatusCode, body: &[u8]) -> Attempt {
    #[derive(Deserialize)]
    struct Body {
        status: String,
        #[serde(default)]
        message: String,
    }
    let said = one_line(&String::from_utf8_lossy(body));
    // The server's own trouble, and what asks for patience, passes; any other refusal stays.
    let patience = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || patience.contains(&status) {
        return Attempt::Unclear(format!("status {status}: {said}"));
    }
    if !status.is_success() {
        return Attempt::Failed(format!("status {status}: {said}"));
    }
    let expected = "{\"status\": \"SUCCEEDED\" | \"FAILED\" | \"IN_PROGRESS\"}";
    let Ok(Body { status, message }) = serde_json::from_slice(body) else {
        return Attempt::Unclear(format!("it answers {said:?}, not {expected}"));
    };
    let message = one_line(&message);
    match status.as_str() {
        "SUCCEEDED" => Attempt::Succeeded,
        "FAILED" if message.is_empty() => Attempt::Failed("it says FAILED".to_owned()),
        "FAILED" => Attempt::Failed(message),
        "IN_PROGRESS" => Attempt::InProgress(message),
        other => Attempt::Unclear(format!("it says {:?}, not {expected}", one_line(other))),
    }
}

/// What the end of a command says; `said` is the last line of its output.
pub(super) fn exited(code: Option<i32>, said: &str) -> Attempt {
    let said = one_line(said);
    match code {
        Some(0) => Attempt::Succeeded,
        Some(IN_PROGRESS) => Attempt::InProgress(said),
        Some(code) if said.is_empty() => Attempt::Failed(format!("exit status {code}")),
        Some(code) => Attempt::Failed(format!("exit status {code}: {said}")),
        None => Attempt::Failed(format!("it was killed: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_web_hooks() {
        let answer = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            answered(status, body.as_bytes())
        };
        let failed = |why: &str| Attempt::Failed(why.to_owned());
        for (status, body, expected) in [
            (200, r#"{"status":"SUCCEEDED"}"#, Attempt::Succeeded),
            (204, r#"{"status":"SUCCEEDED","message":"done","more":1}"#, Attempt::Succeeded),
            (200, r#"{"status":"FAILED","message":"no\u001b[31m room"}"#, failed("no [31m room")),
            (200, r#"{"status":"FAILED"}"#, failed("it says FAILED")),
            (200, r#"{"status":"IN_PROGRESS"}"#, Attempt::InProgress(String::new())),
            (404, "no such hook\n", failed("status 404 Not Found: no such hook")),
            (302, "", failed("status 302 Found: ")),
        ] {
            assert_eq!(answer(status, body), expected, "{status} {body}");
        }
        for (status, body, part) in [
            (500, "oops", "status 500 Internal Server Error: oops"),
            (429, "", "429"),
            (200, "", "it answers \"\""),
            (200, "SUCCEEDED", "not {\"status\""),
            (200, r#"{"status":"succeeded"}"#, "\"succeeded\""),
            (200, r#"{"message":"x"}"#, "it answers"),
            (200, "\u{0}\u{1}", "it answers \"\""),
        ] {
            let Attempt::Unclear(why) = answer(status, body) else {
                unreachable!("{status} {body}: {:?}", answer(status, body))
            };
            assert!(why.contains(part), "{why}");
        }
        let Attempt::Unclear(why) = answer(200, &"x".repeat(5000)) else { unreachable!() };
        assert!(why.len() < 400, "{why}");
    }

    #[test]
    fn ends_of_commands() {
        assert_eq!(exited(Some(0), "whatever"), Attempt::Succeeded);
        assert_eq!(exited(Some(75), "soon\n"), Attempt::InProgress("soon".to_owned()));
        assert_eq!(exited(Some(1), ""), Attempt::Failed("exit status 1".to_owned()));
        assert_eq!(exited(Some(3), "no\n"), Attempt::Failed("exit status 3: no".to_owned()));
        assert_eq!(exited(None, "x"), Attempt::Failed("it was killed: x".to_owned()));
    }
}
