//! The layout of a version's backend table: weighted rendezvous, then exact quotas.
//!
//! *Claims.* Each backend claims pseudo-random cells, the k-th claim at a time proportional to
//! k / weight, and the earliest claim on a cell wins. A backend that leaves frees the cells that
//! it won and no others; one that comes takes only what it wins.
//!
//! *Quotas.* Each backend's number of slots is then made exact: those above their quota shed the
//! slots they won last, and those below take them.
//!
//! *Cells.* A table has about a hundred cells for each backend, and its size is the next power of
//! two. Cells double one by one as backends come (Litwin's linear hashing, 1980): where a cell has
//! not split yet, two slots share it. If all split at once where the size doubles, then the one
//! backend that crosses the line would move half of the table. So losing one of n moves 1.0 to 2.7
//! times 1/n of the slots for n up to 64, wherever the size changes.

use sha2::{Digest as _, Sha256};
use weir_ebpf::abi::{MAX_BACKEND_SLOTS, MAX_BACKENDS, MIN_BACKEND_SLOTS, NO_BACKEND};

use super::identity::Identity;

/// Cells for each backend, until the largest table is reached.
const CELLS_PER_BACKEND: usize = 100;
const MIN_SLOTS: usize = MIN_BACKEND_SLOTS as usize;
const MAX_SLOTS: usize = MAX_BACKEND_SLOTS as usize;
/// Periods of claims. In each there are about as many claims as slots, so a cell is left over
/// after all of them with a chance of e^-64.
const PERIODS: u64 = 64;

/// A backend that may get slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Who it is. Distinct within a version.
    pub identity: Identity,
    /// Its weight inside the version, at most 1 000. Zero: it gets no slot.
    pub weight: u32,
}

/// What a backend table shall hold, in terms that hold on every node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The backends with a weight, by identity.
    pub backends: Vec<Identity>,
    /// For each slot an ordinal in `backends`, or [`NO_BACKEND`] in all slots when there are none.
    /// Its length is a power of two from [`MIN_BACKEND_SLOTS`] to [`MAX_BACKEND_SLOTS`].
    pub slots: Box<[u16]>,
}

/// One backend during the filling.
struct Claimant {
    weight: u64,
    /// Start of its pseudo-random sequence.
    key: u64,
    /// Slots it must end up with.
    quota: usize,
}

/// Who won a slot, and when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    time: u64,
    claimant: u16,
}

const UNCLAIMED: Claim = Claim { time: u64::MAX, claimant: NO_BACKEND };

/// Lays out a version's backend table. The order of `candidates` is irrelevant. At most
/// [`MAX_BACKENDS`] of them can be told apart in a slot; more are not looked at.
#[must_use]
pub fn lay_out(seed: [u8; 16], candidates: &[Candidate]) -> Layout {
    let mut chosen: Vec<Candidate> = candidates.iter().filter(|c| c.weight > 0).copied().collect();
    chosen.sort_unstable_by_key(|c| (c.identity, c.weight));
    chosen.truncate(MAX_BACKENDS as usize);
    let cells = (chosen.len() * CELLS_PER_BACKEND).clamp(MIN_SLOTS, MAX_SLOTS);
    let claimants = claimants(seed, &chosen, cells.next_power_of_two());
    let slots = match claimants.len() {
        0 => vec![NO_BACKEND; MIN_SLOTS],
        1 => vec![0; MIN_SLOTS],
        _ => fill(&claimants, cells),
    };
    Layout { backends: chosen.iter().map(|c| c.identity).collect(), slots: slots.into() }
}

/// Slots of a table that many cells lie in.
fn fill(claimants: &[Claimant], cells: usize) -> Vec<u16> {
    let size = cells.next_power_of_two();
    let claims = claim(claimants, cells);
    let won: Vec<Claim> = (0..size).map(|slot| claims[cell(slot, cells)]).collect();
    let mut slots: Vec<u16> = won.iter().map(|claim| claim.claimant).collect();
    let (free, needs) = shed(claimants, &won);
    hand_out(claimants, cells, free, needs, &mut slots);
    slots
}

/// The cell that a slot lies in. A slot above the last cell shares the cell half a table below.
fn cell(slot: usize, cells: usize) -> usize {
    if slot < cells { slot } else { slot - cells.next_power_of_two() / 2 }
}

