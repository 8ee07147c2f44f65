//! Golden vectors of the plan: the same bits on every architecture and in every release. If one
//! changes, nodes of different releases disagree about where flows go.
//!
//! Made by `tests/golden/plan.py`, a second implementation written from the description alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use weir::plan::backend_table::Candidate;
use weir::plan::digest::Digest;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir_ebpf::abi::{Address, NO_BACKEND, VERSIONS};

/// None of the backends.
const NONE: u16 = NO_BACKEND;

struct Golden {
    seed: [u8; 16],
    weights: [u16; VERSIONS],
    candidates: [Vec<Candidate>; VERSIONS],
    digest: &'static str,
    /// Version slots of blue, green and canary.
    shares: [usize; VERSIONS],
    /// Slots of each backend table.
    sizes: [usize; VERSIONS],
    /// Ordinals in slots 0, 1, 2, 3, 500, 1023 and the last one of each backend table.
    slots: [[u16; 7]; VERSIONS],
}

fn v4(n: u16, port: u16, weight: u32) -> Candidate {
    let [a, b] = n.to_be_bytes();
    Candidate { identity: Identity { address: Address::from_v4([10, 0, a, b]), port }, weight }
}

fn v6(n: u16, weight: u32) -> Candidate {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    octets[14..].copy_from_slice(&n.to_be_bytes());
    Candidate { identity: Identity { address: Address::from_v6(octets), port: 443 }, weight }
}

fn check(golden: &Golden) {
    let goal =
        Goal::new(golden.seed, golden.weights, golden.candidates.each_ref().map(Vec::as_slice));
    for (version, slots) in (0_u8..).zip(golden.shares) {
        assert_eq!(
            goal.versions().iter().map(|&v| usize::from(v == version)).sum::<usize>(),
            slots
        );
    }
    for (version, layout) in goal.backends().iter().enumerate() {
        let last = layout.slots.len() - 1;
        assert_eq!(layout.slots.len(), golden.sizes[version]);
        let some = [0, 1, 2, 3, 500, 1023, last].map(|slot| layout.slots[slot]);
        assert_eq!(some, golden.slots[version], "version {version}");
    }
    assert_eq!(Digest::of_goal(&goal).to_string(), golden.digest);
}

#[test]
fn one_backend() {
    check(&Golden {
        seed: [0; 16],
        weights: [10_000, 0, 0],
        candidates: [vec![v4(1, 8080, 100)], vec![], vec![]],
        digest: "5872fd81db7733b9",
        shares: [16_384, 0, 0],
        sizes: [1024, 1024, 1024],
        slots: [[0; 7], [NONE; 7], [NONE; 7]],
    });
}

#[test]
fn two_and_one() {
    check(&Golden {
        seed: *b"0123456789abcdef",
        weights: [9_500, 0, 500],
        candidates: [vec![v4(1, 8080, 100), v4(2, 8080, 100)], vec![], vec![v4(3, 8080, 1)]],
        digest: "2445ff182367e17a",
        shares: [15_565, 0, 819],
        sizes: [1024, 1024, 1024],
        slots: [[1, 0, 0, 0, 0, 1, 1], [NONE; 7], [0; 7]],
    });
}

#[test]
fn thirds_and_uneven_weights() {
    check(&Golden {
        seed: *b"0123456789abcdef",
        weights: [3_334, 3_333, 3_333],
        candidates: [
            vec![v4(2, 8080, 1000), v4(1, 8080, 1)],
            vec![v6(3, 9), v6(1, 7), v6(2, 8)],
            vec![v4(9, 8080, 0)],
        ],
        digest: "1270ba8a6f1c533a",
        shares: [5_462, 5_461, 5_461],
        sizes: [1024, 1024, 1024],
        slots: [[1; 7], [2, 1, 2, 1, 2, 1, 1], [NONE; 7]],
    });
}

#[test]
fn all_sizes_and_smallest_weights() {
    check(&Golden {
        seed: [0xff; 16],
        weights: [1, 9_998, 1],
        candidates: [
            (0..11).map(|n| v4(n, 8080, 100)).collect(),
            (0..100).map(|n| v6(n, n.into())).collect(),
            (0..60).map(|n| v4(n, n + 1, 1000)).collect(),
        ],
        digest: "4ccd3d0e74abb361",
        shares: [1, 16_381, 2],
        sizes: [2048, 16_384, 8192],
        slots: [
            [2, 4, 10, 7, 5, 10, 10],
            [23, 45, 53, 76, 96, 79, 85],
            [8, 55, 54, 10, 50, 16, 34],
        ],
    });
}
