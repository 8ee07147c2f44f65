//! Steering: which prefixes of clients' addresses go to which version, as rules and as entries.
//!
//! An entry is to its prefix what a slot is to its hash: `cur`, `base` and `tracked`, where either
//! version may be [`BY_TABLE`]. A flow belongs to the entry that its client's address matches
//! longest. A change of rules moves entries as a shift moves slots, by the same two rules: what
//! moves keeps its oldest `base` and is tracked, also when it moves back.
//!
//! *Settling.* With [`BY_TABLE`] an entry and a version slot decide together, so they can agree by
//! chance, and then `decide` remembers nothing. So the version table and the entries of a service
//! have one clock: they settle together, after neither has moved for as long as a flow may be
//! silent.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use weir_ebpf::abi::{Address, BY_TABLE, SteerSlot, VERSIONS};

/// A prefix of addresses. IPv4 is mapped into IPv6: 96 bits more. Ordered so that a prefix stands
/// before all those within it, and these before whatever follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// The first address, the first bit highest.
    bits: u128,
    /// Bits that count, 0 to 128.
    length: u8,
}

impl Prefix {
    /// The prefix of so many bits of an address, at most 128. The other bits do not count.
    #[must_use]
    pub fn new(address: Address, length: u8) -> Self {
        let length = length.min(128);
        Self { bits: bits(address) & mask(length), length }
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> Address {
        Address::from_v6(self.bits.to_be_bytes())
    }

    /// The bits that count, set.
    #[must_use]
    pub fn mask(self) -> Address {
        Address::from_v6(mask(self.length).to_be_bytes())
    }

    /// Bits that count, 0 to 128.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether every address of `other` is one of this prefix.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.length <= other.length && other.bits & mask(self.length) == self.bits
    }
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        let (address, mapped) = match net.addr() {
            IpAddr::V4(v4) => (Address::from_v4(v4.octets()), 96),
            IpAddr::V6(v6) => (Address::from_v6(v6.octets()), 0),
        };
        Self::new(address, mapped + net.prefix_len())
    }
}

fn bits(address: Address) -> u128 {
    address.0.iter().fold(0, |bits, word| bits << 32 | u128::from(u32::from_be(*word)))
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// The rules of a service: for each prefix the version that its clients go to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Ordered. None says what the next larger prefix says.
    list: Arc<[(Prefix, u8)]>,
    digest: [u8; 32],
}

impl Rules {
    /// The rules, in any order. Of two for one prefix the first counts.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = (Prefix, u8)>) -> Self {
        let mut all: Vec<(Prefix, u8)> = rules.into_iter().collect();
        all.sort_by_key(|(prefix, _)| *prefix);
        all.dedup_by_key(|(prefix, _)| *prefix);
        let mut above = Above::default();
        all.retain(|&(prefix, version)| {
            let new = above.at(prefix).unwrap_or(BY_TABLE) != version;
            if new {
                above.push(prefix, version);
            }
            new
        });
        let mut sum = Sha256::new();
        for (prefix, version) in &all {
            sum.update(prefix.bits.to_be_bytes());
            sum.update([prefix.length, *version]);
        }
        Self { list: all.into(), digest: sum.finalize().into() }
    }

    /// The rules without those for some versions.
    #[must_use]
    pub fn without(&self, versions: [bool; VERSIONS]) -> Self {
        let leads = |rule: &&(Prefix, u8)| versions.get(usize::from(rule.1)).copied();
        if !self.list.iter().any(|rule| leads(&rule) == Some(true)) {
            return self.clone();
        }
        Self::new(self.list.iter().filter(|rule| leads(rule) != Some(true)).copied())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// SHA-256 over each rule in order: 16 bytes of address, the length, the version.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// The prefixes that contain the one a walk in order stands at, with what each says.
struct Above<T>(Vec<(Prefix, T)>);

impl<T> Default for Above<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Above<T> {
    /// What the smallest of them says, once those are left that do not contain `prefix`.
    fn at(&mut self, prefix: Prefix) -> Option<T> {
        while self.0.pop_if(|(last, _)| !last.contains(prefix)).is_some() {}
        self.0.last().map(|(_, says)| *says)
    }

    fn push(&mut self, prefix: Prefix, says: T) {
        self.0.push((prefix, says));
    }
}

/// An entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The clients.
    pub prefix: Prefix,
    /// Where their flows go. Not tracked: `base` is `cur`.
    pub slot: SteerSlot,
}

/// The steering entries of a service as they are in the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Steering {
    /// Ordered by prefix.
    entries: Box<[Entry]>,
    /// For each entry the smallest one that contains it.
    parents: Box<[Option<u32>]>,
}

