//! Files that change while they are in use: looked at once a second, taken up for connections to
//! come. A bad new file changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Contents, Files, LoadError};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the files until nobody wants to know the configuration, and `tell`s what became of
/// changes: an error, if the new files cannot be used, so that those before are. `used`: what is in
/// use now.
pub async fn follow<T: Future<Output = ()>>(
    files: Files,
    used: Contents,
    config: watch::Sender<Arc<ServerConfig>>,
    mut tell: impl FnMut(Result<(), String>) -> T,
) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judged: Result<Contents, String> = Ok(used);
    let mut seen = judged.clone();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = config.closed() => return,
        }
        let read = {
            let files = files.clone();
            move || files.read().map_err(|error| error.to_string())
        };
        let Ok(now) = spawn_blocking(read).await else { return };
        // Judged when it has stayed for a look: a certificate and its key are two files, which nobody
        // replaces at one instant.
        if now == seen && now != judged {
            tell(match &now {
                Ok(contents) => take(&files, contents, &config).map_err(|error| error.to_string()),
                Err(unreadable) => Err(unreadable.clone()),
            })
            .await;
            judged.clone_from(&now);
        }
        seen = now;
    }
}

fn take(
    files: &Files,
    contents: &Contents,
    config: &watch::Sender<Arc<ServerConfig>>,
) -> Result<(), LoadError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(outdated) = files.outdated(contents, now) {
        return Err(outdated);
    }
    config.send_replace(files.server(contents)?);
    Ok(())
}
