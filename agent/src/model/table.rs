//! A version's share of its table, in slots.

use serde::{Deserialize, Serialize, Serializer};

/// How many slots of a service's version table one version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct TableShare {
    /// Slots that send new connections to the version.
    pub slots: u32,
    /// Slots in the table.
    pub total: u32,
}

impl TableShare {
    /// `slots / total`, 0 for no table.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.slots) / f64::from(self.total) }
    }
}

impl Serialize for TableShare {
    /// With the `share` that follows from the counts.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form {
            slots: u32,
            total: u32,
            share: f64,
        }
        Form { slots: self.slots, total: self.total, share: self.share() }.serialize(serializer)
    }
}
