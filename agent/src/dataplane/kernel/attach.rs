//! Attaching the program to interfaces.
//!
//! An interface in an XDP mode has both programs: what XDP leaves, TC finishes.

use std::os::fd::AsFd;

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;
use aya::{Ebpf, TestRun, TestRunOptions};

use super::Kernel;
use super::load::{LoadError, chain, refused};

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the stack, for drivers that have none.
    XdpGeneric,
    /// TC.
    Tc,
}