/// The claimants, ordered as their candidates, with exact quotas by largest remainder; ties go to
/// the lower identity. Each is within one slot of its share.
fn claimants(seed: [u8; 16], chosen: &[Candidate], size: usize) -> Vec<Claimant> {
    let total = chosen.iter().map(|c| c.weight as usize).sum::<usize>().max(1);
    let mut claimants: Vec<Claimant> = chosen
        .iter()
        .map(|c| Claimant {
            weight: u64::from(c.weight),
            key: key(seed, &c.identity),
            quota: c.weight as usize * size / total,
        })
        .collect();
    let mut by_remainder: Vec<usize> = (0..chosen.len()).collect();
    // The sort is stable, and the candidates stand in the order of their identities.
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(chosen[i].weight as usize * size % total));
    let missing = size - claimants.iter().map(|c| c.quota).sum::<usize>();
    for &i in by_remainder.iter().take(missing) {
        claimants[i].quota += 1;
    }
    claimants
}

/// Where a backend's pseudo-random sequence starts: not to be foreseen without the seed.
fn key(seed: [u8; 16], identity: &Identity) -> u64 {
    let digest = Sha256::new().chain_update(seed).chain_update(identity.bytes()).finalize();
    digest.iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
}

/// The earliest claim on each cell. Claims that come after the last cell is taken win nothing, so
/// the length of a period changes the time this takes, never the result.
fn claim(claimants: &[Claimant], cells: usize) -> Vec<Claim> {
    let size = cells.next_power_of_two();
    let mut won = vec![UNCLAIMED; cells];
    let mut left = cells;
    let mut next = vec![0u64; claimants.len()];
    let total: u64 = claimants.iter().map(|c| c.weight).sum();
    // A backend of weight w claims w times in 2^40 units of time: a claim's time fits in 64 bits,
    // since none claims more than 64 × 65 536 = 2^22 times.
    let period = ((size as u64) << 40) / total;
    for end in (1..=PERIODS).map(|n| n * period) {
        for (claimant, next) in (0u16..).zip(&mut next) {
            let c = &claimants[usize::from(claimant)];
            loop {
                let random = mix(c.key ^ mix(*next));
                let time = (*next << 40 | random >> 32 << 8) / c.weight;
                if time >= end {
                    break;
                }
                *next += 1;
                let cell = cell(low(random) & (size - 1), cells);
                left -= usize::from(won[cell] == UNCLAIMED);
                won[cell] = won[cell].min(Claim { time, claimant });
            }
        }
        if left == 0 {
            break;
        }
    }
    won
}

/// Slots that are free because nobody claimed them or their winner is above its quota, and who is
/// below its quota by how much. Both add up to the same.
fn shed(claimants: &[Claimant], won: &[Claim]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut by_claimant = vec![Vec::new(); claimants.len()];
    let mut free = Vec::new();
    for (slot, claim) in won.iter().enumerate() {
        match by_claimant.get_mut(usize::from(claim.claimant)) {
            Some(slots) => slots.push((claim.time, slot)),
            None => free.push(slot),
        }
    }
    let mut needs = Vec::new();
    for (i, (slots, c)) in by_claimant.iter_mut().zip(claimants).enumerate() {
        slots.sort_unstable();
        free.extend(slots.iter().skip(c.quota).map(|&(_, slot)| slot));
        if slots.len() < c.quota {
            needs.push((i, c.quota - slots.len()));
        }
    }
    (free, needs)
}

/// Gives each free slot to that one of the needy whose hash with the slot's cell is highest. The
/// two slots of one cell go the same way, so that it matters little when the cell splits.
fn hand_out(
    claimants: &[Claimant],
    cells: usize,
    mut free: Vec<usize>,
    mut needs: Vec<(usize, usize)>,
    slots: &mut [u16],
) {
    free.sort_unstable_by_key(|&slot| (mix(cell(slot, cells) as u64), slot));
    for slot in free {
        let salt = mix(!(cell(slot, cells) as u64));
        let highest = (0..needs.len()).max_by_key(|&n| mix(claimants[needs[n].0].key ^ salt));
        let Some(n) = highest else { break };
        let (claimant, need) = &mut needs[n];
        slots[slot] = u16::try_from(*claimant).unwrap_or(NO_BACKEND);
        *need -= 1;
        if *need == 0 {
            needs.swap_remove(n);
        }
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, 2014): a bijection that mixes well.
fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The low 16 bits: enough for a slot.
fn low(random: u64) -> usize {
    (random & 0xffff) as usize
}
