//! The agent's life: start, serve, stop.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::{serve, socket},
    model::InterfaceSpec,
    node,
};

/// What the agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the program is attached; at least one, no name twice.
    pub interfaces: Vec<InterfaceSpec>,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Where the desired state is kept.
    pub state_dir: PathBuf,
    /// Room of the flow table, in entries.
    pub flows: u32,
}

/// Runs the agent until SIGTERM or SIGINT.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (listener, guard) = socket::bind(&options.socket)?;
    // The owner task takes the requests; until there is one, every call is answered "stopping".
    let (node, requests) = node::channel();
    drop(requests);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, &guard, node, shutdown).await?;
    Ok(())
}
