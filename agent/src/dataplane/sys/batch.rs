//! Many entries of a map in one call: reading a hash map, writing an array.
//!
//! Of reading: the kernel has `BPF_MAP_LOOKUP_BATCH` for this (Linux
//! 5.6), which aya does not offer; a walk by keys takes two system calls an entry.
//!
//! The kernel gives whole buckets, one after the other, each under its lock. So a walk shows every
//! entry that is there from its beginning to its end once, also while others come and go. An LRU
//! map moves entries between buckets only when it gives one to another key.

#![allow(unsafe_code, reason = "one system call and what it has written; each block says why")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::Pod;
use aya::maps::{Array, IterableMap as _, MapData, MapType};
use nix::libc;

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
/// Entries of a call of a walk over all. More are asked for where a bucket has more.
pub(in crate::dataplane) const ROOM: usize = 4_096;

/// Arguments of the calls of a batch, as in `union bpf_attr`.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: RawFd,
    elem_flags: u64,
    flags: u64,
}

/// A place in a walk: the bucket that comes next.
#[derive(Debug, Clone, Copy)]
struct Place(u32);

/// A walk over a hash map.
pub(in crate::dataplane) struct Batches<'a, K, V> {
    map: &'a MapData,
    /// More entries than this no bucket can have.
    capacity: usize,
    keys: Vec<K>,
    values: Vec<V>,
    /// Entries that one call may give.
    room: usize,
    /// Where to go on; nothing at the beginning.
    place: Option<Place>,
    ended: bool,
}

impl<'a, K: Pod, V: Pod> Batches<'a, K, V> {
    /// Begins a walk. A call gives at most `room` entries, unless a bucket has more.
    ///
    /// # Errors
    ///
    /// The map is no hash map, or its entries are not of these types' sizes.
    pub(in crate::dataplane) fn new(map: &'a MapData, room: usize) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let hash = matches!(info.map_type(), Ok(MapType::Hash | MapType::LruHash));
        // The kernel writes values in steps of eight bytes.
        let sizes = info.key_size() as usize == size_of::<K>()
            && info.value_size() as usize == size_of::<V>()
            && size_of::<V>().is_multiple_of(8);
        if !hash || !sizes {
            return Err(io::Error::other("is no hash map of such entries"));
        }
        let capacity = (info.max_entries() as usize).max(1);
        let room = room.clamp(1, capacity);
        let (keys, values) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Ok(Self { map, capacity, keys, values, room, place: None, ended: false })
    }

    /// The entries of the next buckets, keys and as many values; nothing after the last one.
    ///
    /// # Errors
    ///
    /// What the kernel said. What was not shown may be there.
    pub(in crate::dataplane) fn next(&mut self) -> io::Result<Option<(&[K], &[V])>> {
        while !self.ended {
            match self.read() {
                Ok(()) => {}
                // The end; what came with it counts.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.ended = true,
                // The next bucket alone has more.
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOSPC) && self.room < self.capacity =>
                {
                    self.room = (self.room * 2).min(self.capacity);
                    continue;
                }
                Err(error) => return Err(error),
            }
            return Ok(Some((&self.keys, &self.values)));
        }
        Ok(None)
    }

    /// One call. Its entries take the place of the last one's.
    fn read(&mut self) -> io::Result<()> {
        self.keys.clear();
        self.values.clear();
        self.keys.reserve(self.room);
        self.values.reserve(self.room);
        let mut next = 0_u32;
        let begin =
            self.place.as_ref().map_or(0, |Place(bucket)| address(std::ptr::from_ref(bucket)));
        let mut arguments = Batch {
            from: begin,
            to: address(&raw mut next),
            keys: address(self.keys.as_mut_ptr()),
            values: address(self.values.as_mut_ptr()),
            count: u32::try_from(self.room).unwrap_or(u32::MAX),
            map: self.map.fd().as_fd().as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        let pointer = &raw mut arguments;
        // SAFETY: the map is a hash map whose keys and values have the sizes of K and V (see `new`),
        // so the kernel reads a bucket's number, four bytes, from `from`, and writes one to
        // `to`, at most `count` keys and values to the vectors, which have room for as many,
        // and the number of these to `arguments`. All of these live as long as the call.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, pointer, size_of::<Batch>())
        };
        let result = if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        let ended = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ENOENT));
        if result.is_ok() || ended {
            let count = (arguments.count as usize).min(self.room);
            // SAFETY: the kernel has written this many of each, and any bytes are a K and a V, for
            // both are `Pod`.
            unsafe {
                self.keys.set_len(count);
                self.values.set_len(count);
            }
            self.place = Some(Place(next));
        }
        result
    }
}

