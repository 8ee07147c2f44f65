//! What becomes known of backends while the node runs: their health, and what an operator sets by
//! hand. Their services are led to it as to any other change, so that no flow is lost by it.

use super::clock;
use super::directory::{Key, Place};
use super::error::Error;
use super::owner::Owner;
use crate::dataplane::DataPlane;
use crate::model::ServiceName;
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Takes note of what is known of backends now, in one commit, and says whether anything was new.
    /// A store that fails takes nothing back: what is so does not become otherwise by it.
    ///
    /// # Errors
    ///
    /// The data plane refused; nothing was changed.
    pub(super) fn learn(&mut self, known: &[(ServiceName, Key, Place)]) -> Result<bool, Error> {
        let Some(next) = self.state.know(known, clock::seconds()) else { return Ok(false) };
        let before = self.commit(next.state)?;
        if let Err(error) = self.save() {
            tracing::warn!(%error, "states of backends are not stored");
        }
        self.clean_up(&before);
        let names: Vec<ServiceName> = known.iter().map(|(name, ..)| name.clone()).collect();
        self.mark(&before, &names);
        Ok(true)
    }
}
