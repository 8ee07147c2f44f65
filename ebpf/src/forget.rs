//! Forgetting flows, for the agent: each entry is removed only if it is still what the agent has
//! judged, which a removal from outside cannot promise. A flow that begins anew in its place at
//! the same moment stays.

use core::mem::size_of;

use aya_ebpf::programs::XdpContext;
use weir_ebpf::abi::{FORGET_BATCH, FlowEntry, Forget};

use crate::atomic::compare_exchange;
use crate::maps::FLOWS;

/// Goes through the list that stands where a frame would, and gives the number of flows forgotten.
#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    let mut forgotten = 0;
    for i in 0..FORGET_BATCH {
        let Some(flow) = at(context, i) else { break };
        let Some(place) = FLOWS.get_ptr_mut(&flow.key) else { continue };
        let tombstone = FlowEntry::TOMBSTONE.word();
        // SAFETY: a live element of eight aligned bytes.
        if unsafe { compare_exchange(place.cast(), flow.entry, tombstone) } == flow.entry {
            forgotten += u32::from(FLOWS.remove(&flow.key).is_ok());
        }
    }
    forgotten
}

/// A flow of the list.
#[inline(always)]
fn at(context: &XdpContext, i: usize) -> Option<&Forget> {
    let start = context.data() + i * size_of::<Forget>();
    if start + size_of::<Forget>() > context.data_end() {
        return None;
    }
    // SAFETY: the bounds are checked above, and any bytes are a valid `Forget`. A frame of a test run
    // begins at a whole word, and nobody writes to it.
    Some(unsafe { &*(start as *const Forget) })
}
