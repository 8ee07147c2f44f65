//! A balancer as it is in textbooks, and no more of it than must be: a hash table of listeners, a
//! table of connections that forgets those least recently used, a ring for those that are not in it,
//! a counter for the listener and one for the backend on each processor, and IP in IP. IPv4 and TCP,
//! no options, no fragments, no tags; no MTU, no next hop but the router that the packet came from.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use weir_ebpf::bench::{
    ConnectionKey, KNOWN, ListenerKey, RING, TEXTBOOK_BACKENDS, TEXTBOOK_SERVICES, endpoint,
};
use weir_ebpf::checksum::fold;
use weir_ebpf::unaligned::{load16, load32, store16, store32};

use crate::floor::{self, HEADERS};
use crate::place;

const TCP: u8 = 6;
const SYN: u8 = 2;
/// Bytes of the outer header.
const OUTER: usize = 20;
/// Ethernet.
const ETHERNET: usize = 14;

/// Listeners, and the index of each.
#[btf_map]
static BOOK_LISTENERS: HashMap<ListenerKey, u32, TEXTBOOK_SERVICES> = HashMap::new();

/// Connections: the backend of each, and its packets.
#[btf_map]
static BOOK_KNOWN: LruHashMap<ConnectionKey, [u32; 2], KNOWN> = LruHashMap::new();

/// Backends by what connections hash to. One ring for all listeners.
#[btf_map]
static BOOK_RING: Array<u32, RING> = Array::new();

/// Addresses of backends; of IPv4 in the first word.
#[btf_map]
static BOOK_BACKENDS: Array<[u32; 4], TEXTBOOK_BACKENDS> = Array::new();

/// Packets and bytes of listeners.
#[btf_map]
static BOOK_OF_LISTENER: PerCpuArray<[u64; 2], TEXTBOOK_SERVICES> = PerCpuArray::new();

/// Packets and bytes of backends.
#[btf_map]
static BOOK_OF_BACKEND: PerCpuArray<[u64; 2], TEXTBOOK_BACKENDS> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    balance(context).unwrap_or(XDP_DROP)
}

#[inline(always)]
fn balance(context: &XdpContext) -> Option<u32> {
    let Some(start) = place::start::<HEADERS>(context) else { return Some(XDP_PASS) };
    // SAFETY: the bounds are checked, here and in all that follows up to `encapsulate`.
    if !unsafe { floor::is_plain_tcp(start) } {
        return Some(XDP_PASS);
    }
    // SAFETY: as above.
    let (source, destination, ports, flags, length) = unsafe {
        (
            load32::<26>(start),
            load32::<30>(start),
            load32::<34>(start),
            start.add(47).read(),
            load16::<16>(start),
        )
    };
    let bytes = (context.data_end() - context.data()) as u64;
    let listener = [destination, 0, 0, 0, endpoint((ports >> 16) as u16, TCP)];
    // SAFETY: nobody writes this map during a run.
    let Some(listener) = (unsafe { BOOK_LISTENERS.get(&listener) }).copied() else {
        return Some(XDP_PASS);
    };
    let key = [source, 0, 0, 0, destination, 0, 0, 0, ports, u32::from(TCP)];
    let known = if flags & SYN == 0 { BOOK_KNOWN.get_ptr_mut(&key) } else { None };
    let backend = if let Some(known) = known {
        // SAFETY: a live element; a count that another processor overwrites is no matter.
        unsafe {
            (*known)[1] += 1;
            (*known)[0]
        }
    } else {
        let backend = *BOOK_RING.get(hash(source, destination, ports) % RING as u32)?;
        BOOK_KNOWN.insert(&key, &[backend, 1], 0).ok()?;
        backend
    };
    let address = BOOK_BACKENDS.get(backend)?[0];
    count(BOOK_OF_LISTENER.get_ptr_mut(listener)?, bytes);
    count(BOOK_OF_BACKEND.get_ptr_mut(backend)?, bytes);
    encapsulate(context, destination, address, u16::from_be(length))
}

/// A hash that is quick, and no more.
#[inline(always)]
fn hash(source: u32, destination: u32, ports: u32) -> u32 {
    let mut hash = source ^ destination.rotate_left(16) ^ ports.rotate_left(8);
    for factor in [0x85eb_ca6b_u32, 0xc2b2_ae35] {
        hash = (hash ^ hash >> 15).wrapping_mul(factor);
    }
    hash ^ hash >> 16
}

#[inline(always)]
fn count(counter: *mut [u64; 2], bytes: u64) {
    // SAFETY: a live element of this processor alone.
    unsafe {
        (*counter)[0] += 1;
        (*counter)[1] += bytes;
    }
}

#[inline(always)]
fn encapsulate(context: &XdpContext, from: u32, to: u32, length: u16) -> Option<u32> {
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(context.ctx, -(OUTER as i32)) } != 0 {
        return None;
    }
    let start = place::start::<{ HEADERS + OUTER }>(context)?;
    let [high, low] = (length + OUTER as u16).to_be_bytes();
    let mut words = [
        u32::from_ne_bytes([0x45, 0, high, low]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([64, 4, 0, 0]),
        from,
        to,
    ];
    let sum = fold(words.iter().map(|word| u64::from(*word)).sum());
    let [high, low] = (!sum).to_ne_bytes();
    words[2] = u32::from_ne_bytes([64, 4, high, low]);
    // SAFETY: the bounds are checked.
    unsafe {
        place::swap_macs(start.add(OUTER), start);
        store16(start.add(12), load16::<{ 12 + OUTER as i16 }>(start));
        for (at, word) in words.iter().enumerate() {
            store32(start.add(ETHERNET + 4 * at), *word);
        }
    }
    Some(XDP_TX)
}
