//! Attaching the program to interfaces.
//!
//! An interface in an XDP mode has both programs: what XDP leaves, TC finishes. Where there are
//! pins, links are pinned, and a link that is pinned already gets the new program in place of the
//! old one: the kernel swaps them without a packet in between.

use std::error::Error;
use std::path::{Path, PathBuf};

use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, maps::Map};
use aya_log::EbpfLogger;

use super::bpf_log::{Forward, Lines};
use super::load::{LoadError, kernel_has, refused};
use super::pins::{self, PinError, Pins};
use super::rare::RARE;
use super::{Kernel, clsact, links};
use crate::causes::causes;
use crate::model::{AttachMode, Hook};

const XDP: &str = "weir_xdp";
const XDP_GENERIC: &str = "weir_xdp_generic";
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
pub(super) struct Programs {
    object: Ebpf,
    pins: Option<Pins>,
    /// Files of the links that are pinned, and whether they were before.
    pinned: Vec<(PathBuf, bool)>,
}

impl Programs {
    /// Loads the programs of the object.
    pub(super) fn load(mut object: Ebpf, pins: Option<Pins>) -> Result<Self, LoadError> {
        for name in [XDP, XDP_GENERIC] {
            program::<Xdp>(&mut object, name).and_then(Xdp::load).map_err(refused(name))?;
        }
        program::<SchedClassifier>(&mut object, TC)
            .and_then(SchedClassifier::load)
            .map_err(refused(TC))?;
        for (_, name) in RARE {
            program::<SchedClassifier>(&mut object, name)
                .and_then(SchedClassifier::load)
                .map_err(refused(name))?;
        }
        Ok(Self { object, pins, pinned: Vec::new() })
    }

