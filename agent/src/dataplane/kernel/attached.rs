//! Whether the programs are still attached where they were: anyone with the rights may detach them,
//! and an interface that is deleted takes them along.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;
use std::{fs, io};

use aya::programs::{ProgramError, loaded_links};

use super::attach::{Programs, tc_hook};
use super::clsact;
use crate::dataplane::sys::link;
use crate::model::Hook;

impl Programs {
    /// For each interface, by name and index, whether what makes up this hook is attached to it.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn attached(
        &mut self,
        interfaces: &[(&str, u32, Hook)],
    ) -> Result<Vec<bool>, ProgramError> {
        let ids = [self.tc()?.info()?.id(), self.xdp()?.info()?.id(), self.generic()?.info()?.id()];
        let links = links(&ids)?;
        let [tc, native, generic] = ids;
        let mut is_attached = |(name, index, hook): &(&str, u32, Hook)| {
            let linked = |program| links.contains(&(program, *index));
            let by_tc = match tc_hook() {
                Hook::Clsact => clsact::is_there(self.tc_mut()?, name),
                _ => linked(tc),
            };
            // In an XDP mode an interface has both.
            Ok(by_tc
                && match hook {
                    Hook::XdpNative => linked(native),
                    Hook::XdpGeneric => linked(generic),
                    Hook::Tcx | Hook::Clsact => true,
                })
        };
        interfaces.iter().map(&mut is_attached).collect()
    }
}

/// The links of these programs: each program's id with the index of the interface.
fn links(programs: &[u32]) -> Result<BTreeSet<(u32, u32)>, ProgramError> {
    let mut links = BTreeSet::new();
    for info in loaded_links() {
        // One that has just ended is as good as none.
        let Ok(info) = info else { continue };
        if programs.contains(&info.program_id())
            && let Some(index) = interface(info.id())?
        {
            links.insert((info.program_id(), index));
        }
    }
    Ok(links)
}

/// The interface of a link; none when it is detached.
fn interface(id: u32) -> io::Result<Option<u32>> {
    let Ok(link) = link(id) else { return Ok(None) };
    // The same as `BPF_OBJ_GET_INFO_BY_FD` says, as text.
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    let index = info.lines().find_map(|line| line.strip_prefix("ifindex:")?.trim().parse().ok());
    Ok(index.filter(|index| *index != 0))
}
