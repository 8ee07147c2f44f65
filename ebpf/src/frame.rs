//! Headers in a frame that can be read, whoever holds it.

use core::marker::PhantomData;

use crate::abi::Address;
use crate::unaligned::{load16, load32};

/// `LEN` bytes of a frame whose presence was checked once. Fields are read one by one, so that
/// each goes straight into a register; that they lie within the header is checked at compile time.
#[derive(Clone, Copy)]
pub struct Header<'a, const LEN: usize> {
    start: *const u8,
    frame: PhantomData<&'a [u8]>,
}

/// Whether `width` bytes at the offset `at` lie within a header of `LEN` bytes.
const fn within<const LEN: usize>(at: i16, width: usize) -> bool {
    at >= 0 && at.unsigned_abs() as usize + width <= LEN
}

impl<const LEN: usize> Header<'_, LEN> {
    /// A header that begins at `start`.
    ///
    /// # Safety
    ///
    /// `LEN` bytes from `start` can be read for as long as the header lives.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(start: *const u8) -> Self {
        Self { start, frame: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn byte<const AT: usize>(self) -> u8 {
        const { assert!(AT < LEN) };
        // SAFETY: within the header by the line above, readable by the contract of `new`.
        unsafe { self.start.add(AT).read() }
    }

    /// Two bytes, as they lie in memory.
    #[inline(always)]
    pub(crate) fn half<const AT: i16>(self) -> u16 {
        const { assert!(within::<LEN>(AT, 2)) };
        // SAFETY: as in `byte`.
        unsafe { load16::<AT>(self.start) }
    }

    /// Four bytes, as they lie in memory.
    #[inline(always)]
    pub(crate) fn word<const AT: i16>(self) -> u32 {
        const { assert!(within::<LEN>(AT, 4)) };
        // SAFETY: as in `byte`.
        unsafe { load32::<AT>(self.start) }
    }

    /// The IPv6 source address and the destination address behind it.
    #[inline(always)]
    pub(crate) fn addresses<const AT: i16>(self) -> (Address, Address) {
        const { assert!(within::<LEN>(AT, 32)) };
        // SAFETY: as in `byte`.
        unsafe {
            let both = self.start.offset(AT as isize);
            let source =
                [load32::<0>(both), load32::<4>(both), load32::<8>(both), load32::<12>(both)];
            let destination =
                [load32::<16>(both), load32::<20>(both), load32::<24>(both), load32::<28>(both)];
            (Address(source), Address(destination))
        }
    }
}

/// A frame that can be read.
pub trait Frame {
    /// The `LEN` bytes at `offset`, or nothing when the frame, or the part of it that can be read,
    /// ends before they do.
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>>;
    /// Whether the frame has so many bytes, though not all of them may be readable.
    fn holds(&self, bytes: u32) -> bool;
}

/// A frame in memory, for the host.
impl Frame for [u8] {
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        let bytes = self.get(offset as usize..)?.get(..LEN)?;
        // SAFETY: the slice has LEN bytes and is borrowed for as long as the header lives.
        Some(unsafe { Header::new(bytes.as_ptr()) })
    }

    fn holds(&self, bytes: u32) -> bool {
        self.len() >= bytes as usize
    }
}