impl Steering {
    /// Entries in any order, each prefix once. Those that say what the next larger one says anyway
    /// are left out.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.prefix);
        let mut above = Above::default();
        entries.retain(|entry| {
            let parent = above.at(entry.prefix).unwrap_or(SteerSlot::TABLE);
            let settled = SteerSlot::new(parent.cur(), parent.base(), false);
            let same = entry.slot == parent || entry.slot == settled;
            if !same {
                above.push(entry.prefix, entry.slot);
            }
            !same
        });
        let mut above = Above::default();
        let parents = (0_u32..).zip(&entries).map(|(index, entry)| {
            let parent = above.at(entry.prefix);
            above.push(entry.prefix, index);
            parent
        });
        Self { parents: parents.collect(), entries: entries.into() }
    }

    /// The entries of a service that had none: a new service moves nothing.
    #[must_use]
    pub fn first(rules: &Rules) -> Self {
        let entry = |&(prefix, version): &(Prefix, u8)| Entry {
            prefix,
            slot: SteerSlot::new(version, version, false),
        };
        Self::new(rules.list.iter().map(entry).collect())
    }

    /// Leads to other rules, and says how many prefixes that moves.
    #[must_use]
    pub fn lead(&self, rules: &Rules) -> (Self, u32) {
        let (mut was, mut says) = (Above::default(), Above::default());
        let (mut old, mut new) =
            (self.entries.iter().peekable(), rules.list.iter().copied().peekable());
        let (mut entries, mut moved) = (Vec::new(), 0);
        loop {
            let prefix = match (old.peek(), new.peek()) {
                (Some(entry), Some((prefix, _))) => entry.prefix.min(*prefix),
                (Some(entry), None) => entry.prefix,
                (None, Some((prefix, _))) => *prefix,
                (None, None) => break,
            };
            let (mut slot, mut to) = (was.at(prefix), says.at(prefix));
            if let Some(entry) = old.next_if(|entry| entry.prefix == prefix) {
                was.push(prefix, entry.slot);
                slot = Some(entry.slot);
            }
            if let Some((_, version)) = new.next_if(|(other, _)| *other == prefix) {
                says.push(prefix, version);
                to = Some(version);
            }
            let (slot, to) = (slot.unwrap_or(SteerSlot::TABLE), to.unwrap_or(BY_TABLE));
            moved += u32::from(slot.cur() != to);
            entries.push(Entry { prefix, slot: move_slot(slot, to) });
        }
        (Self::new(entries), moved)
    }

    /// The entries, ordered by prefix.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The rules that the entries come to.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules::new(self.entries.iter().map(|entry| (entry.prefix, entry.slot.cur())))
    }

    /// Whether the flows of any entry must be looked up.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.entries.iter().any(|entry| entry.slot.tracked())
    }

    /// The entry that an address matches longest, as an index of [`Steering::entries`].
    #[must_use]
    pub fn find(&self, address: Address) -> Option<usize> {
        let at = Prefix { bits: bits(address), length: 128 };
        let mut next = self.entries.partition_point(|entry| entry.prefix <= at).checked_sub(1);
        while let Some(index) = next {
            if self.entries[index].prefix.contains(at) {
                break;
            }
            next = self.parents[index].map(|parent| parent as usize);
        }
        next
    }

    /// What stands in for the version slot of a client, if anything does.
    #[must_use]
    pub fn slot(&self, client: Address) -> Option<SteerSlot> {
        self.find(client).map(|index| self.entries[index].slot)
    }

    /// First half of the end of a transition, as [`settle`](super::settle::settle) for slots: each
    /// `base` becomes `cur`. Says whether anything changed. To be asked when no slot of the version
    /// table and no entry has moved for as long as a flow may be silent, and together with these
    /// slots.
    pub fn settle(&mut self) -> bool {
        self.change(|_, slot| slot.base() != slot.cur(), |slot| (slot.cur(), true))
    }

    /// Second half, as [`untrack`](super::settle::untrack): each settled entry that is not `pinned`
    /// is tracked no longer. Says whether anything changed.
    pub fn untrack(&mut self, pinned: &dyn Fn(usize) -> bool) -> bool {
        let done =
            |index, slot: SteerSlot| slot.tracked() && slot.base() == slot.cur() && !pinned(index);
        self.change(done, |slot| (slot.base(), false))
    }

    /// An entry whose `base` is a version without any `base` left belongs to `cur`, as a slot does.
    /// `empty` names these versions. Says whether anything changed.
    pub fn leave_empty_bases(&mut self, empty: [bool; VERSIONS]) -> bool {
        let lost = |_, slot: SteerSlot| {
            slot.base() != slot.cur() && empty.get(usize::from(slot.base())) == Some(&true)
        };
        self.change(lost, |slot| (slot.cur(), slot.tracked()))
    }

    /// Gives the entries that are `wanted` another base, and says whether there were any.
    fn change(
        &mut self,
        wanted: impl Fn(usize, SteerSlot) -> bool,
        base: impl Fn(SteerSlot) -> (u8, bool),
    ) -> bool {
        let mut entries = self.entries.to_vec();
        let mut changed = false;
        for (index, Entry { slot, .. }) in entries.iter_mut().enumerate() {
            if wanted(index, *slot) {
                let (base, tracked) = base(*slot);
                *slot = SteerSlot::new(slot.cur(), base, tracked);
                changed = true;
            }
        }
        if changed {
            *self = Self::new(entries);
        }
        changed
    }
}

fn move_slot(slot: SteerSlot, to: u8) -> SteerSlot {
    if slot.cur() == to {
        return slot;
    }
    SteerSlot::new(to, if slot.tracked() { slot.base() } else { slot.cur() }, true)
}
