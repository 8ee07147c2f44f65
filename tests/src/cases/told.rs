//! A packet that goes no further than the node, whose sender is told why (RFC 792, RFC 4443).

use weir_ebpf::abi::Reason;

pub(super) use super::icmp::Why;
use super::icmp::told;
use super::{Case, Draft};

impl Draft {
    /// XDP leaves it to TC, which drops it and tells its sender why, as if from the address that
    /// it was for.
    pub(super) fn tells(self, why: Why) -> Case {
        let from = self.input.inner().destination.to_string();
        self.tells_from(&from, why)
    }

    /// The same, from another address.
    pub(super) fn tells_from(self, from: &str, why: Why) -> Case {
        let reason = match why {
            Why::Expired => Reason::HopLimit,
            Why::Fits(_) => Reason::TooBig,
        };
        let error = told(&self.input, from, why);
        self.tc_sends(error, reason)
    }
}
