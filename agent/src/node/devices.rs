//! What an XDP program may send through, and why it may not. Pure.
//!
//! A frame that is redirected to an interface which takes none is lost, so the program redirects
//! only to interfaces that are known to take them, and leaves all other packets to TC. No packet is
//! lost by that, but it is slower than the operator means it to be; so it is explained.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::InterfaceStatus;
use crate::dataplane::next_hop::{Device, DeviceKind};
use crate::model::Hook;

/// The interfaces that take redirected frames, by index.
pub(super) fn redirectable(
    devices: &BTreeMap<u32, Device>,
    attached: &[InterfaceStatus],
) -> BTreeSet<u32> {
    let takes = |(index, device): &(&u32, &Device)| {
        device.redirect.unwrap_or_else(|| {
            // Drivers with native XDP send redirected frames as well, as a rule only while they
            // have a program of their own. A veth depends on its peer, of which nothing is known.
            let native = |interface: &InterfaceStatus| {
                interface.index == **index && interface.actual == Some(Hook::XdpNative)
            };
            device.kind == DeviceKind::Hardware && attached.iter().any(native)
        })
    };
    devices.iter().filter(takes).map(|(index, _)| *index).collect()
}

/// Those of them that take frames in several buffers, too. Where the kernel says nothing, none is
/// trusted with them: TC sends them as well.
pub(super) fn in_buffers(devices: &BTreeMap<u32, Device>) -> BTreeSet<u32> {
    devices.iter().filter(|(_, device)| device.in_buffers).map(|(index, _)| *index).collect()
}

/// The interfaces by which frames may go back as `XDP_TX`, by index. Every driver with native XDP
/// can do that, but a veth does it late.
pub(super) fn returning(
    devices: &BTreeMap<u32, Device>,
    attached: &[InterfaceStatus],
) -> BTreeSet<u32> {
    let returns = |interface: &&InterfaceStatus| match interface.actual {
        Some(Hook::XdpGeneric) => true,
        Some(Hook::XdpNative) => {
            devices.get(&interface.index).is_some_and(|device| device.kind == DeviceKind::Hardware)
        }
        _ => false,
    };
    attached.iter().filter(returns).map(|interface| interface.index).collect()
}

/// For each interface, by index, that XDP cannot send through but should: what an operator should
/// know. Such are those attached to with XDP, and, while there are any, those by which backends are
/// reached (`outputs`).
pub(super) fn slow(
    devices: &BTreeMap<u32, Device>,
    attached: &[InterfaceStatus],
    outputs: &BTreeSet<u32>,
) -> BTreeMap<u32, String> {
    let by_xdp = |interface: &&InterfaceStatus| {
        matches!(interface.actual, Some(Hook::XdpNative | Hook::XdpGeneric))
    };
    let with_xdp: BTreeSet<u32> = attached.iter().filter(by_xdp).map(|one| one.index).collect();
    if with_xdp.is_empty() {
        return BTreeMap::new();
    }
    let good = redirectable(devices, attached);
    let concerned = with_xdp.union(outputs).filter(|index| !good.contains(index));
    let explained = concerned.filter_map(|index| {
        let device = devices.get(index)?;
        Some((*index, format!("packets to {} leave through TC: {}", device.name, why(device))))
    });
    explained.collect()
}

