//! What aya does not offer for links: to open one by its id, and to detach one that is pinned at
//! once. Removing its pin detaches it too, but some time later, at the kernel's leisure; until then
//! packets meet the program, and no other XDP program can take its place.

#![allow(unsafe_code, reason = "one system call; each block says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Arguments of `BPF_OBJ_GET`, as in `union bpf_attr`.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Arguments of `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkDetach {
    link: RawFd,
}

/// Arguments of `BPF_LINK_GET_FD_BY_ID`.
#[repr(C)]
struct LinkById {
    link: u32,
}

/// The link of this id. It does not end while the descriptor is open, whoever lets go of it.
///
/// # Errors
///
/// There is none.
pub(in crate::dataplane) fn link(id: u32) -> io::Result<OwnedFd> {
    open(BPF_LINK_GET_FD_BY_ID, &LinkById { link: id })
}

/// Detaches the link that is pinned there. When this returns, no packet meets its program.
///
/// # Errors
///
/// It is no link, or one that cannot be detached.
pub(in crate::dataplane) fn detach(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get =
        ObjGet { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
    let link = open(BPF_OBJ_GET, &get)?;
    bpf(BPF_LINK_DETACH, &LinkDetach { link: link.as_raw_fd() }).map(drop)
}

/// A command that opens something.
fn open<T>(command: libc::c_int, arguments: &T) -> io::Result<OwnedFd> {
    let opened = RawFd::try_from(bpf(command, arguments)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

fn bpf<T>(command: libc::c_int, arguments: &T) -> io::Result<libc::c_long> {
    let arguments: *const T = arguments;
    // SAFETY: the kernel reads as many bytes as it is told, all of them of `arguments`, and the
    // text that they may point to, which lives as long as the call. It writes nothing.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, arguments, size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
