//! A lease, kept alive, then a campaign; in this order.
//!
//! etcd lets a candidate win whose lease has run out while it waited, so the lease is kept alive
//! from the start, and after the campaign a read on the condition that the key is still there says
//! that it was won. Whatever happens after that, the key's create revision, on whose condition each
//! transaction is made, is what counts.
//!
//! The fence is that revision and what the key `epoch` says: the time in which the store was first
//! used, in milliseconds since 1970. So the fences of a new store, or of another kind, are greater
//! than those of the one before, and agents take them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};
use tokio::time::{sleep, timeout};

use super::super::leadership::{Holding, Sure, claim, now};
use super::super::{Error, Fence, Leadership};
use super::connection::{Connection, first_of_each};
use super::keys::Keys;
use super::parsed;

const ACTION: &str = "lead";
/// How long to wait after a renewal that failed.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// What was won.
#[derive(Debug, Clone)]
pub(super) struct Won {
    /// The number of the leadership.
    pub(super) fence: Fence,
    /// The key.
    pub(super) key: String,
    /// The create revision of the key.
    pub(super) revision: i64,
}

/// The fence of a key with this create revision.
pub(super) fn fence(epoch: &KeyValue, revision: i64) -> Result<Fence, Error> {
    let epoch: u64 = parsed(epoch)?;
    Ok(Fence(epoch.saturating_add(revision.cast_unsigned())))
}

/// Waits until this process leads.
pub(super) async fn campaign(
    connection: &Arc<Connection>,
    keys: &Keys,
    name: &str,
    length: Duration,
) -> Result<(Leadership, Won), Error> {
    let mut client = connection.client(ACTION).await?;
    let asked = now();
    let seconds = length.as_secs().cast_signed();
    let lease = connection.bounded(ACTION, client.lease_grant(seconds, None)).await?;
    // etcd may have made it longer.
    let length = Duration::from_secs(lease.ttl().max(1).cast_unsigned());
    let (claim, holding) = claim(Sure::Until(sure_until(asked, length)));
    tokio::spawn(keep_alive(Arc::clone(connection), lease.id(), length, asked, holding));

    let answer = tokio::select! {
        answer = client.campaign(keys.election(), name, lease.id()) => answer,
        why = claim.lost() => return Err(connection.lost(ACTION, why)),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            connection.forget().await;
            return Err(connection.refused(ACTION, &error));
        }
    };
    let key = answer.leader().ok_or_else(|| lost(connection, "etcd did not say what was won"))?;
    let revision = key.rev();
    let key = key.key_str().map_err(|error| lost(connection, &error.to_string()))?.to_owned();
    let fence = confirm(connection, keys, &key, revision).await?;
    claim.check().map_err(|why| connection.lost(ACTION, why))?;
    Ok((claim.leads(fence), Won { fence, key, revision }))
}

/// That the key that was won is still there, and its fence. The first leader of all sets the epoch.
async fn confirm(
    connection: &Connection,
    keys: &Keys,
    key: &str,
    revision: i64,
) -> Result<Fence, Error> {
    let epoch = keys.epoch();
    let there = || Compare::create_revision(key, CompareOp::Equal, revision);
    let absent = Compare::create_revision(epoch.clone(), CompareOp::Equal, 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let set = Txn::new().when([there(), absent]).and_then([TxnOp::put(
        epoch.clone(),
        now.to_string(),
        None,
    )]);
    let get = Txn::new().when([there()]).and_then([TxnOp::get(epoch, None)]);
    let mut client = connection.client(ACTION).await?;
    connection.bounded(ACTION, client.txn(set)).await?;
    let answer = connection.bounded(ACTION, client.txn(get)).await?;
    match first_of_each(&answer).as_slice() {
        [Some(epoch)] => fence(epoch, revision),
        _ => Err(lost(connection, "the lease ran out before the election was won")),
    }
}

fn lost(connection: &Connection, why: &str) -> Error {
    connection.lost(ACTION, why.to_owned())
}

/// Until when a lease is sure that was renewed by a call made at `asked`. etcd counts from when the
/// call came in, which is later; a tenth is left for clocks that do not run alike.
fn sure_until(asked: Duration, length: Duration) -> Duration {
    asked + length.mul_f64(0.9)
}

/// Renews a lease three times in its length, until its time is over or nobody wants it any longer;
/// then it is given back. Each renewal is a call of its own, so that none hangs on a stream that a
/// restart of etcd has cut.
async fn keep_alive(
    connection: Arc<Connection>,
    lease: i64,
    length: Duration,
    mut renewed: Duration,
    mut holding: Holding,
) {
    let mut wait = length / 3;
    let told = loop {
        tokio::select! {
            told = holding.end.recv() => break told,
            () = sleep(wait) => {}
        }
        let asked = now();
        let renewal = tokio::select! {
            told = holding.end.recv() => break told,
            renewal = renew(&connection, lease, length / 3) => renewal,
        };
        // A lease that was not sure for a while may be renewed all the same. It does not count: who
        // was told that it is over must be able to rely on that.
        if now() >= sure_until(renewed, length) {
            let why = "the lease could not be renewed in time".to_owned();
            holding.sure.send_replace(Sure::Over(why));
            break None;
        }
        match renewal {
            Renewal::Done => {
                renewed = asked;
                holding.sure.send_replace(Sure::Until(sure_until(asked, length)));
                wait = length / 3;
            }
            Renewal::Failed => wait = RETRY_EVERY.min(length / 10),
            Renewal::Gone => {
                let why = "the lease has run out, or was revoked".to_owned();
                holding.sure.send_replace(Sure::Over(why));
                break None;
            }
        }
    };
    revoke(&connection, lease).await;
    if let Some(done) = told {
        let _ = done.send(());
    }
    // Whoever waits for the end reads why, and may be late.
    while holding.end.recv().await.is_some() {}
}

/// What became of a renewal.
enum Renewal {
    Done,
    /// It may be tried again.
    Failed,
    /// There is no such lease.
    Gone,
}

async fn renew(connection: &Connection, lease: i64, limit: Duration) -> Renewal {
    let renewed = timeout(limit.min(connection.limit()), async {
        let Ok(mut client) = connection.client("renew its lease").await else {
            return Renewal::Failed;
        };
        match client.lease_keep_alive(lease).await {
            Ok(_) => Renewal::Done,
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Renewal::Gone,
            Err(_) => Renewal::Failed,
        }
    });
    let renewed = renewed.await.unwrap_or(Renewal::Failed);
    if matches!(renewed, Renewal::Failed) {
        connection.forget().await;
    }
    renewed
}

/// Lets another lead at once. Whether it works does not matter: the lease runs out.
async fn revoke(connection: &Connection, lease: i64) {
    if let Ok(mut client) = connection.client("give its lease back").await {
        let _ = connection.bounded("give its lease back", client.lease_revoke(lease)).await;
    }
}
