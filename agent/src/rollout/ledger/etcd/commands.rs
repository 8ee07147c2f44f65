//! Commands that wait, a key each, oldest first by the revision in which they were put.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};

use super::super::entry::{limits, within};
use super::super::{Command, Error};
use super::{EtcdStore, LARGE_A_PAGE, parsed};

impl EtcdStore {
    pub(super) async fn put(&self, command: &Command) -> Result<(), Error> {
        let action = "put a command";
        let Command { service, id, .. } = command;
        let text = within("a command", command, limits::COMMAND)?;
        let record = self.record(action, service).await?;
        if record.is_some_and(|(_, record)| record.handled.contains(id)) {
            return Ok(());
        }
        let key = self.keys.command(service, id);
        let (first, end) = self.keys.commands(service);
        let count = GetOptions::new().with_range(end).with_count_only();
        let mut client = self.connection.client(action).await?;
        let waiting = self.connection.bounded(action, client.get(first, Some(count))).await?;
        // Others may put one at the same time: a few more than the limit do no harm.
        let full = usize::try_from(waiting.count()).is_ok_and(|count| count >= limits::COMMANDS);
        let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let put = if full { Vec::new() } else { vec![TxnOp::put(key, text, None)] };
        let put = client.txn(Txn::new().when([absent]).and_then(put));
        let was_absent = self.connection.bounded(action, put).await?.succeeded();
        if was_absent && full {
            return Err(Error::Full { what: "commands that wait", limit: limits::COMMANDS });
        }
        Ok(())
    }

    pub(super) async fn waiting(&self) -> Result<Vec<Command>, Error> {
        let action = "read commands";
        let mut kvs =
            self.range(action, self.keys.all_commands(), LARGE_A_PAGE, GetOptions::new()).await?;
        kvs.sort_by_key(etcd_client::KeyValue::create_revision);
        let readable = |kv: &etcd_client::KeyValue| {
            parsed(kv).inspect_err(|error| tracing::warn!("passed over: {error}")).ok()
        };
        let mut commands: Vec<Command> = kvs.iter().filter_map(readable).collect();
        // One that was put again while it was answered is known by its id.
        let mut handled = BTreeMap::new();
        for command in &commands {
            if !handled.contains_key(&command.service) {
                let record = self.record(action, &command.service).await?;
                let ids = record.map(|(_, record)| record.handled).unwrap_or_default();
                handled.insert(command.service.clone(), ids);
            }
        }
        commands.retain(|command| {
            handled.get(&command.service).is_none_or(|handled| !handled.contains(&command.id))
        });
        Ok(commands)
    }
}
