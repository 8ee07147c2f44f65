//! The text of a sealed file, and back. Pure.
//!
//! A JSON object with the number of its form, the SHA-256 of that number and of the state's text,
//! and the state. What is read must be, byte for byte, what would be written: so a single flipped
//! bit anywhere, or a lost end, is found.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Why a file is no state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It does not look like a sealed file at all.
    Unsealed,
    /// It is not as it was written.
    Damaged(String),
    /// It is as it was written, in a form that came after the one that is known.
    Newer(u32),
}

/// The state's text of a file of this form.
pub(crate) fn open(known: u32, text: &[u8]) -> Result<&[u8], Unreadable> {
    let (form, state) = parts(text).ok_or(Unreadable::Unsealed)?;
    if sealed(form, state) != text {
        return Err(Unreadable::Damaged("its checksum is wrong".to_owned()));
    }
    if form != known {
        return Err(Unreadable::Newer(form));
    }
    Ok(state)
}

const BEFORE_FORM: &str = "{\"form\":";
const BEFORE_SUM: &str = ",\"sha256\":\"";
const BEFORE_STATE: &str = "\",\"state\":\n";
const END: &[u8] = b"\n}\n";

/// The file of a state's text in a form.
pub(crate) fn sealed(form: u32, state: &[u8]) -> Vec<u8> {
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
