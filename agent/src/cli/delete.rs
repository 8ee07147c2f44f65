//! `weir delete`

use clap::Args;

use super::{change, fail::Failure, output::Output};
use crate::{
    client::Client,
    model::ServiceName,
    node::messages::{self, RequestId},
};

/// Remove services, in one atomic commit.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Their names.
    #[arg(required = true, value_name = "SERVICE", value_parser = ServiceName::new)]
    services: Vec<ServiceName>,
    /// Name this change, so that repeating it is harmless.
    #[arg(long, value_name = "ID", value_parser = RequestId::new)]
    request_id: Option<RequestId>,
}

impl Delete {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let request =
            messages::Delete { services: self.services, request_id: self.request_id, fence: None };
        let commit = client.delete(&request).await?;
        output.answer(&commit, |commit, _| change::commit(commit))
    }
}
