//! How the end of a handshake is found out, by one word for each handshake under way.
//!
//! A SYN takes the place that its flow's hash gives. What comes next of the flow, or nothing for
//! three seconds, says how the handshake ended; that is counted once, by whoever changes the word.
//! A place whose handshake has ended keeps its word until it is needed, so that a SYN that comes
//! again is known, and a reset soon after. Everything here is pure.

use crate::abi::{Address, EARLY_NS, MAX_FAILING, MAX_PENDING, UNANSWERED_NS};

/// Whose handshake is in a place, and how far it has come: `tag` of the flow in bits 32–63, backend
/// in bits 16–31, how far in bits 8–10, [`TIMED`](Word::is_timed) in bit 15, round in bits 0–7.
/// The round counts how often the place was taken, so that no word comes back while somebody
/// looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Word(pub u64);

const STATE: u64 = 7 << 8;
/// Somebody writes here at this moment. Below it is nobody's place.
const CLAIMED: u64 = 1 << 8;
/// A SYN was seen, and its answer is waited for.
const WAITING: u64 = 2 << 8;
/// The answer was seen.
const ANSWERED: u64 = 3 << 8;
/// Its end was counted, or nothing is waited for: it only tells SYNs that come again.
const OVER: u64 = 4 << 8;
const TIMED: u64 = 1 << 15;
/// What tells one flow at one backend: all but the state and the round.
const IDENTITY: u64 = 0xffff_ffff_ffff_0000;

/// The place of a flow's handshake, below [`MAX_PENDING`].
#[inline(always)]
#[must_use]
pub const fn place(hash: u64) -> u32 {
    (hash >> (64 - MAX_PENDING.trailing_zeros())) as u32
}

/// What becomes of the place of a new handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// Its end is waited for.
    pub watched: bool,
    /// Its time counts, and that its client has failed.
    pub timed: bool,
}

impl Word {
    /// The word of a new handshake of the flow with this hash at `backend`, after this one.
    #[inline(always)]
    #[must_use]
    pub const fn then(self, hash: u64, backend: u16, begin: Begin) -> Self {
        let state = if begin.watched { WAITING } else { OVER };
        let timed = if begin.timed { TIMED } else { 0 };
        let round = (self.0 + 1) & 0xff;
        Self(hash << 32 | (backend as u64) << 16 | timed | state | round)
    }

    /// The same place, claimed.
    #[inline(always)]
    #[must_use]
    pub const fn claimed(self) -> Self {
        self.at(CLAIMED)
    }

    /// The backend.
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether this is a handshake of the flow with this hash at `backend`.
    #[inline(always)]
    #[must_use]
    pub const fn is_of(self, hash: u64, backend: u16) -> bool {
        let identity = hash << 32 | (backend as u64) << 16;
        (self.0 ^ identity) & IDENTITY == 0 && self.state() > CLAIMED
    }

    /// Whether the handshake's end is still waited for.
    #[inline(always)]
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        self.state() == WAITING
    }

    /// Whether somebody writes here at this moment.
    #[inline(always)]
    #[must_use]
    pub const fn is_claimed(self) -> bool {
        self.state() == CLAIMED
    }

    /// Whether its time counts, and that its client has failed.
    #[inline(always)]
    #[must_use]
    pub const fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    #[inline(always)]
    const fn state(self) -> u64 {
        self.0 & STATE
    }

    #[inline(always)]
    const fn at(self, state: u64) -> Self {
        Self(self.0 & !STATE | state)
    }
}

/// What happens to a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// In nat the server's SYN-ACK, in the direct modes the client's first packet after its SYN.
    Answer,
    /// The server's RST.
    ServerReset,
    /// The client's RST.
    ClientReset,
    /// Another handshake needs the place.
    Displaced,
    /// Somebody looks whether it has waited for too long.
    Look,
    /// It is not watched any longer.
    Unwatched,
}