/// Sets elements of an array: each index gets the value at its place. One call however many they
/// are, for a commit waits for it.
///
/// # Errors
///
/// What the kernel said; some may be set. Or the elements are not of this type's size.
pub(in crate::dataplane) fn set_all<V: Pod>(
    array: &Array<MapData, V>,
    indices: &[u32],
    values: &[V],
) -> io::Result<()> {
    let map = array.map();
    let info = map.info().map_err(io::Error::other)?;
    let sizes = info.key_size() as usize == size_of::<u32>()
        && info.value_size() as usize == size_of::<V>();
    if !matches!(info.map_type(), Ok(MapType::Array)) || !sizes || indices.len() != values.len() {
        return Err(io::Error::other("is no array of such elements"));
    }
    if indices.is_empty() {
        return Ok(());
    }
    let mut arguments = Batch {
        from: 0,
        to: 0,
        keys: address(indices.as_ptr()),
        values: address(values.as_ptr()),
        count: u32::try_from(indices.len()).unwrap_or(u32::MAX),
        map: map.fd().as_fd().as_raw_fd(),
        elem_flags: 0,
        flags: 0,
    };
    let pointer = &raw mut arguments;
    // SAFETY: the map is an array whose elements have the size of V, so the kernel reads `count`
    // indices of four bytes and as many values from the slices, which have as many, and writes the
    // number of those that it has set to `arguments`. All of these live as long as the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_BATCH, pointer, size_of::<Batch>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pointer as the kernel takes it.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use std::collections::BTreeMap;

    use aya::maps::HashMap;

    use super::*;

    fn map(capacity: u32, entries: u64) -> HashMap<MapData, u64, u64> {
        let rights = "this test makes a BPF map: run it as root";
        let mut map = HashMap::create(capacity, 0).expect(rights);
        for key in 0..entries {
            map.insert(key, key * 3, 0).unwrap();
        }
        map
    }

    /// All that a walk shows, and how often.
    fn shown(batches: &mut Batches<'_, u64, u64>) -> BTreeMap<u64, u32> {
        let mut shown = BTreeMap::new();
        while let Some((keys, values)) = batches.next().unwrap() {
            assert_eq!(keys.len(), values.len());
            for (key, value) in keys.iter().zip(values) {
                assert_eq!(*value, key * 3);
                *shown.entry(*key).or_default() += 1;
            }
        }
        shown
    }

    /// With room for everything, for a part, and for less than one bucket.
    #[test]
    fn a_walk_shows_every_entry_once_whatever_room_it_has() {
        for (capacity, entries) in [(1, 0), (1, 1), (10_000, 10_000)] {
            let map = map(capacity, entries);
            for room in [1, 2, 100, 4_096] {
                let mut batches = Batches::new(map.map(), room).unwrap();
                let shown = shown(&mut batches);
                assert_eq!(shown.len() as u64, entries, "room for {room}");
                assert!(shown.values().all(|times| *times == 1));
            }
        }
    }

    #[test]
    fn an_array_is_set_in_one_call() {
        let array: Array<MapData, u64> = Array::create(8, 0).unwrap();
        set_all(&array, &[], &[]).unwrap();
        set_all(&array, &[7, 0], &[70, 1]).unwrap();
        let all: Vec<u64> = (0..8).map(|index| array.get(&index, 0).unwrap()).collect();
        assert_eq!(all, [1, 0, 0, 0, 0, 0, 0, 70]);
        assert!(set_all(&array, &[8], &[1]).is_err(), "there is no such index");
        assert!(set_all(&array, &[1, 2], &[1]).is_err());
    }

    #[test]
    fn a_map_of_other_entries_is_refused() {
        let map = map(8, 1);
        assert!(Batches::<u32, u64>::new(map.map(), ROOM).is_err());
        assert!(Batches::<u64, [u64; 2]>::new(map.map(), ROOM).is_err());
    }
}
