//! Lines for the agent's log, for who looks into the program itself. The level is set before the
//! program is loaded; what is above it the verifier finds unreachable, and leaves out.

use aya_log_ebpf::macro_support::Level;
use aya_log_ebpf::{debug, log};
use weir_ebpf::abi::{HOOK_XDP, Reason};

use crate::trace::Traceable;

/// A packet is dropped: an error where that should never be.
#[inline(always)]
pub(crate) fn dropped<F: Traceable>(frame: &F, reason: Reason) {
    let fault = matches!(reason, Reason::NoTable | Reason::Rewrite);
    let level = if fault { Level::Error } else { Level::Info };
    let (interface, reason) = (frame.came_by(), reason as u32);
    if F::HOOK == HOOK_XDP {
        log!(frame, level, "xdp dropped a packet from interface {}: reason {}", interface, reason);
    } else {
        log!(frame, level, "tc dropped a packet from interface {}: reason {}", interface, reason);
    }
}

/// A flow was put into a flow table.
#[inline(always)]
pub(crate) fn remembered<F: Traceable>(frame: &F, service: u32, backend: u16) {
    debug!(frame, "remembered a flow of service {} at backend {}", service, backend);
}
