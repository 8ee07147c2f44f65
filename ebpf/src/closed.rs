//! Flows that are over, told to the agent, so that it need not look at all flows to find them.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use weir_ebpf::abi::{FlowEntry, FlowKey, Forget};

use crate::maps::CLOSED;

/// Tells of a flow whose entry says that it is over, each time that the entry changes. Where the ring
/// is full nothing is told, and the agent comes by the flow when it looks at all.
#[inline(always)]
pub(crate) fn tell(key: &FlowKey, entry: FlowEntry) {
    if let Some(mut record) = CLOSED.reserve(0) {
        record.write(Forget { key: *key, entry: entry.word() });
        // The agent looks in time.
        record.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
}
