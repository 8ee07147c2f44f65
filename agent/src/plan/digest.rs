//! A short name for what a service's tables do with new flows, the same on every node.
//!
//! SHA-256 over the version of each version slot (one byte) and the digest of the backend tables: that
//! is SHA-256 over the number of slots of each version's (four bytes, little endian) and each slot's
//! backend by [`Identity::bytes`], or 18 zero bytes where there is none. A table with equal halves
//! counts as one half, because the size in the kernel depends on history and what the table does does
//! not. Where there are steering rules, their [`Rules::digest`] follows.
//!
//! The backend tables have one of their own because weights leave it as it is: it takes a millisecond
//! where they are large.

use std::fmt;

use sha2::{Digest as _, Sha256};
use weir_ebpf::abi::{NO_BACKEND, VERSIONS};

use super::backend_table::Layout;
use super::goal::Goal;
use super::identity::Identity;
use super::steering::{Rules, Steering};
use super::tables::{ServiceTables, folded};

/// Digest of a service's tables. Shown as its first 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of what a spec asks for.
    #[must_use]
    pub fn of_goal(goal: &Goal) -> Self {
        Self::of(goal.versions(), goal.backends.digest(), goal.rules())
    }

    /// Of tables read back from the kernel. `identity` names the backend with an index of this
    /// node; an index it does not know counts as no backend, so the digest differs from any goal's.
    #[must_use]
    pub fn of_tables(
        tables: &ServiceTables,
        steering: &Steering,
        identity: &dyn Fn(u16) -> Option<Identity>,
    ) -> Self {
        let versions: Vec<u8> = tables.versions().iter().map(|slot| slot.cur()).collect();
        let known = |index: u16| if index == NO_BACKEND { None } else { identity(index) };
        let mut sum = Sha256::new();
        for table in tables.backends() {
            let cur: Vec<u16> = table.slots().iter().map(|slot| slot.cur()).collect();
            add_backends(&mut sum, &cur, &known);
        }
        Self::of(&versions, sum.finalize().into(), &steering.rules())
    }

    fn of(versions: &[u8], backends: [u8; 32], rules: &Rules) -> Self {
        let mut sum = Sha256::new_with_prefix(versions);
        sum.update(backends);
        if !rules.is_empty() {
            sum.update(rules.digest());
        }
        Self(sum.finalize().into())
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The part of a digest that is of the backend tables.
pub(super) fn of_backends(layouts: &[Layout; VERSIONS]) -> [u8; 32] {
    let mut sum = Sha256::new();
    for layout in layouts {
        let backend = |o: u16| layout.backends.get(usize::from(o)).copied();
        add_backends(&mut sum, &layout.slots, &backend);
    }
    sum.finalize().into()
}

fn add_backends(sum: &mut Sha256, slots: &[u16], identity: &dyn Fn(u16) -> Option<Identity>) {
    let slots = folded(slots);
    sum.update(u32::try_from(slots.len()).unwrap_or(u32::MAX).to_le_bytes());
    for &slot in slots {
        sum.update(identity(slot).map_or([0; 18], |identity| identity.bytes()));
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
