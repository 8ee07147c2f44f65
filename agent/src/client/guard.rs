//! Guards, as a client asks for them.

use super::{Client, ClientError, bounded};
use crate::{
    api::convert::{
        Malformed,
        guard::{clear_to_proto, read_status, set_to_proto},
    },
    node::messages::{ClearGuard, GuardStatus, SetGuard},
};

impl Client {
    /// Sets a limit that the agent enforces on its own, and gives it as it is then.
    pub async fn set_guard(&mut self, set: &SetGuard) -> Result<GuardStatus, ClientError> {
        let answer = self.weir.set_guard(bounded(set_to_proto(set))).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(read_status(answer.guard.ok_or(Malformed("guard"))?)?)
    }

    /// Ends the guard of a service, if it has one.
    pub async fn clear_guard(&mut self, clear: &ClearGuard) -> Result<(), ClientError> {
        let answer = self.weir.clear_guard(bounded(clear_to_proto(clear))).await;
        answer.map_err(|status| self.failed(&status))?;
        Ok(())
    }
}
