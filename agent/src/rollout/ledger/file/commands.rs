//! Commands that wait, a file each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::entry::{limits, within};
use super::super::{Command, CommandId, Error};
use super::disk::Disk;
use super::files::{FORM, io_error, list, make_directory, read};
use crate::model::ServiceName;
use crate::store::{seal, sealed_file};

impl Disk {
    pub(super) fn commands_of(&self, service: &ServiceName) -> PathBuf {
        self.directory().join("commands").join(service.as_str())
    }

    pub(super) fn submit(&self, command: &Command) -> Result<(), Error> {
        let text = within("a command", command, limits::COMMAND)?;
        let record = self.record(&command.service)?;
        if record.is_some_and(|record| record.handled.contains(&command.id)) {
            return Ok(());
        }
        let directory = self.commands_of(&command.service);
        make_directory(&directory)?;
        let path = directory.join(format!("{}.json", command.id));
        let waiting = list(&directory)?.iter().filter(|name| is_command(name)).count();
        if waiting >= limits::COMMANDS && !path.exists() {
            return Err(Error::Full { what: "commands that wait", limit: limits::COMMANDS });
        }
        // Written under a name that nobody reads, so that it is whole when it is there.
        let new = directory.join(format!(".{}-{}", command.id, std::process::id()));
        let put = sealed_file::write(&new, &seal::sealed(FORM, &text))
            .and_then(|()| fs::hard_link(&new, &path));
        let _ = fs::remove_file(&new);
        match put {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io_error("write", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn commands(&self) -> Result<Vec<Command>, Error> {
        let mut commands = Vec::new();
        for name in list(&self.directory().join("commands"))? {
            let Ok(service) = ServiceName::new(&name) else { continue };
            let directory = self.commands_of(&service);
            let mut waiting = Vec::new();
            for name in list(&directory)?.iter().filter(|name| is_command(name)) {
                match command(&directory.join(name))? {
                    Some(command) if command.service == service => waiting.push(command),
                    _ => {}
                }
            }
            if !waiting.is_empty()
                && let Some(record) = self.record(&service)?
            {
                waiting.retain(|command| !record.handled.contains(&command.id));
            }
            commands.append(&mut waiting);
        }
        commands.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
        Ok(commands)
    }
}

/// Whether a file of this name holds a command.
fn is_command(name: &str) -> bool {
    name.strip_suffix(".json").is_some_and(|id| CommandId::new(id).is_ok())
}

/// A command in a file; nothing if it is gone, or damaged: then it is put aside.
fn command(path: &Path) -> Result<Option<Command>, Error> {
    let text = read(path)?;
    let command = seal::open(FORM, &text).ok().and_then(|text| serde_json::from_slice(text).ok());
    if command.is_none() && !text.is_empty() {
        tracing::warn!("{} is no command and is put aside", path.display());
        let _ = fs::rename(path, path.with_extension("damaged"));
    }
    Ok(command)
}
