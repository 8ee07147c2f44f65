//! What fresh connections have met.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::bail;

use crate::identity::{Identity, Version};
use crate::load::Fault;

/// What the connections have met so far.
#[derive(Clone, Debug, Default)]
pub struct FreshCounts {
    /// Complete answers, by client and by who answered.
    pub answers: BTreeMap<(IpAddr, Identity), u64>,
    /// Failed connections by what failed.
    pub failures: BTreeMap<Fault, u64>,
}

impl FreshCounts {
    /// Complete answers by version, in the order of [`Version::ALL`].
    #[must_use]
    pub fn by_version(&self) -> [u64; 3] {
        Version::ALL.map(|version| {
            self.by_backend()
                .iter()
                .filter(|(identity, _)| identity.version == version)
                .map(|(_, count)| count)
                .sum()
        })
    }

    /// Complete answers by backend.
    #[must_use]
    pub fn by_backend(&self) -> BTreeMap<Identity, u64> {
        let mut backends = BTreeMap::new();
        for ((_, identity), count) in &self.answers {
            *backends.entry(*identity).or_default() += count;
        }
        backends
    }

    /// Complete answers.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Failed connections.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Counts how a connection from `client` ended.
    pub(super) fn add(&mut self, client: IpAddr, outcome: Result<Identity, Fault>) {
        match outcome {
            Ok(identity) => *self.answers.entry((client, identity)).or_default() += 1,
            Err(fault) => *self.failures.entry(fault).or_default() += 1,
        }
    }

    /// What came after `earlier`, an earlier snapshot of the same load.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            answers: difference(&self.answers, &earlier.answers),
            failures: difference(&self.failures, &earlier.failures),
        }
    }

    /// An error that names what failed, if anything did.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.failed() > 0 {
            bail!("{self}");
        }
        Ok(())
    }
}

/// `19998 answered (blue 19000, green 0, canary 998); reset: 2`
impl fmt::Display for FreshCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [blue, green, canary] = self.by_version();
        write!(out, "{} answered (blue {blue}, green {green}, canary {canary})", self.answered())?;
        for (fault, count) in &self.failures {
            write!(out, "; {fault}: {count}")?;
        }
        Ok(())
    }
}

fn difference<K: Ord + Copy>(
    later: &BTreeMap<K, u64>,
    earlier: &BTreeMap<K, u64>,
) -> BTreeMap<K, u64> {
    later
        .iter()
        .map(|(key, count)| (*key, count - earlier.get(key).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn counts_subtract() {
        let answer = ("10.50.1.1".parse().unwrap(), "green 10.62.0.2".parse().unwrap());
        let mut earlier = FreshCounts::default();
        earlier.answers.insert(answer, 5);
        let mut later = earlier.clone();
        later.answers.insert(answer, 7);
        later.failures.insert(Fault::Reset, 1);
        let new = later.since(&earlier);
        assert_eq!((new.by_version(), new.failed()), ([0, 2, 0], 1));
        assert_eq!(new.to_string(), "2 answered (blue 0, green 2, canary 0); reset: 1");
        assert!(new.check().is_err() && earlier.check().is_ok());
    }
}
