//! The interfaces that the program is attached to, and how.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// The longest name of a Linux interface (`IFNAMSIZ` with its final zero is 16).
const MAX_INTERFACE_NAME: usize = 15;

/// How to attach to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// Native XDP where the driver is that of real hardware, else TC.
    #[default]
    Auto,
    /// Native XDP.
    Xdp,
    /// XDP in the kernel's generic hook.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl AttachMode {
    const ALL: [Self; 4] = [Self::Auto, Self::Xdp, Self::XdpGeneric, Self::Tc];

    /// The name as written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

impl FromStr for AttachMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mode = Self::ALL.into_iter().find(|mode| mode.name() == text);
        mode.ok_or_else(|| {
            format!("{text:?} is not a mode; the modes are auto, xdp, xdp-generic and tc")
        })
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the program is attached in fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// In the driver.
    XdpNative,
    /// In the kernel's generic hook.
    XdpGeneric,
    /// TC, by TCX (Linux 6.6).
    Tcx,
    /// TC, by a clsact qdisc.
    Clsact,
}

impl Hook {
    const ALL: [Self; 4] = [Self::XdpNative, Self::XdpGeneric, Self::Tcx, Self::Clsact];

    /// The name as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|hook| hook.name() == text)
            .ok_or_else(|| format!("{text:?} is not a hook"))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An interface to attach to: `eth0` or `eth0:tc`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceSpec {
    /// The interface's name, one that Linux would accept.
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
}

impl FromStr for InterfaceSpec {
    type Err = String;

    /// Linux allows no colon in a name, so the first one begins the mode.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, mode) = match text.split_once(':') {
            Some((name, mode)) => (name, mode.parse()?),
            None => (text, AttachMode::Auto),
        };
        let odd = |byte: u8| byte == b'/' || byte.is_ascii_whitespace() || byte == 0;
        if name.is_empty()
            || name.len() > MAX_INTERFACE_NAME
            || name == "."
            || name == ".."
            || name.bytes().any(odd)
        {
            return Err(format!("{name:?} is not the name of an interface"));
        }
        Ok(Self {
            name: name.to_owned(),
            mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_modes_are_read() {
        let read = |text: &str| {
            text.parse::<InterfaceSpec>()
                .map(|spec| (spec.name, spec.mode))
        };
        assert_eq!(read("eth0"), Ok(("eth0".into(), AttachMode::Auto)));
        assert_eq!(read("eth0:tc"), Ok(("eth0".into(), AttachMode::Tc)));
        assert_eq!(
            read("a.b-c:xdp-generic"),
            Ok(("a.b-c".into(), AttachMode::XdpGeneric))
        );
        assert_eq!(
            read("eth0:fast"),
            Err("\"fast\" is not a mode; the modes are auto, xdp, xdp-generic and tc".into())
        );
        for bad in ["", ":tc", "eth0:", "sixteen-letters-", "a/b", "a b", ".."] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
