//! The text of the state's file, and back. Pure.
//!
//! A JSON object with the number of its form, the SHA-256 of that number and of the state's text,
//! and the state. What is read must be, byte for byte, what would be written: so a single flipped
//! bit anywhere, or a lost end, is found.

use std::fmt::Write as _;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Stored, StoredService};

/// Number of the form that is written. Form 1 had no checksum.
pub(super) const FORM: u32 = 2;

/// Why a file is no state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not as it was written.
    Damaged(String),
    /// It is as it was written, in a form that came after [`FORM`].
    Newer(u32),
}

/// The file of a state.
pub(super) fn close(state: &Stored) -> Result<Vec<u8>, serde_json::Error> {
    Ok(sealed(FORM, &serde_json::to_vec_pretty(state)?))
}

/// The state of a file.
pub(super) fn open(text: &[u8]) -> Result<Stored, Unreadable> {
    let Some((form, state)) = parts(text) else { return first_form(text) };
    if sealed(form, state) != text {
        return Err(Unreadable::Damaged("its checksum is wrong".to_owned()));
    }
    if form != FORM {
        return Err(Unreadable::Newer(form));
    }
    serde_json::from_slice(state).map_err(|error| Unreadable::Damaged(error.to_string()))
}

const BEFORE_FORM: &str = "{\"form\":";
const BEFORE_SUM: &str = ",\"sha256\":\"";
const BEFORE_STATE: &str = "\",\"state\":\n";
const END: &[u8] = b"\n}\n";

/// The file of a state's text in a form.
pub(super) fn sealed(form: u32, state: &[u8]) -> Vec<u8> {
    let sum = Sha256::new().chain_update(form.to_be_bytes()).chain_update(state).finalize();
    let mut head = format!("{BEFORE_FORM}{form}{BEFORE_SUM}");
    for byte in sum {
        let _ = write!(head, "{byte:02x}");
    }
    head.push_str(BEFORE_STATE);
    [head.as_bytes(), state, END].concat()
}

/// The form and the state's text of what may be a file with a checksum.
fn parts(text: &[u8]) -> Option<(u32, &[u8])> {
    let rest = text.strip_prefix(BEFORE_FORM.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (form, rest) = rest.split_at(digits);
    let form = std::str::from_utf8(form).ok()?.parse().ok()?;
    let rest = rest.strip_prefix(BEFORE_SUM.as_bytes())?;
    let state = rest.get(64..)?.strip_prefix(BEFORE_STATE.as_bytes())?;
    Some((form, state.strip_suffix(END)?))
}

/// A file of form 1, as agents wrote it before there was a checksum.
fn first_form(text: &[u8]) -> Result<Stored, Unreadable> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct First {
        form: u32,
        generation: u32,
        epoch: u64,
        services: Vec<StoredService>,
    }
    let First { form, generation, epoch, services } =
        serde_json::from_slice(text).map_err(|error| Unreadable::Damaged(error.to_string()))?;
    match form {
        1 => Ok(Stored { generation, epoch, services }),
        _ => Err(Unreadable::Damaged(format!("it has form {form} and no checksum"))),
    }
}