    /// The XDP program.
    pub(super) fn xdp(&self) -> Result<&Xdp, ProgramError> {
        self.object.program(XDP).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// The XDP program for the kernel's generic hook.
    pub(super) fn generic(&self) -> Result<&Xdp, ProgramError> {
        self.object.program(XDP_GENERIC).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// The TC program.
    pub(super) fn tc(&self) -> Result<&SchedClassifier, ProgramError> {
        self.object.program(TC).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// The TC program, to attach it.
    pub(super) fn tc_mut(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        program(&mut self.object, TC)
    }

    /// A program that the TC program calls.
    pub(super) fn rare(&self, name: &'static str) -> Result<&SchedClassifier, ProgramError> {
        self.object.program(name).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// Notes that a link is pinned, and whether it was before this agent.
    fn note_pin(&mut self, pin: PathBuf, before: bool) {
        if !self.pinned.iter().any(|(known, _)| *known == pin) {
            self.pinned.push((pin, before));
        }
    }

    /// What reads the program's lines.
    pub(super) fn log(&mut self) -> Option<Lines> {
        EbpfLogger::init_with_logger(&mut self.object, Forward).ok().map(Lines)
    }

    /// Takes a map out, for good.
    pub(super) fn take_map(&mut self, name: &str) -> Option<Map> {
        self.object.take_map(name)
    }
}

impl Attach for Programs {
    fn tc(&mut self, interface: &str) -> Result<Hook, AttachError> {
        let name = if tc_hook() == Hook::Tcx { "tc" } else { tc_hook().name() };
        let pin = self.pins.as_ref().map(|pins| pins.link(interface, name));
        let before = pin.as_deref().is_some_and(Path::exists);
        let hook = attach_tc(&mut self.object, TC, interface, pin.as_deref())?;
        if let Some(pin) = pin {
            self.note_pin(pin, before);
        }
        Ok(hook)
    }

    fn xdp(&mut self, interface: &str, hook: Hook) -> Result<Hook, AttachError> {
        // First TC, which finishes what XDP leaves.
        self.tc(interface)?;
        // By mode: a link cannot change it, and an interface has only one.
        let other = if hook == Hook::XdpNative { Hook::XdpGeneric } else { Hook::XdpNative };
        if let Some(pins) = &self.pins {
            links::end(&[pins.link(interface, other.name())])
                .map_err(|error| attach_error(interface, hook, &error))?;
        }
        let pin = self.pins.as_ref().map(|pins| pins.link(interface, hook.name()));
        let before = pin.as_deref().is_some_and(Path::exists);
        attach_xdp(&mut self.object, [XDP, XDP_GENERIC], interface, hook, pin.as_deref())?;
        if let Some(pin) = pin {
            self.note_pin(pin, before);
        }
        Ok(hook)
    }
}

/// The programs of one object, as they are attached to an interface.
pub(crate) trait Attach {
    /// At TC.
    fn tc(&mut self, interface: &str) -> Result<Hook, AttachError>;
    /// At XDP; `hook` is native or generic.
    fn xdp(&mut self, interface: &str, hook: Hook) -> Result<Hook, AttachError>;
}

/// Attaches to an interface by `mode`, and says how.
pub(crate) fn attach(
    programs: &mut impl Attach,
    interface: &str,
    mode: AttachMode,
) -> Result<Hook, AttachError> {
    if !Path::new("/sys/class/net").join(interface).exists() {
        return Err(AttachError::NoInterface(interface.to_owned()));
    }
    match mode {
        AttachMode::Xdp => programs.xdp(interface, Hook::XdpNative),
        AttachMode::XdpGeneric => programs.xdp(interface, Hook::XdpGeneric),
        // On a virtual device XDP costs a copy for each packet from a local socket, so there
        // `auto` is TC. Only real hardware has a device behind it.
        AttachMode::Auto if is_hardware(interface) => {
            programs.xdp(interface, Hook::XdpNative).or_else(|_| programs.tc(interface))
        }
        AttachMode::Auto | AttachMode::Tc => programs.tc(interface),
    }
}

pub(super) fn tc_hook() -> Hook {
    if kernel_has(6, 6) { Hook::Tcx } else { Hook::Clsact }
}

/// Attaches the TC program `name`. With `pin` it stays until the pin goes, or takes the place of
/// what is pinned there.
pub(crate) fn attach_tc(
    object: &mut Ebpf,
    name: &str,
    interface: &str,
    pin: Option<&Path>,
) -> Result<Hook, AttachError> {
    let hook = tc_hook();
    program::<SchedClassifier>(object, name)
        .map_err(Into::into)
        .and_then(|tc| match hook {
            Hook::Tcx => link_tc(tc, interface, pin),
            _ => clsact::attach(tc, interface, pin),
        })
        .map_err(|error: Box<dyn Error>| attach_error(interface, hook, &*error))?;
    Ok(hook)
}

/// The same for the XDP program, of which there is one for native and one for generic mode.
pub(crate) fn attach_xdp(
    object: &mut Ebpf,
    [native, generic]: [&str; 2],
    interface: &str,
    hook: Hook,
    pin: Option<&Path>,
) -> Result<Hook, AttachError> {
    let name = if hook == Hook::XdpGeneric { generic } else { native };
    program::<Xdp>(object, name)
        .map_err(Into::into)
        .and_then(|xdp| link_xdp(xdp, interface, hook, pin))
        .map_err(|error: Box<dyn Error>| attach_error(interface, hook, &*error))?;
    Ok(hook)
}

/// Puts the program into the link pinned at `pin`, or makes a link and pins it there.
fn link_tc(
    tc: &mut SchedClassifier,
    interface: &str,
    pin: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    if let Some(old) = pin.and_then(links::pinned)
        && tc.attach_to_link(old.try_into()?).and_then(|id| tc.take_link(id)).is_ok()
    {
        return Ok(());
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = tc.attach_with_options(interface, TcAttachType::Ingress, options)?;
    match pin {
        Some(pin) => links::pin(tc.take_link(link)?.try_into()?, pin),
        None => Ok(()),
    }
}

/// The same for XDP.
fn link_xdp(
    xdp: &mut Xdp,
    interface: &str,
    hook: Hook,
    pin: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    if let Some(old) = pin.and_then(links::pinned)
        && xdp.attach_to_link(old.try_into()?).and_then(|id| xdp.take_link(id)).is_ok()
    {
        return Ok(());
    }
    let mode = if hook == Hook::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
    let link = xdp.attach(interface, mode)?;
    match pin {
        Some(pin) => links::pin(xdp.take_link(link)?.try_into()?, pin),
        None => Ok(()),
    }
}

/// A program of the object.
pub(crate) fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    object.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

impl Kernel {
    /// Whether an earlier agent was attached to an interface, by what is pinned. If so, its pins are
    /// kept, so that the next agent knows, too.
    pub fn was_attached(&mut self, interface: &str) -> bool {
        let pins = self.programs.pins.as_ref().map(Pins::links).unwrap_or_default();
        let mut before = false;
        for pin in pins {
            if pins::owner(&pin).is_some_and(|(name, _)| name == interface) {
                self.programs.note_pin(pin, true);
                before = true;
            }
        }
        before
    }

    /// Detaches from interfaces that an earlier agent was attached to and this one is not.
    pub fn release_others(&self) {
        let ours = |pin: &PathBuf| self.programs.pinned.iter().any(|(kept, _)| kept == pin);
        let mut others = self.programs.pins.as_ref().map(Pins::links).unwrap_or_default();
        others.retain(|pin| !ours(pin));
        if let Err(error) = links::end(&others) {
            tracing::warn!(%error, "cannot detach what an earlier agent left");
        }
    }

    /// Detaches from what was attached since the load, because not all could be. What an earlier
    /// agent had attached goes on.
    pub fn release_new(&self) {
        let new = self.programs.pinned.iter().filter(|(_, before)| !before);
        let new: Vec<PathBuf> = new.map(|(pin, _)| pin.clone()).collect();
        if let Err(error) = links::end(&new) {
            tracing::warn!(%error, "cannot detach again");
        }
    }

    /// Removes all pins, so that dropping the data plane ends its forwarding.
    ///
    /// # Errors
    ///
    /// Some could not be removed.
    pub fn unpin(&self) -> Result<(), PinError> {
        self.programs.pins.as_ref().map_or(Ok(()), |pins| pins.remove().map(drop))
    }
}

fn is_hardware(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("device").exists()
}

fn attach_error(interface: &str, hook: Hook, error: &(dyn Error + 'static)) -> AttachError {
    let said = causes(error);
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
