//! Leases and rollbacks, as a client asks for them.

use super::{Client, ClientError, bounded};
use crate::{
    api::convert::{
        Malformed,
        lease::{read_lease, renew_to_proto, roll_back_to_proto},
        read,
    },
    node::messages::{Changed, LeaseStatus, RenewLease, RollBack},
};

impl Client {
    /// Restores the last settled weights of a service.
    pub async fn roll_back(&mut self, roll_back: &RollBack) -> Result<Changed, ClientError> {
        let request = bounded(roll_back_to_proto(roll_back));
        let answer = self.weir.roll_back(request).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Changed {
            commit: read::commit(answer.commit)?,
            changes: read::changes(answer.change.into_iter().collect())?,
        })
    }

    /// Renews the lease on the weights of a service, and gives what it is then.
    pub async fn renew_lease(&mut self, renew: &RenewLease) -> Result<LeaseStatus, ClientError> {
        let request = bounded(renew_to_proto(renew));
        let answer = self.weir.renew_lease(request).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(read_lease(answer.lease.ok_or(Malformed("lease"))?)?)
    }
}
