//! Network interfaces as next hops need them: what they carry, and what lies below a VLAN. Pure.

use std::collections::BTreeMap;

use super::{Device, Mac};

/// Interfaces by index.
pub(super) type Links = BTreeMap<u32, Link>;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// What others are told of it.
    pub(super) device: Device,
    /// Its own MAC, if it can carry Ethernet frames to a neighbour.
    pub(super) mac: Option<Mac>,
    /// Largest IP packet that it takes, in bytes. Zero: not known.
    pub(super) mtu: u32,
    /// What makes it a VLAN.
    pub(super) vlan: Option<Vlan>,
}

/// What a VLAN device does: its frames leave by the device below, with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vlan {
    /// Index of the device below, in the same network namespace.
    pub(super) lower: u32,
    /// Protocol, priority and id, as on the wire. The priority is zero: which one a packet gets
    /// is known to the VLAN device alone.
    pub(super) tag: u32,
}

/// The interface by which frames that leave `interface` go in the end, and the tags they have
/// then, outer one first. A VLAN that cannot be said with two tags is its own way out: the kernel
/// sees to the tags.
pub(super) fn below(links: &Links, interface: u32) -> (u32, [u32; 2]) {
    let vlan = |index| links.get(&index).and_then(|link: &Link| link.vlan);
    let Some(inner) = vlan(interface) else { return (interface, [0; 2]) };
    let Some(outer) = vlan(inner.lower) else { return (inner.lower, [inner.tag, 0]) };
    match vlan(outer.lower) {
        None => (outer.lower, [outer.tag, inner.tag]),
        Some(_) => (interface, [0; 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeviceKind;
    use super::*;

    fn links(vlans: &[(u32, Option<(u32, u32)>)]) -> Links {
        let link = |vlan: Option<(u32, u32)>| Link {
            device: Device {
                name: String::new(),
                kind: DeviceKind::Other,
                redirect: None,
                in_buffers: false,
            },
            mac: None,
            mtu: 1500,
            vlan: vlan.map(|(lower, tag)| Vlan { lower, tag }),
        };
        vlans.iter().map(|(index, vlan)| (*index, link(*vlan))).collect()
    }

    #[test]
    fn tags_are_those_of_all_vlans_on_the_way_down() {
        let links = links(&[
            (1, None),
            (2, Some((1, 0xa))),
            (3, Some((2, 0xb))),
            (4, Some((3, 0xc))),
            (5, Some((9, 0xd))),
        ]);
        assert_eq!(below(&links, 1), (1, [0, 0]));
        assert_eq!(below(&links, 2), (1, [0xa, 0]));
        assert_eq!(below(&links, 3), (1, [0xa, 0xb]));
        assert_eq!(below(&links, 4), (4, [0, 0]), "three tags are the kernel's business");
        assert_eq!(below(&links, 5), (9, [0xd, 0]));
        assert_eq!(below(&links, 8), (8, [0, 0]), "an interface that nobody knows");
    }

    #[test]
    fn a_circle_ends() {
        let links = links(&[(1, Some((2, 0xa))), (2, Some((1, 0xb)))]);
        assert_eq!(below(&links, 1), (1, [0, 0]));
    }
}
