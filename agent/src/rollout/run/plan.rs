//! A rollout before it begins: what each step moves, and how long it will take.

use weir_proto::rollout::v1;

use crate::rollout::{fleet::agents::Agent, spec::Rollout};

/// What the rollout would do.
pub async fn plan(rollout: &Rollout, _agents: &[Agent]) -> v1::PlanResponse {
    v1::PlanResponse {
        service: rollout.service.to_string(),
        revision: rollout.revision.clone(),
        strategy: rollout.strategy.name().to_owned(),
        ..v1::PlanResponse::default()
    }
}