/// What is counted of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing: no handshake has ended.
    None,
    /// The handshake succeeded.
    Established,
    /// The server refused it.
    Refused,
    /// The client gave it up.
    Abandoned,
    /// There was no answer for three seconds.
    Unanswered,
    /// It was lost sight of.
    Lost,
    /// It has succeeded, and within a second the server resets the connection, which the client had
    /// not.
    EarlyReset,
}

/// What becomes of a word by an event at `now`, and what is counted. `time` is the place's.
#[inline(always)]
#[must_use]
pub const fn step(word: Word, time: u64, event: Event, now: u64) -> (Word, Verdict) {
    let age = now.saturating_sub(time);
    let over = word.at(OVER);
    if !word.is_waiting() {
        let answered = word.state() == ANSWERED;
        // What a client sends beside its own RST may come after it, and is answered by a RST.
        if answered && matches!(event, Event::ClientReset) {
            return (over, Verdict::None);
        }
        let early =
            answered && matches!(event, Event::ServerReset) && word.is_timed() && age <= EARLY_NS;
        return (word, if early { Verdict::EarlyReset } else { Verdict::None });
    }
    if age >= UNANSWERED_NS && !matches!(event, Event::Unwatched) {
        return (over, Verdict::Unanswered);
    }
    match event {
        Event::Answer => (word.at(ANSWERED), Verdict::Established),
        Event::ServerReset => (over, Verdict::Refused),
        Event::ClientReset => (over, Verdict::Abandoned),
        Event::Displaced | Event::Unwatched => (over, Verdict::Lost),
        Event::Look => (word, Verdict::None),
    }
}

