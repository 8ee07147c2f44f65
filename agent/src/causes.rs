//! An error and what caused it, as one line.

use std::error::Error;

/// What is said of an error, and then of its causes, outermost first, each once.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut said = match error.downcast_ref::<tonic::Status>() {
        // The rest of what a status says of itself is not for people.
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said
}
