//! Fault points: the steps between which an agent may be killed. Tests kill it at each.
//!
//! Without the feature `fault-points` they are nothing. With it, an agent whose environment has
//! `WEIR_FAULT=NAME` kills itself when it passes the point of that name, with `WEIR_FAULT=NAME:N`
//! when it does so for the N-th time.

macro_rules! points {
    ($($point:ident $name:literal $what:literal;)*) => {
        /// A step.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $(#[doc = $what] $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// The name in `WEIR_FAULT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    PoolWritten "pool.written" "Tables were written to lines of the pool that no record names.";
    BackendsWritten "backends.written" "Records of new backends were written.";
    EndpointsWritten "endpoints.written" "Return paths, server ids and listeners were written.";
    RecordsMade "records.made" "The array of all records was made.";
    CommitMade "commit.made" "The array took the old one's place: the commit.";
    CommitFinished "commit.finished" "What the commit has left over was given back.";
    StoreWritten "store.written" "The new state's file was written.";
    StoreFlushed "store.flushed" "It was flushed.";
    StoreLinked "store.linked" "The state before was kept under its other name.";
    StoreRenamed "store.renamed" "The new file took the old one's place.";
    Stored "stored" "The state was stored.";
    Settled "settle.first" "The first half of a settle was committed.";
    Untracked "settle.second" "The second half was committed.";
    Released "release" "Backends were released, and that is not stored yet.";
}

/// Passes a point.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

/// Passes a point, and ends there if told to.
#[cfg(feature = "fault-points")]
pub(crate) fn point(point: Point) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Ok(told) = std::env::var("WEIR_FAULT") else { return };
    let (name, nth) = told.split_once(':').unwrap_or((&told, "1"));
    if name == point.name() && nth.parse() == Ok(PASSED.fetch_add(1, Ordering::Relaxed) + 1) {
        // Nothing of this process runs after it: no destructor, no flush.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}
