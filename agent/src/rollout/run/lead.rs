//! Who leads, and what follows from it.
//!
//! Every coordinator has a runner for each service of the store. That of the leader acts; the others
//! look on, so that any coordinator can be asked, and each can take over at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::coordinator::{MAX_ROLLOUTS, Shared};
use crate::{
    model::ServiceName,
    rollout::ledger::{Command, Error, Fence, Leadership},
};

/// Time between two looks at the store, if nobody asks.
const LOOK: Duration = Duration::from_millis(250);
/// The pause after a campaign that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether this process leads.
#[derive(Debug, Clone)]
pub(super) enum Lead {
    /// It does, as long as this says so.
    Leads(Arc<Leadership>),
    /// It does not.
    Follows,
}

impl Lead {
    /// Whether it leads, at this instant.
    pub(super) fn leads(&self) -> bool {
        self.fence().is_some()
    }

    /// The number by which it leads, at this instant.
    pub(super) fn fence(&self) -> Option<Fence> {
        match self {
            Self::Leads(leadership) => leadership.check().is_ok().then(|| leadership.fence()),
            Self::Follows => None,
        }
    }
}

/// Campaigns, and campaigns again when leadership was lost, for ever.
pub(super) async fn campaign(shared: Arc<Shared>) {
    loop {
        match shared.options.store.campaign().await {
            Ok(leadership) => {
                let leadership = Arc::new(leadership);
                tracing::info!(fence = %leadership.fence(), "leading");
                shared.lead.send_replace(Lead::Leads(Arc::clone(&leadership)));
                let why = leadership.lost().await;
                tracing::warn!(why, "leading no longer");
                shared.lead.send_replace(Lead::Follows);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot campaign");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Looks what the store has: services without a runner get one, and runners the commands that wait.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut failing = false;
    loop {
        let outcome = look(&shared).await;
        if let (Err(error), false) = (&outcome, failing) {
            tracing::warn!(%error, "the state store fails");
        }
        if failing && outcome.is_ok() {
            tracing::info!("the state store is back");
        }
        failing = outcome.is_err();
        // An error means that nobody asked within that time.
        let _ = timeout(LOOK, shared.asked.notified()).await;
    }
}

async fn look(shared: &Arc<Shared>) -> Result<(), Error> {
    let store = &shared.options.store;
    let mut waiting: BTreeMap<ServiceName, Vec<Command>> =
        store.services().await?.into_iter().map(|service| (service, Vec::new())).collect();
    for command in store.commands().await? {
        waiting.entry(command.service.clone()).or_default().push(command);
    }
    for (service, commands) in waiting.into_iter().take(MAX_ROLLOUTS) {
        shared.runner(&service).tell(commands);
    }
    Ok(())
}
