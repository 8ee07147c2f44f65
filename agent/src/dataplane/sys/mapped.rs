//! Array maps as plain memory: the one place of the agent where memory is shared with the kernel.
//!
//! A map with `BPF_F_MMAPABLE` is mapped into the agent, so that tables are written and counters
//! read without a system call for each element. The kernel's programs read and write the same
//! words at the same time, so every access here is atomic, a word at a time.

#![allow(unsafe_code, reason = "memory shared with the kernel; each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};

/// The elements of an array map, mapped.
#[derive(Debug)]
pub struct Mapped(MmapRaw);

impl Mapped {
    /// Maps the first `bytes` bytes of the map behind `map`.
    ///
    /// # Errors
    ///
    /// It is not an array with `BPF_F_MMAPABLE`, or not so large.
    pub fn new(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // The kernel refuses a length beyond the map's, rounded up to a page.
        MmapOptions::new().len(bytes).map_raw(map.as_raw_fd()).map(Self)
    }

    /// The mapping as words of 32 bits.
    #[must_use]
    pub fn words(&self) -> &[AtomicU32] {
        let start: *const AtomicU32 = self.0.as_ptr().cast();
        // SAFETY: the mapping begins at a page, is as long as said, readable, writable, and lives
        // as long as self. All access through it, ours and the kernel's, is of whole aligned words,
        // and ours is atomic.
        unsafe { std::slice::from_raw_parts(start, self.0.len() / size_of::<AtomicU32>()) }
    }

    /// The mapping as words of 64 bits.
    #[must_use]
    pub fn long_words(&self) -> &[AtomicU64] {
        let start: *const AtomicU64 = self.0.as_ptr().cast();
        // SAFETY: as in `words`; a page is aligned for 64 bits too.
        unsafe { std::slice::from_raw_parts(start, self.0.len() / size_of::<AtomicU64>()) }
    }
}

impl AsRef<[AtomicU64]> for Mapped {
    fn as_ref(&self) -> &[AtomicU64] {
        self.long_words()
    }
}
