//! The table of TCP flows in the kernel: [`weir_ebpf::flow_table`] on the map `FLOWS`.

use core::arch::asm;

use weir_ebpf::abi::{FLOW_BUCKET, FlowBucket, FlowEntry, FlowKey};
use weir_ebpf::decide::Remembered;
use weir_ebpf::flow_table::{Bucket, Flow, Key, Table, is_live};
use weir_ebpf::opaque::masked;

use crate::atomic::compare_exchange;
use crate::maps::FLOWS;

/// How often a change of an entry is tried.
const CHANGES: usize = 3;
/// What [`flow_replace`] says: it is done; it cannot be. Both are even.
const DONE: u64 = 0;
const GONE: u64 = 2;

/// The entry of a flow, for as long as the program runs: where its word is, and what was there.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    at: *mut u64,
    pub(crate) word: u64,
}

/// The entry of a flow, if it is remembered.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<Entry> {
    Entry::at(flow_find(key, 0))
}

/// Notes what the server of a flow at this backend has shown, if it is remembered.
#[inline(always)]
pub(crate) fn answer(key: &FlowKey, backend: u16, shows: u8) {
    if let Some(entry) = find(key) {
        flow_answer(entry.at, backend.into(), shows.into());
    }
}

/// Remembers a flow. Gives its entry, if it had one.
///
/// # Errors
///
/// There is no room.
#[inline(always)]
pub(crate) fn insert(key: &FlowKey, entry: FlowEntry) -> Result<Option<Entry>, ()> {
    let number = flow_put(key, entry.word());
    if number == 0 {
        return Err(());
    }
    let twin = flow_find(key, number);
    if twin == 0 || flow_alone(key, number, twin) != 0 {
        return Ok(None);
    }
    Ok(Entry::at(twin))
}

// These could be called by others, too, for the verifier walks such a function once, and not for each
// way that leads to it. And what they take of the stack is free again when they return.

/// The number of a flow's place in the whole table, or zero. One place is not looked at.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_find(key: *const FlowKey, but: u64) -> u64 {
    // SAFETY: an element of a map, or nothing.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    let found = flow(key).and_then(|flow| flow.find(&Flows, but as u32));
    found.map_or(0, |found| found.number.into())
}

/// Puts a flow in. The number of its place, or zero: there is no room.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_put(key: *const FlowKey, word: u64) -> u64 {
    // SAFETY: as above.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    let put = flow(key).and_then(|flow| flow.put(&Flows, FlowEntry::from_word(word)));
    put.map_or(0, u64::from)
}

/// Leaves one of two entries of a flow. One: it is that of the first number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_alone(key: *const FlowKey, this: u64, twin: u64) -> u64 {
    // SAFETY: as above.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    flow(key).map_or(0, |flow| flow.alone(&Flows, this as u32, twin as u32).into())
}

/// Changes an entry by what its client shows at this second.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_touch(at: *mut u64, shows: u64, seen: u64) -> u64 {
    if at.is_null() {
        return 0;
    }
    change(at, |flow| FlowEntry { client: flow.client | shows as u8, seen: seen as u32, ..flow });
    0
}

/// Changes an entry by what its server shows, which is this backend.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_answer(at: *mut u64, backend: u64, shows: u64) -> u64 {
    if at.is_null() {
        return 0;
    }
    change(at, |flow| {
        // A late packet of the flow that had this key before is not this flow's.
        let server = if flow.backend == backend as u16 { shows as u8 } else { 0 };
        FlowEntry { server: flow.server | server, ..flow }
    });
    0
}

/// Puts an entry in place of another, of a flow that has ended. One of the two above, or the backend
/// that another processor has put there, with a one after it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_replace(at: *mut u64, old: u64, new: u64) -> u64 {
    if at.is_null() {
        return GONE;
    }
    let mut old = old;
    // Once more if only a late packet of the old flow came between.
    for _ in 0..2 {
        // SAFETY: a word of an element.
        let found = unsafe { compare_exchange(at, old, new) };
        if found == old {
            return DONE;
        }
        if !is_live(found) {
            return GONE;
        }
        let (now, before) = (FlowEntry::from_word(found), FlowEntry::from_word(old));
        if now.backend != before.backend {
            return u64::from(now.backend) << 1 | 1;
        }
        old = found;
    }
    GONE
}

/// Changes what an entry says of its flow, by what is there, unless it goes at this moment. Writes
/// only what differs, so that a busy flow does not dirty the line with every packet.
#[inline(always)]
fn change(at: *mut u64, changed: impl Fn(FlowEntry) -> FlowEntry) {
    // SAFETY: a word of an element.
    let mut old = unsafe { at.read_volatile() };
    // The other side of the flow may change it at this moment.
    for _ in 0..CHANGES {
        if !is_live(old) {
            return;
        }
        let new = changed(FlowEntry::from_word(old)).word();
        if new == old {
            return;
        }
        // SAFETY: as above.
        let found = unsafe { compare_exchange(at, old, new) };
        if found == old {
            return;
        }
        old = found;
    }
}

