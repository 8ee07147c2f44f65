//! Fault points: the steps between which an agent or a coordinator may be killed. Tests kill it at each.
//!
//! Without the feature `fault-points` they are nothing. With it, an agent whose environment has
//! `WEIR_FAULT=FILE` kills itself when it passes the point whose name is in that file. So a test
//! arms an agent that runs, and disarms the next one.

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

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

impl Point {
    /// Those of a coordinator; the others are an agent's.
    pub const COORDINATOR: &[Self] = &[Self::Ticked, Self::Persisted, Self::Ordered];
}

points! {
    PoolWritten "pool.written" "Tables were written to lines of the pool that no record names.";
    BackendsWritten "backends.written" "Records of new backends were written.";
    EndpointsWritten "endpoints.written" "Return paths and server ids were written.";
    RecordsMade "records.made" "Records and listeners were written to where no packet looks.";
    CommitMade "commit.made" "The root names them: the commit.";
    CommitFinished "commit.finished" "What the commit has left over was given back.";
    StoreWritten "store.written" "The new state's file was written.";
    StoreFlushed "store.flushed" "It was flushed.";
    StoreLinked "store.linked" "The state before was kept under its other name.";
    StoreRenamed "store.renamed" "The new file took the old one's place.";
    Stored "stored" "The state was stored.";
    Settled "settle.first" "The first half of a settle was committed.";
    Untracked "settle.second" "The second half was committed.";
    Ticked "rollout.ticked" "A coordinator has worked out the next state of a rollout.";
    Persisted "rollout.persisted" "It has saved that state.";
    Ordered "rollout.ordered" "It has told the agents what follows from it.";
    Released "release" "Backends were released, and that is not stored yet.";
}

/// Passes a point.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

/// Passes a point, and ends there if told to.
#[cfg(feature = "fault-points")]
pub(crate) fn point(point: Point) {
    let Some(file) = std::env::var_os("WEIR_FAULT") else { return };
    if std::fs::read_to_string(file).is_ok_and(|name| name.trim() == point.name()) {
        // Nothing of this process runs after it: no destructor, no flush.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}
