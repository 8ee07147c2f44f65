//! What names a backend on every node, whatever index it has there.

use std::cmp::Ordering;

use weir_ebpf::abi::Address;

/// A backend's address and port. Ordered by [`Identity::bytes`], because the words of an
/// [`Address`] compare differently on big-endian processors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Where it is.
    pub address: Address,
    /// Port, host byte order.
    pub port: u16,
}

impl Identity {
    /// Canonical form: 16 bytes of address and two of port, all in network byte order.
    #[must_use]
    pub fn bytes(&self) -> [u8; 18] {
        let mut bytes = [0; 18];
        let (address, port) = bytes.split_at_mut(16);
        for (to, word) in address.chunks_exact_mut(4).zip(self.address.0) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        port.copy_from_slice(&self.port.to_be_bytes());
        bytes
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(&other.bytes())
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
