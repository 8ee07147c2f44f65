//! TC where the kernel has no TCX (before Linux 6.6): a filter of a clsact qdisc.
//!
//! A filter belongs to its interface and holds the program, and so the maps; it goes on when the
//! agent is killed. There is no link that could be pinned, so the filter has a fixed place, where
//! the next agent puts its program instead of the old one, without a packet in between; and the
//! program is pinned under the link's name, which says that there is a filter to be removed.
//!
//! The qdisc stays when the filter goes: others may use it, and it does nothing by itself.

use std::error::Error;
use std::path::Path;
use std::{fs, io, mem};

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{Link as _, ProgramError, SchedClassifier, TcAttachType};

/// Nobody else's by accident: the filter that is there is an earlier agent's.
const PRIORITY: u16 = 30_000;
/// "weir".
const HANDLE: TcHandle = TcHandle::new(0x7765, 0x6972);

/// What is said where there is no such filter, no qdisc, no interface.
const NOTHING_THERE: [i32; 3] = [nix::libc::ENOENT, nix::libc::EINVAL, nix::libc::ENODEV];

/// Attaches the program, in place of an earlier agent's if there is one. With a pin it stays when
/// the program is dropped, until [`remove`].
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    pin: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    let Some(pin) = pin else { return put(program, interface).map(drop) };
    // The pin first: a filter without one could not be found by `weir detach`.
    let before = pin.exists();
    if before {
        fs::remove_file(pin)?;
    }
    program.pin(pin)?;
    let link = put(program, interface).and_then(|id| Ok(program.take_link(id)?));
    match link {
        Ok(link) => {
            // Dropping it would detach. It holds nothing but the filter's place.
            mem::forget(link);
            Ok(())
        }
        Err(error) => {
            if !before {
                let _ = fs::remove_file(pin);
            }
            Err(error)
        }
    }
}

fn put(
    program: &mut SchedClassifier,
    interface: &str,
) -> Result<tc::SchedClassifierLinkId, Box<dyn Error>> {
    // It may be there already; if it could not be made, what follows says why.
    let _ = tc::qdisc_add_clsact(interface);
    if let Ok(id) = program.attach_to_link(place(interface)?) {
        return Ok(id);
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let options = TcAttachOptions::Netlink(options);
    Ok(program.attach_with_options(interface, TcAttachType::Ingress, options)?)
}

/// Whether the filter is there. It cannot be asked for, but to put the program in its place once
/// more, which changes nothing, needs it.
pub(super) fn is_there(program: &mut SchedClassifier, interface: &str) -> bool {
    let put = place(interface).map_err(ProgramError::from).and_then(|place| {
        let id = program.attach_to_link(place)?;
        program.take_link(id)
    });
    // Dropping it would detach.
    put.map(mem::forget).is_ok()
}

/// Removes the filter. An interface that is gone has taken its own along.
///
/// # Errors
///
/// What the kernel said, unless that there is none.
pub(super) fn remove(interface: &str) -> io::Result<()> {
    let Ok(link) = place(interface) else { return Ok(()) };
    match link.detach() {
        Err(ProgramError::NetlinkError(error))
            if error.raw_os_error().is_some_and(|code| NOTHING_THERE.contains(&code)) =>
        {
            Ok(())
        }
        detached => detached.map_err(io::Error::other),
    }
}

fn place(interface: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
}
