//! What the kernel has counted in a namespace of the lab.

use std::fs;

use anyhow::{Context as _, Result};

use super::Lab;

impl Lab {
    /// SYNs that the clients' kernel has sent again.
    pub fn retransmitted_syns(&self) -> Result<u64> {
        // The file of the calling thread: that of the process shows another namespace.
        let path = "/proc/thread-self/net/netstat";
        let text = self.clients().inside(|| fs::read_to_string(path))?;
        named(&text.context("reading the clients' TCP statistics")?, "TcpExt:", "TCPSynRetrans")
            .with_context(|| format!("{path} has no TCPSynRetrans"))
    }
}

/// A figure of `/proc/net/netstat`: a line of names is followed by a line of values.
fn named(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name() {
        let text = "TcpExt: A TCPSynRetrans B\nTcpExt: 1 2 3\nIpExt: A\nIpExt: 4\n";
        assert_eq!(named(text, "TcpExt:", "TCPSynRetrans"), Some(2));
        assert_eq!(named(text, "IpExt:", "A"), Some(4));
        assert_eq!(named(text, "IpExt:", "B"), None);
    }
}