/// What tells one client from others, of a service with this half of a seed.
#[inline(always)]
#[must_use]
pub const fn client(seed: u64, address: &Address) -> u32 {
    let [a, b, c, d] = address.0;
    let (high, low) = ((a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64);
    let mixed = (high ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Where a client's failure is kept in mind, below [`MAX_FAILING`], and as what: a client that has
/// failed within this second, at this version of a service, has the same word there. `client` is what
/// [`client`] says, `of` tells service and version.
#[inline(always)]
#[must_use]
pub const fn failing(client: u32, of: u16, now: u64) -> (u32, u64) {
    let who = client.wrapping_add((of as u32).wrapping_mul(0x9e37_79b9));
    // Never zero, which is what there is at the beginning.
    let second = (now / 1_000_000_000) as u32 | 1 << 31;
    (who >> (32 - MAX_FAILING.trailing_zeros()), (second as u64) << 32 | who as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WATCHED: Begin = Begin { watched: true, timed: true };

    #[test]
    fn a_word_keeps_what_it_is_given() {
        let hash = 0xfedc_ba98_7654_3210;
        let word = Word(0xff).then(hash, 16_383, WATCHED);
        assert!(word.is_of(hash, 16_383) && word.is_waiting() && word.is_timed());
        assert!(!word.is_of(hash ^ 1, 16_383) && !word.is_of(hash, 16_382));
        assert_eq!((word.backend(), word.0 & 0xff), (16_383, 0));
        assert!(place(u64::MAX) == MAX_PENDING - 1 && place(0) == 0);
        assert!(!word.claimed().is_of(hash, 16_383));
        assert!(!Word(0).is_of(0, 0), "nobody has a free place");
    }

    #[test]
    fn a_handshake_ends_as_its_next_packet_says() {
        let word = Word(0).then(7, 1, WATCHED);
        let (next, verdict) = step(word, 1_000, Event::Answer, 2_000);
        assert_eq!(verdict, Verdict::Established);
        // A second answer is none; a reset right after is early, one later is not.
        assert_eq!(step(next, 2_000, Event::Answer, 3_000), (next, Verdict::None));
        let reset = |now| step(next, 2_000, Event::ServerReset, now);
        assert_eq!(reset(2_000 + EARLY_NS), (next, Verdict::EarlyReset));
        assert_eq!(reset(2_001 + EARLY_NS), (next, Verdict::None));
        // Who was reset by the client has no word in it any more.
        let (gone, verdict) = step(next, 2_000, Event::ClientReset, 2_500);
        assert_eq!(verdict, Verdict::None);
        assert_eq!(step(gone, 2_000, Event::ServerReset, 2_600), (gone, Verdict::None));
        let end = |event, now| step(word, 0, event, now).1;
        assert_eq!(end(Event::ServerReset, 1), Verdict::Refused);
        assert_eq!(end(Event::ClientReset, 1), Verdict::Abandoned);
        assert_eq!(end(Event::Displaced, 1), Verdict::Lost);
        assert_eq!(end(Event::Look, UNANSWERED_NS - 1), Verdict::None);
        for event in [Event::Answer, Event::ServerReset, Event::Displaced, Event::Look] {
            assert_eq!(end(event, UNANSWERED_NS), Verdict::Unanswered);
        }
    }

    #[test]
    fn failures_of_one_client_within_a_second_are_one() {
        let second = 1_000_000_000;
        let (place, word) = failing(0xabcd_ef01, 5, 7 * second);
        assert!(place < MAX_FAILING && word != 0);
        assert_eq!(failing(0xabcd_ef01, 5, 8 * second - 1), (place, word));
        assert_ne!(failing(0xabcd_ef01, 5, 8 * second).1, word);
        assert_ne!(failing(0xabcd_ef01, 6, 7 * second).1, word);
        assert_ne!(failing(0xabcd_ef02, 5, 7 * second).1, word);
    }

    #[test]
    fn clients_are_told_apart() {
        let of = |client: u32| self::client(7, &Address::v4(client.to_be()));
        let all: std::collections::BTreeSet<u32> = (0x0a00_0000..0x0a01_0000).map(of).collect();
        assert!(all.len() >= 65_536 - 8, "{}", all.len());
        let six = |last| client(7, &Address([0x2001, 0, 0, last]));
        assert_ne!(six(1), six(2));
        assert_ne!(client(7, &Address([1, 0, 0, 0])), client(7, &Address([2, 0, 0, 0])));
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Answer),
            Just(Event::ServerReset),
            Just(Event::ClientReset),
            Just(Event::Displaced),
            Just(Event::Look),
            Just(Event::Unwatched),
        ]
    }

    proptest! {
        /// Whatever happens, and whenever: each handshake that is watched ends once, and once it
        /// has waited long enough, it has ended. One that is not watched never does.
        #[test]
        fn each_watched_handshake_ends_once(
            hash: u64, backend in 0_u16..16_384, watched: bool, timed: bool, before: u64,
            events in proptest::collection::vec((event(), 0_u64..2_000_000_000), 0..12),
        ) {
            let mut word = Word(before).then(hash, backend, Begin { watched, timed });
            let (mut now, mut time, mut ends, mut reset) = (1_u64, 1_u64, 0, false);
            let last = (Event::Look, UNANSWERED_NS);
            for (event, pause) in events.into_iter().chain([last]) {
                now += pause;
                let (next, verdict) = step(word, time, event, now);
                prop_assert!(next.is_of(hash, backend), "the place stays whose it is");
                prop_assert_eq!(next.0 & 0xff, word.0 & 0xff);
                match verdict {
                    Verdict::None if event == Event::ClientReset => {
                        prop_assert!(!next.is_waiting());
                        reset = true;
                    }
                    Verdict::None => prop_assert_eq!(next, word),
                    Verdict::EarlyReset => {
                        prop_assert!(!reset, "the client was first");
                        prop_assert!(timed && event == Event::ServerReset && now - time <= EARLY_NS);
                        prop_assert_eq!(next, word);
                    }
                    ended => {
                        prop_assert!(word.is_waiting() && !next.is_waiting());
                        let late = now - time >= UNANSWERED_NS && event != Event::Unwatched;
                        prop_assert_eq!(late, ended == Verdict::Unanswered);
                        ends += 1;
                    }
                }
                if verdict == Verdict::Established {
                    time = now;
                }
                word = next;
            }
            prop_assert_eq!(ends, u32::from(watched));
            prop_assert!(!word.is_waiting());
        }
    }
}
