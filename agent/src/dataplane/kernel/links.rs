//! Links that are pinned: how they are taken up, kept, and ended. Where the kernel has no link for
//! it, the pin stands for a filter; see [`clsact`].

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::programs::links::{FdLink, PinnedLink};

use super::clsact;
use super::pins::{PinError, owner};
use crate::dataplane::sys::detach;
use crate::model::Hook;

/// The link pinned there, if there is one.
pub(super) fn pinned(pin: &Path) -> Option<FdLink> {
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

/// Pins a link. A pin of a link that is dead is in the way, and removed.
pub(super) fn pin(link: FdLink, pin: &Path) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_file(pin);
    link.pin(pin)?;
    Ok(())
}

/// Ends links: when this returns, no packet meets their program, and they have no names.
///
/// # Errors
///
/// A pin or a filter could not be removed.
pub(super) fn end(pins: &[PathBuf]) -> Result<(), PinError> {
    for pin in pins {
        match owner(pin) {
            Some((interface, hook)) if hook == Hook::Clsact.name() => clsact::remove(&interface)
                .map_err(|error| PinError::Io { path: pin.clone(), error })?,
            // What cannot be detached at once ends with its name.
            _ => drop(detach(pin)),
        }
        match fs::remove_file(pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PinError::Io { path: pin.clone(), error });
            }
            _ => {}
        }
    }
    Ok(())
}