fn why(device: &Device) -> String {
    match (device.redirect, device.kind) {
        (Some(_), DeviceKind::Veth) => "its peer cannot take redirected XDP frames; load an XDP \
             program on the peer (one that passes is enough) or turn on GRO there (ethtool -K PEER \
             gro on)"
            .to_owned(),
        (Some(_), DeviceKind::Hardware) => format!(
            "its driver takes no redirected XDP frames now; most that can do so only while an XDP \
             program is attached (--interface {}:xdp)",
            device.name
        ),
        (Some(_), DeviceKind::Other) => "a device of this kind takes no redirected XDP frames, or \
             not as long as one of its ports takes none"
            .to_owned(),
        (None, DeviceKind::Hardware) => format!(
            "this kernel does not say whether it takes redirected XDP frames (Linux 6.3 does), and \
             weir is not attached to it with native XDP (--interface {}:xdp)",
            device.name
        ),
        (None, DeviceKind::Veth | DeviceKind::Other) => {
            "this kernel does not say whether it takes \
             redirected XDP frames (Linux 6.3 does)"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttachMode;

    fn devices(list: &[(u32, DeviceKind, Option<bool>)]) -> BTreeMap<u32, Device> {
        let device = |(index, kind, redirect): &(u32, DeviceKind, Option<bool>)| {
            let (name, in_buffers) =
                (format!("if{index}"), *redirect == Some(true) && index % 2 == 0);
            (*index, Device { name, kind: *kind, redirect: *redirect, in_buffers })
        };
        list.iter().map(device).collect()
    }

    fn attached(list: &[(u32, Hook)]) -> Vec<InterfaceStatus> {
        let interface = |(index, hook): &(u32, Hook)| InterfaceStatus {
            name: format!("if{index}"),
            index: *index,
            asked: AttachMode::Auto,
            actual: Some(*hook),
            state: "attached".to_owned(),
        };
        list.iter().map(interface).collect()
    }

    #[test]
    fn what_the_kernel_says_counts() {
        use DeviceKind::{Hardware, Other, Veth};
        let told = devices(&[
            (1, Veth, Some(true)),
            (2, Veth, Some(false)),
            (3, Hardware, Some(false)),
            (4, Other, Some(true)),
        ]);
        let native = attached(&[(3, Hook::XdpNative)]);
        assert_eq!(redirectable(&told, &native), [1, 4].into());
        assert_eq!(in_buffers(&told), [4].into());
    }

    #[test]
    fn only_a_veth_sends_nothing_back_by_itself() {
        use DeviceKind::{Hardware, Veth};
        let told = [(1, Veth), (2, Hardware), (3, Veth), (4, Hardware)];
        let told = devices(&told.map(|(index, kind)| (index, kind, Some(true))));
        let attached = attached(&[
            (1, Hook::XdpNative),
            (2, Hook::XdpNative),
            (3, Hook::XdpGeneric),
            (4, Hook::Tcx),
        ]);
        assert_eq!(returning(&told, &attached), [2, 3].into());
    }

    #[test]
    fn where_it_says_nothing_only_native_hardware_is_trusted() {
        use DeviceKind::{Hardware, Other, Veth};
        let silent = [(1, Veth), (2, Hardware), (3, Hardware), (4, Hardware), (5, Other)];
        let silent = devices(&silent.map(|(index, kind)| (index, kind, None)));
        let attached = attached(&[
            (1, Hook::XdpNative),
            (2, Hook::XdpNative),
            (3, Hook::XdpGeneric),
            (5, Hook::XdpNative),
        ]);
        assert_eq!(redirectable(&silent, &attached), [2].into());
    }

    #[test]
    fn only_interfaces_that_matter_to_xdp_are_explained() {
        use DeviceKind::{Other, Veth};
        let told = devices(&[
            (1, Veth, Some(false)),
            (2, Veth, Some(false)),
            (3, Other, Some(false)),
            (4, Veth, Some(true)),
        ]);
        let explained = |hook, outputs: &[u32]| -> Vec<u32> {
            let outputs = outputs.iter().copied().collect();
            slow(&told, &attached(&[(1, hook)]), &outputs).into_keys().collect()
        };
        assert_eq!(explained(Hook::Tcx, &[2, 3]), [0; 0]);
        assert_eq!(explained(Hook::XdpNative, &[]), [1]);
        assert_eq!(explained(Hook::XdpGeneric, &[3, 4]), [1, 3]);
        assert_eq!(explained(Hook::XdpNative, &[9]), [1], "one that has gone");
        let text = &slow(&told, &attached(&[(1, Hook::XdpNative)]), &BTreeSet::new())[&1];
        assert_eq!(
            text,
            "packets to if1 leave through TC: its peer cannot take redirected XDP frames; load an \
             XDP program on the peer (one that passes is enough) or turn on GRO there (ethtool -K \
             PEER gro on)"
        );
    }
}