#[inline(always)]
fn flow(key: &FlowKey) -> Option<Flow<'_>> {
    // SAFETY: a live element, of which the agent writes this part once, before it is used.
    let head = unsafe { &*FLOWS.get_ptr(0)? };
    // SAFETY: its words are the flow's bytes, and lie as words must.
    let key = unsafe { &*core::ptr::from_ref(key).cast::<Key>() };
    Some(Flow::new(&head.keys[0], head.entries[0] as u32, key))
}

impl Entry {
    /// The entry in an element of the table of UDP flows. The table is preallocated, so it stays
    /// mapped; one that is recycled meanwhile gives another flow's backend for one packet, as if it
    /// had been looked up a moment later.
    #[inline(always)]
    pub(crate) fn of_element(at: *mut u64) -> Self {
        // SAFETY: a live element, an aligned word.
        Self { at, word: unsafe { at.read_volatile() } }
    }

    /// Notes what the client has shown, and that it spoke at this second.
    #[inline(always)]
    pub(crate) fn touch(self, shows: u8, seen: u32) {
        flow_touch(self.at, shows.into(), seen.into());
    }

    /// Puts `new` in place of a flow that has ended, unless it changes at this moment.
    #[inline(always)]
    pub(crate) fn replace(self, new: FlowEntry) -> Remembered {
        match flow_replace(self.at, self.word, new.word()) {
            DONE => Remembered::Yes,
            GONE => Remembered::Full,
            already => Remembered::Already((already >> 1) as u16),
        }
    }

    /// The entry in this place of the whole table, unless it has gone meanwhile. One that came into
    /// its place gives another flow's backend for one packet, as above.
    #[inline(always)]
    fn at(number: u64) -> Option<Self> {
        if number == 0 {
            return None;
        }
        let bucket = Flows.bucket((number / 8) as u32)?;
        let at = bucket.word(number as usize % 8);
        // SAFETY: an aligned word of the element.
        let word = unsafe { at.read_volatile() };
        is_live(word).then_some(Self { at, word })
    }
}

/// The map.
struct Flows;

impl Table for Flows {
    type Bucket = At;

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<At> {
        FLOWS.get_ptr_mut(number).map(At)
    }
}

/// A bucket of it: a live element, for elements of an array are never freed. A place is cut to what
/// the verifier takes for granted; of the one beyond a bucket's, entry and key lie within it, too.
struct At(*mut FlowBucket);

impl At {
    #[inline(always)]
    fn word(&self, place: usize) -> *mut u64 {
        // SAFETY: within the element, as above.
        unsafe { (&raw mut (*self.0).entries).cast::<u64>().add(masked::<7>(place)) }
    }

    #[inline(always)]
    fn key(&self, place: usize) -> *mut Key {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).keys).cast::<Key>().add(masked::<7>(place)) }
    }
}

impl Bucket for At {
    #[inline(always)]
    fn entry(&self, place: usize) -> u64 {
        // SAFETY: an aligned word of the element, which others write whole.
        unsafe { self.word(place).read_volatile() }
    }

    #[inline(always)]
    fn exchange(&self, place: usize, old: u64, new: u64) -> u64 {
        // SAFETY: an aligned word of the element.
        unsafe { compare_exchange(self.word(place), old, new) }
    }

    #[inline(always)]
    fn has(&self, place: usize, key: &Key) -> bool {
        let there: *const u32 = self.key(place).cast();
        for i in 0..key.len() {
            // SAFETY: aligned words of the element. Whoever reads a key that is being written finds
            // that its entry has changed. The flow's own are read each time, too, and none before it
            // is asked for: there is no room on the stack to keep them.
            let (one, other) =
                unsafe { (there.add(i).read_volatile(), key.as_ptr().add(i).read_volatile()) };
            if one != other {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn fill(&self, place: usize, key: &Key, mark: u8) {
        // SAFETY: the key and the mark of a place that is claimed: nobody else writes them.
        unsafe {
            let there: *mut u32 = self.key(place).cast();
            for i in 0..key.len() {
                there.add(i).write_volatile(key.as_ptr().add(i).read_volatile());
            }
            (&raw mut (*self.0).marks).cast::<u8>().add(masked::<7>(place)).write(mark);
        }
    }

    #[inline(always)]
    fn marks(&self) -> u64 {
        // SAFETY: an aligned word of the element. The byte of a place that is being filled may be old
        // or new: its entry is nobody's yet.
        u64::from_le(unsafe { (&raw const (*self.0).marks).read_volatile() })
    }

    #[inline(always)]
    fn taken(&self) -> u64 {
        let mut taken = 0_u64;
        for place in 0..FLOW_BUCKET {
            // SAFETY: an aligned word of the element. The instructions change registers only: without
            // a branch, which the compiler would make of a comparison: of so many there are more ways
            // than the verifier walks.
            unsafe {
                let word = (&raw const (*self.0).entries[place]).read_volatile();
                asm!("{bit} = -{bit}", "{bit} |= {word}", "{bit} >>= 63", "{bit} <<= 55",
                    "{taken} >>= 8", "{taken} |= {bit}", bit = inout(reg) word => _,
                    word = in(reg) word, taken = inout(reg) taken, options(nomem, nostack));
            }
        }
        taken
    }
}
