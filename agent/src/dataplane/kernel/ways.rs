//! What the program is told of interfaces: those by which backends are reached (`LINKS`), and
//! those that XDP may send frames out of (`DEVICES`).

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;

use aya::maps::MapError;
use weir_ebpf::abi::{GOES_BACK, IN_BUFFERS, Link, MAX_DEVICES, MAX_LINKS, NextHop as HopWord};

use super::{BACKEND_WORDS, Kernel, NEXT_HOP_WORD, map_error};
use crate::causes::causes;
use crate::dataplane::next_hop::NextHop;
use crate::dataplane::{Devices, Error};

impl Kernel {
    /// Index of a link in `LINKS`, written there if it is new.
    pub(super) fn link(&mut self, hop: &NextHop) -> Result<u16, Error> {
        let link = Link {
            ifindex: hop.interface,
            lower: hop.lower,
            mtu: hop.mtu,
            mac: hop.interface_mac,
            back: u8::from(self.back.contains(&hop.lower)),
            pad: 0,
            tags: hop.tags,
        };
        // What is known from before the start may say otherwise, until the devices are told.
        let same = |known: &Link| Link { back: link.back, ..*known } == link;
        if let Some(index) = self.known_links.iter().position(same) {
            return Ok(u16::try_from(index).unwrap_or(0));
        }
        let index = self.place_for_link()?;
        self.links.set(index, link, 0).map_err(map_error("LINKS"))?;
        match self.known_links.get_mut(index as usize) {
            Some(old) => *old = link,
            None => self.known_links.push(link),
        }
        self.last_link = index;
        Ok(u16::try_from(index).unwrap_or(0))
    }

    /// A free place in `LINKS`. When none is left, one that no backend names: links change with
    /// every MTU. A packet may still be on its way by a link that was given up just now, so the
    /// search begins behind the place taken last, and comes back to it as late as can be.
    fn place_for_link(&self) -> Result<u32, Error> {
        let end = u32::try_from(self.known_links.len()).unwrap_or(MAX_LINKS);
        if end < MAX_LINKS {
            return Ok(end);
        }
        let words = self.backend_memory.long_words();
        let hops = words.iter().skip(NEXT_HOP_WORD).step_by(BACKEND_WORDS);
        let named: BTreeSet<u32> =
            hops.map(|word| HopWord(word.load(Ordering::Relaxed)).link()).collect();
        let mut order = (self.last_link + 1..end).chain(1..=self.last_link);
        order.find(|index| !named.contains(index)).ok_or_else(|| Error::Map {
            map: "LINKS",
            reason: format!("backends are reached in {} different ways already", MAX_LINKS - 1),
        })
    }

    /// Tells `LINKS` by which of these interfaces frames may go back as they came.
    fn write_back(&mut self, devices: &Devices) -> Result<(), Error> {
        self.back.clone_from(&devices.back);
        for (index, link) in (0..).zip(&mut self.known_links).skip(1) {
            let back = u8::from(self.back.contains(&link.lower));
            if link.back != back {
                // A packet that reads it at this moment finds all else as it was.
                self.links.set(index, Link { back, ..*link }, 0).map_err(map_error("LINKS"))?;
                link.back = back;
            }
        }
        Ok(())
    }

    /// Makes `DEVICES` hold these interfaces, as far as there is room, and `LINKS` say the same.
    pub(super) fn write_devices(&mut self, devices: &Devices) -> Result<(), Error> {
        self.write_back(devices)?;
        let back = devices.back.iter().map(|index| index | GOES_BACK);
        let in_buffers = devices.in_buffers.iter().map(|index| index | IN_BUFFERS);
        let flagged = back.chain(in_buffers);
        let keys: BTreeSet<u32> = devices.redirect.iter().copied().chain(flagged).collect();
        let failed = map_error("DEVICES");
        let there: Result<BTreeSet<u32>, MapError> = self.devices.keys().collect();
        for key in there.map_err(&failed)?.difference(&keys) {
            match self.devices.remove(*key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                // The kernel removes an interface that goes away by itself.
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // One that fails, because it has just gone, must not keep the others out.
        let mut refused = None;
        for key in &keys {
            let index = key & !(GOES_BACK | IN_BUFFERS);
            if let Err(error) = self.devices.insert(*key, index, None, 0) {
                refused = Some(format!(
                    "interface {index} is missing among {} entries of {MAX_DEVICES}: {}",
                    keys.len(),
                    causes(&error)
                ));
            }
        }
        refused.map_or(Ok(()), |reason| Err(Error::Map { map: "DEVICES", reason }))
    }
}
