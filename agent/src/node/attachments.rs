//! The interfaces, kept attached: one that is deleted is waited for, one that comes back is attached
//! again, and so is one from which someone else has detached the program.

use nix::net::if_::if_nametoindex;

use super::messages::InterfaceStatus;
use super::owner::Owner;
use crate::dataplane::DataPlane;
use crate::model::Hook;
use crate::store::Store;

/// State of an interface that all is well with.
pub const ATTACHED: &str = "attached";
/// State of one that does not exist now.
pub const GONE: &str = "gone: there is no such interface now; it is attached to when it is back";

/// What a look at an interface finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// There is none of this name.
    Nothing,
    /// There is one.
    Interface {
        /// Its index.
        index: u32,
        /// The program is attached to the interface that was known, by the hook that was known.
        attached: bool,
    },
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// All is as it was.
    Nothing,
    /// It has gone.
    Gone,
    /// The program is to be attached, for this reason.
    Attach(&'static str),
}

/// What follows from a look at an interface of which this was known. Pure.
fn follows(known: &InterfaceStatus, seen: Seen) -> Follows {
    match (known.actual, seen) {
        (Some(_), Seen::Nothing) => Follows::Gone,
        (None, Seen::Interface { .. }) => Follows::Attach("it is there again"),
        (Some(_), Seen::Interface { index, .. }) if index != known.index => {
            Follows::Attach("it was deleted and made again")
        }
        (Some(_), Seen::Interface { attached: false, .. }) => {
            Follows::Attach("someone else has detached the program")
        }
        (None, Seen::Nothing) | (Some(_), Seen::Interface { attached: true, .. }) => {
            Follows::Nothing
        }
    }
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Looks whether the program is still attached to every interface, and attaches it where it is
    /// not.
    pub(super) fn keep_attached(&mut self) {
        let known = self.identity.interfaces.clone();
        let asked: Vec<(&str, u32, Hook)> = known
            .iter()
            .filter_map(|known| Some((known.name.as_str(), known.index, known.actual?)))
            .collect();
        let attached = match self.plane.attached(&asked) {
            Ok(attached) => attached,
            Err(error) => {
                tracing::debug!(error, "cannot see what is attached");
                vec![true; asked.len()]
            }
        };
        let detached: Vec<&str> = asked
            .iter()
            .zip(attached)
            .filter(|(_, attached)| !attached)
            .map(|((name, ..), _)| *name)
            .collect();
        let mut changed = false;
        for (place, known) in known.iter().enumerate() {
            let seen = match if_nametoindex(known.name.as_str()) {
                Ok(index) => {
                    Seen::Interface { index, attached: !detached.contains(&known.name.as_str()) }
                }
                Err(_) => Seen::Nothing,
            };
            let now = match (follows(known, seen), seen) {
                (Follows::Attach(why), Seen::Interface { index, .. }) => {
                    self.attach_again(known, index, why)
                }
                (Follows::Gone, _) => {
                    tracing::warn!(interface = known.name, "the interface is gone");
                    InterfaceStatus {
                        index: 0,
                        actual: None,
                        state: GONE.to_owned(),
                        ..known.clone()
                    }
                }
                _ => continue,
            };
            changed |= now != *known;
            self.identity.interfaces[place] = now;
        }
        if changed {
            // What XDP may send through depends on where it is attached.
            self.take_devices(self.devices.clone());
        }
    }

    /// Attaches to an interface, and gives what it comes to.
    fn attach_again(&mut self, known: &InterfaceStatus, index: u32, why: &str) -> InterfaceStatus {
        let name = known.name.as_str();
        match self.plane.attach(name, known.asked) {
            Ok(hook) => {
                tracing::warn!(interface = name, mode = hook.name(), "attached again: {why}");
                let state = ATTACHED.to_owned();
                InterfaceStatus { index, actual: Some(hook), state, ..known.clone() }
            }
            Err(error) => {
                let state = format!("not attached, though it was tried again: {error}");
                if state != known.state {
                    tracing::warn!(interface = name, %error, "cannot attach again: {why}");
                }
                InterfaceStatus { index, actual: None, state, ..known.clone() }
            }
        }
    }

    /// What an operator should know of interfaces that are not attached to.
    pub(super) fn detached_warnings(&self) -> impl Iterator<Item = String> {
        let detached = self.identity.interfaces.iter().filter(|one| one.actual.is_none());
        detached.map(|one| format!("interface {}: {}", one.name, one.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttachMode;

    fn known(index: u32, actual: Option<Hook>) -> InterfaceStatus {
        let (name, state) = ("eth0".to_owned(), String::new());
        InterfaceStatus { name, index, asked: AttachMode::Tc, actual, state }
    }

    #[test]
    fn an_interface_is_attached_to_again_whenever_it_is_there_and_is_not() {
        let (on, off) = (known(7, Some(Hook::Tcx)), known(0, None));
        let there = |index, attached| Seen::Interface { index, attached };
        assert_eq!(follows(&on, there(7, true)), Follows::Nothing);
        assert_eq!(follows(&on, Seen::Nothing), Follows::Gone);
        assert_eq!(follows(&off, Seen::Nothing), Follows::Nothing);
        let again = |known, seen| matches!(follows(known, seen), Follows::Attach(_));
        assert!(again(&on, there(7, false)));
        // Between two looks: the link of the one before cannot be on this one.
        assert!(again(&on, there(8, false)));
        assert!(again(&on, there(8, true)));
        assert!(again(&off, there(7, false)));
        assert!(again(&off, there(7, true)));
    }
}
