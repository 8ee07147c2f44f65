//! A packet that goes no further than the node, whose sender is told why (RFC 792, RFC 4443).

use weir_ebpf::abi::Reason;

use super::icmp::told;
use super::{Case, Draft};

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Its hop limit is used up.
    Expired,
    /// IP packets of more than so many bytes do not fit.
    TooBig(u16),
}

impl Draft {
    /// XDP leaves it to TC, which drops it and tells its sender why, as if from the address that
    /// it was for.
    pub(super) fn tells(self, why: Why) -> Case {
        let from = self.input.inner().destination.to_string();
        self.tells_from(&from, why)
    }

    /// The same, from another address.
    pub(super) fn tells_from(self, from: &str, why: Why) -> Case {
        let is_v4 = self.input.inner().source.is_ipv4();
        let (reason, message) = match (why, is_v4) {
            (Why::Expired, true) => (Reason::HopLimit, (11, 0, [0; 4])),
            (Why::Expired, false) => (Reason::HopLimit, (3, 0, [0; 4])),
            (Why::TooBig(mtu), is_v4) => {
                let [high, low] = mtu.to_be_bytes();
                let (kind, code) = if is_v4 { (3, 4) } else { (2, 0) };
                (Reason::TooBig, (kind, code, [0, 0, high, low]))
            }
        };
        let error = told(&self.input, from, message);
        self.tc_sends(error, reason)
    }
}
