//! Flows that the program has told of when they were over. They are forgotten without a look at all
//! flows, once late packets need them no more.

use std::collections::VecDeque;

use aya::maps::{MapData, RingBuf};
use weir_ebpf::abi::CLOSED_RING;

use super::Kernel;
use super::flows::{RECORD, forget_records};
use crate::dataplane::{Error, Swept, Use};

/// Flows that one call forgets at most. A request may wait for it, and each takes two or three cache
/// misses: about a third of a millisecond.
const PIECE: usize = 512;
/// Pieces that wait at most, of which some may not be full: 48 MiB. What comes then is not taken;
/// a look at all flows finds it.
const PIECES: usize = 2_048;
/// Records that the ring holds at most, each with a head of eight bytes.
const IN_RING: usize = CLOSED_RING as usize / (RECORD + 8);

/// What was told, until it is done.
pub(super) struct Closed {
    ring: RingBuf<MapData>,
    /// Records as the program makes them, each piece with the second in which it was heard of.
    waiting: VecDeque<(u32, Vec<u8>)>,
}

impl Closed {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, waiting: VecDeque::new() }
    }

    /// Takes what the ring holds.
    fn hear(&mut self, now: u32) {
        for _ in 0..IN_RING {
            let Some(record) = self.ring.next() else { break };
            if record.len() != RECORD {
                continue;
            }
            let room = self.waiting.len() < PIECES;
            match self.waiting.back_mut() {
                Some((heard, piece)) if *heard == now && piece.len() < PIECE * RECORD => {
                    piece.extend_from_slice(&record);
                }
                _ if room => {
                    let mut piece = Vec::with_capacity(PIECE * RECORD);
                    piece.extend_from_slice(&record);
                    self.waiting.push_back((now, piece));
                }
                _ => {}
            }
        }
    }

    /// Whether something was heard of at least so many seconds ago.
    fn is_due(&self, now: u32, age: u32) -> bool {
        self.waiting.front().is_some_and(|(heard, _)| now.saturating_sub(*heard) >= age)
    }

    /// How many wait.
    pub(super) fn used(&self) -> Use {
        let used: usize = self.waiting.iter().map(|(_, piece)| piece.len() / RECORD).sum();
        Use { resource: "closed_flows", used: used as u64, limit: (PIECES * PIECE) as u64 }
    }
}

impl Kernel {
    /// Forgets some of the flows that were over `age` seconds before `now`, or earlier, if nothing
    /// was seen of them since.
    pub(super) fn forget_closed(&mut self, now: u32, age: u32) -> Result<Swept, Error> {
        self.closed.hear(now);
        let due = self.closed.is_due(now, age).then(|| self.closed.waiting.pop_front()).flatten();
        let forgotten = match due {
            Some((_, records)) => forget_records(&self.programs, &records)?,
            None => 0,
        };
        Ok(Swept { forgotten, ended: !self.closed.is_due(now, age) })
    }
}
