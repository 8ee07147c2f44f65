//! The harness. The kernel repeats a program over one buffer, in which each run meets what the one
//! before has left. So each run begins by undoing it: the beginning of the frame goes back to where it
//! was, and over the headers are written those of the next flow. Both cost the same whatever ran before.

use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use weir_ebpf::bench::{FIRST, FRAME_LEN, FRAME_SKIPS, FRAME_WORDS, MASK, RUNS, TARGET};
use weir_ebpf::unaligned::store16;

use crate::place;

/// `BPF_F_MMAPABLE`.
const MMAPABLE: usize = 1024;

/// The headers of each flow: the benchmark writes. It says how many there are.
#[btf_map]
static FRAMES: Array<[u64; FRAME_WORDS], 1, MMAPABLE> = Array::new();

/// Which of them are at hand: the benchmark writes, and the harness counts its runs.
#[btf_map]
static STATE: Array<[u64; 8], 1, MMAPABLE> = Array::new();

/// The program under test.
#[btf_map]
static TARGETS: ProgramArray<1> = ProgramArray::new();

#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    prepare(context);
    // Where there is no such program, or the frame could not be put back.
    XDP_ABORTED
}

#[inline(always)]
fn prepare(context: &XdpContext) -> Option<()> {
    let state = STATE.get_ptr_mut(0)?;
    // SAFETY: a live element, which nobody else writes during a run.
    let index = unsafe {
        let runs = (*state)[RUNS];
        (*state)[RUNS] = runs + 1;
        (*state)[FIRST] + (runs & (*state)[MASK])
    };
    let headers = FRAMES.get(index as u32)?;
    let grown = (context.data_end() - context.data()) as i32 - FRAME_LEN as i32;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(context.ctx, grown) } != 0 {
        return None;
    }
    let start = place::start::<{ FRAME_WORDS * 8 - FRAME_SKIPS }>(context)?;
    let (first, others) = headers.split_first()?;
    // SAFETY: the bounds are checked.
    unsafe { store16(start, (*first >> (8 * FRAME_SKIPS)) as u16) };
    for (at, word) in others.iter().enumerate() {
        // SAFETY: the bounds are checked.
        unsafe { place::store64(start.add(8 - FRAME_SKIPS + 8 * at), *word) };
    }
    // SAFETY: the context is the program's own.
    unsafe { TARGETS.tail_call(context, TARGET) };
    None
}
