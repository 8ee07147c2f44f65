//! Attaching the program to interfaces.
//!
//! An interface in an XDP mode has both programs: what XDP leaves, TC finishes.

use std::path::Path;

use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, maps::Map};

use super::Kernel;
use super::load::{LoadError, chain, kernel_has, refused};
use crate::model::{AttachMode, Hook};

const XDP: &str = "weir_xdp";
const TC: &str = "weir_tc";

/// Why the program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("there is no interface {0:?} here; `ip link` lists those there are")]
    NoInterface(String),
    /// The kernel or the driver refused.
    #[error("cannot attach to {interface} as {hook}: {reason}")]
    Refused {
        /// The interface.
        interface: String,
        /// How.
        hook: Hook,
        /// What it said, and what to do.
        reason: String,
    },
}

/// The object with its programs, loaded.
pub(super) struct Programs(Ebpf);

impl Programs {
    /// Loads both programs of the object.
    pub(super) fn load(mut object: Ebpf) -> Result<Self, LoadError> {
        program::<Xdp>(&mut object, XDP).and_then(|xdp| xdp.load()).map_err(refused(XDP))?;
        program::<SchedClassifier>(&mut object, TC)
            .and_then(|tc| tc.load())
            .map_err(refused(TC))?;
        Ok(Self(object))
    }

    /// The XDP program.
    pub(super) fn xdp(&self) -> Result<&Xdp, ProgramError> {
        self.0.program(XDP).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// The TC program.
    pub(super) fn tc(&self) -> Result<&SchedClassifier, ProgramError> {
        self.0.program(TC).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// Takes a map out, for good.
    pub(super) fn take_map(&mut self, name: &str) -> Option<Map> {
        self.0.take_map(name)
    }
}

fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    object.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

impl Kernel {
    /// Attaches to an interface, and says how. Detaches when the data plane is dropped.
    ///
    /// # Errors
    ///
    /// [`AttachError`]; nothing is attached to that interface then.
    pub fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<Hook, AttachError> {
        if !Path::new("/sys/class/net").join(interface).exists() {
            return Err(AttachError::NoInterface(interface.to_owned()));
        }
        match mode {
            AttachMode::Tc => self.attach_tc(interface),
            AttachMode::Xdp => self.attach_xdp(interface, Hook::XdpNative),
            AttachMode::XdpGeneric => self.attach_xdp(interface, Hook::XdpGeneric),
            // On a virtual device XDP costs a copy for each packet from a local socket, so there
            // `auto` is TC. Only real hardware has a device behind it.
            AttachMode::Auto if is_hardware(interface) => {
                self.attach_xdp(interface, Hook::XdpNative).or_else(|_| self.attach_tc(interface))
            }
            AttachMode::Auto => self.attach_tc(interface),
        }
    }

    fn attach_tc(&mut self, interface: &str) -> Result<Hook, AttachError> {
        let hook = if kernel_has(6, 6) { Hook::Tcx } else { Hook::Clsact };
        let options = if hook == Hook::Tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            // It may be there already; if it could not be made, the attachment below says why.
            let _ = tc::qdisc_add_clsact(interface);
            TcAttachOptions::Netlink(NlOptions::default())
        };
        program::<SchedClassifier>(&mut self.programs.0, TC)
            .and_then(|tc| tc.attach_with_options(interface, TcAttachType::Ingress, options))
            .map_err(|error| attach_error(interface, hook, &error))?;
        Ok(hook)
    }

    fn attach_xdp(&mut self, interface: &str, hook: Hook) -> Result<Hook, AttachError> {
        let mode = if hook == Hook::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
        let link = program::<Xdp>(&mut self.programs.0, XDP)
            .and_then(|xdp| xdp.attach(interface, mode))
            .map_err(|error| attach_error(interface, hook, &error))?;
        if let Err(error) = self.attach_tc(interface) {
            let _ = program::<Xdp>(&mut self.programs.0, XDP).and_then(|xdp| xdp.detach(link));
            return Err(error);
        }
        Ok(hook)
    }
}

fn is_hardware(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("device").exists()
}

fn attach_error(interface: &str, hook: Hook, error: &ProgramError) -> AttachError {
    let said = chain(error);
    let busy = said.contains("os error 16");
    let unsupported = said.contains("os error 95") || said.contains("os error 22");
    let reason = if busy {
        format!(
            "another XDP program is attached there; `ip link show {interface}` names it ({said})"
        )
    } else if unsupported && hook == Hook::XdpNative {
        format!(
            "its driver has no native XDP; try {interface}:tc or {interface}:xdp-generic ({said})"
        )
    } else {
        said
    };
    AttachError::Refused { interface: interface.to_owned(), hook, reason }
}
