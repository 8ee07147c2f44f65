//! The programs for rare work: where the TC program finds them.

use weir_ebpf::abi::{PROGRAM_FRAGMENT, PROGRAM_ICMP, PROGRAM_QUOTE, PROGRAM_REPLY, RARE_PROGRAMS};

use super::Kernel;
use super::load::{LoadError, refused, wrong};

/// Their places in the array, and their names.
pub(super) const RARE: [(u32, &str); RARE_PROGRAMS as usize] = [
    (PROGRAM_ICMP, "weir_tc_icmp"),
    (PROGRAM_FRAGMENT, "weir_tc_fragment"),
    (PROGRAM_REPLY, "weir_tc_reply"),
    (PROGRAM_QUOTE, "weir_tc_quote"),
];

impl Kernel {
    /// Puts them where the TC program calls them. One that is attached already and shares the
    /// pinned array has the new ones from here on; all of one contract fit together.
    pub(super) fn fill_programs(&mut self) -> Result<(), LoadError> {
        for (index, name) in RARE {
            let program = self.programs.rare(name).and_then(|program| program.fd());
            let program = program.map_err(refused(name))?;
            self.rare.set(index, program, 0).map_err(wrong("PROGRAMS"))?;
        }
        Ok(())
    }
}
