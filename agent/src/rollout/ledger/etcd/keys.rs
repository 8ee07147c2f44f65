//! What is kept where. Pure.

use super::super::CommandId;
use crate::model::ServiceName;

/// The keys below a prefix. A range is its first key and the first one after it.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Ends with a slash.
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    /// The election's name; candidates' keys are this, a slash, and their lease.
    pub(super) fn election(&self) -> String {
        format!("{}election", self.prefix)
    }

    /// What fences begin from.
    pub(super) fn epoch(&self) -> String {
        format!("{}epoch", self.prefix)
    }

    pub(super) fn status(&self, service: &ServiceName) -> String {
        format!("{}status/{service}", self.prefix)
    }

    pub(super) fn all_status(&self) -> (String, String) {
        self.below("status")
    }

    pub(super) fn evidence(&self, service: &ServiceName) -> String {
        format!("{}evidence/{service}", self.prefix)
    }

    pub(super) fn event(&self, service: &ServiceName, number: u64) -> String {
        self.numbered("events", service, number)
    }

    /// From `first` on, before `end`.
    pub(super) fn events(&self, service: &ServiceName, first: u64, end: u64) -> (String, String) {
        (self.event(service, first), self.event(service, end))
    }

    pub(super) fn revision(&self, service: &ServiceName, number: u64) -> String {
        self.numbered("revisions", service, number)
    }

    /// From `first` on, before `end`.
    pub(super) fn revisions(
        &self,
        service: &ServiceName,
        first: u64,
        end: u64,
    ) -> (String, String) {
        (self.revision(service, first), self.revision(service, end))
    }

    pub(super) fn command(&self, service: &ServiceName, id: &CommandId) -> String {
        format!("{}commands/{service}/{id}", self.prefix)
    }

    pub(super) fn commands(&self, service: &ServiceName) -> (String, String) {
        self.below(&format!("commands/{service}"))
    }

    pub(super) fn all_commands(&self) -> (String, String) {
        self.below("commands")
    }

    /// With as many digits as any number has, so that keys are in the order of their numbers.
    fn numbered(&self, what: &str, service: &ServiceName, number: u64) -> String {
        format!("{}{what}/{service}/{number:020}", self.prefix)
    }

    fn below(&self, what: &str) -> (String, String) {
        // The character after the slash.
        (format!("{}{what}/", self.prefix), format!("{}{what}0", self.prefix))
    }
}

/// The service whose key it is, where that is the last part.
pub(super) fn service(key: &[u8]) -> Option<ServiceName> {
    let name = std::str::from_utf8(key).ok()?.rsplit('/').next()?;
    ServiceName::new(name).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_range_holds_its_own_and_nothing_else() {
        let keys = Keys::new("/w");
        let [shop, shop2] = ["shop", "shop-2"].map(|name| ServiceName::new(name).unwrap());
        let (first, end) = keys.events(&shop, 9, 11);
        let held = |key: &String| *key >= first && *key < end;
        assert!(held(&keys.event(&shop, 9)) && held(&keys.event(&shop, 10)));
        assert!(!held(&keys.event(&shop, 8)) && !held(&keys.event(&shop, 11)));
        assert!(!held(&keys.event(&shop2, 9)));

        let (first, end) = keys.commands(&shop);
        let id = CommandId::new("z_Z").unwrap();
        assert!((&first..&end).contains(&&keys.command(&shop, &id)));
        assert!(!(&first..&end).contains(&&keys.command(&shop2, &id)));
        let (first, end) = keys.all_status();
        assert!((&first..&end).contains(&&keys.status(&shop2)));
        assert!(!(&first..&end).contains(&&keys.evidence(&shop2)));
        assert_eq!(service(keys.status(&shop2).as_bytes()), Some(shop2));
    }
}
