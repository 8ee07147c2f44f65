//! Lines for the agent's log, for who looks into the program itself. The level is set before the
//! program is loaded; what is above it the verifier finds unreachable, and leaves out.

use aya_log_ebpf::macro_support::{Level, level_enabled};
use aya_log_ebpf::{debug, log};
use weir_ebpf::abi::{HOOK_XDP, Reason};

use crate::trace::Traceable;

/// A packet is dropped: an error where that should never be.
#[inline(always)]
pub(crate) fn dropped<F: Traceable>(frame: &F, reason: Reason) {
    let fault = matches!(reason, Reason::NoTable | Reason::Rewrite);
    if level_enabled(Level::Info) || fault && level_enabled(Level::Error) {
        log_dropped(
            u64::from(F::HOOK),
            u64::from(frame.came_by()),
            reason as u64,
            u64::from(fault),
        );
    }
}

/// A flow was put into a flow table.
#[inline(always)]
pub(crate) fn remembered(service: u32, backend: u16) {
    if level_enabled(Level::Debug) {
        log_remembered(u64::from(service), u64::from(backend));
    }
}

// Functions of the kind that the verifier walks once, not for each way that leads to them; see
// `signal`.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_dropped(hook: u64, interface: u64, reason: u64, fault: u64) -> u64 {
    let level = if fault != 0 { Level::Error } else { Level::Info };
    if hook == u64::from(HOOK_XDP) {
        log!((), level, "xdp dropped a packet from interface {}: reason {}", interface, reason);
    } else {
        log!((), level, "tc dropped a packet from interface {}: reason {}", interface, reason);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_remembered(service: u64, backend: u64) -> u64 {
    debug!((), "remembered a flow of service {} at backend {}", service, backend);
    0
}
