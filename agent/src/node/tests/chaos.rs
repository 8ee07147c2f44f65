//! A data plane whose calls fail when told to.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use weir_ebpf::abi::{
    Address, Backend, Counters, Endpoint, FlowEntry, FlowKey, Link, Return, Service, Signals,
    SteerSlot,
};

use crate::dataplane::inspect::{FlowTable, Inspect, Room};
use crate::dataplane::next_hop::NextHop;
use crate::dataplane::{
    Carried, Commit, DataPlane, Devices, Error, OuterSource, ReasonCounts, Swept, Use,
};
use crate::model::Handshakes;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;

/// A call that can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Commit,
    Tables,
    SetNextHop,
    Forget,
    Sweep,
    SetDevices,
    /// Here it is no failure: a part of a sweep shows nothing yet.
    SweepOn,
}

/// Which calls fail.
#[derive(Clone, Default)]
pub(super) struct Plan(Arc<Mutex<Planned>>);

#[derive(Default)]
struct Planned {
    /// Each once, with so many calls of its kind that go well before.
    once: Vec<(Call, u32)>,
    /// Of a hundred calls so many fail, by chance that follows from the second number.
    often: (u64, u64),
}

impl Plan {
    pub(super) fn fail(&self, call: Call, after: u32) {
        self.0.lock().unwrap().once.push((call, after));
    }

    /// From now on so many of a hundred calls fail, whatever they are.
    pub(super) fn fail_often(&self, percent: u64, seed: u64) {
        self.0.lock().unwrap().often = (percent, seed);
    }

    /// Whether chance lets this call fail.
    pub(super) fn fails_by_chance(&self) -> bool {
        let (percent, chance) = &mut self.0.lock().unwrap().often;
        // SplitMix64.
        *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*chance ^ *chance >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % 100 < *percent
    }

    /// Whether all that was told to fail has failed.
    pub(super) fn is_done(&self) -> bool {
        self.0.lock().unwrap().once.is_empty()
    }

    fn check(&self, call: Call) -> Result<(), Error> {
        let mut fails = self.fails_by_chance();
        self.0.lock().unwrap().once.retain_mut(|(kind, after)| {
            if *kind != call {
                return true;
            }
            let now = *after == 0;
            *after = after.saturating_sub(1);
            fails |= now;
            !now
        });
        if fails {
            return Err(Error::Map { map: "CHAOS", reason: "told to fail".to_owned() });
        }
        Ok(())
    }
}

pub(super) struct Chaos<P> {
    plane: P,
    plan: Plan,
}

impl<P> Chaos<P> {
    pub(super) fn new(plane: P, plan: Plan) -> Self {
        Self { plane, plan }
    }
}

impl<P: DataPlane> DataPlane for Chaos<P> {
    fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        self.plan.check(Call::Commit)?;
        self.plane.commit(commit)
    }

    fn tables(&self, service: u32) -> Result<Option<ServiceTables>, Error> {
        self.plan.check(Call::Tables)?;
        self.plane.tables(service)
    }

    fn steering(&self, service: u32) -> Arc<Steering> {
        self.plane.steering(service)
    }

    fn set_next_hop(&mut self, backend: u16, hop: Option<NextHop>) -> Result<(), Error> {
        self.plan.check(Call::SetNextHop)?;
        self.plane.set_next_hop(backend, hop)
    }

    fn set_devices(&mut self, devices: &Devices) -> Result<(), Error> {
        self.plan.check(Call::SetDevices)?;
        self.plane.set_devices(devices)
    }

    fn carried(&self) -> Carried {
        self.plane.carried()
    }

    fn backend(&self, index: u16) -> Backend {
        self.plane.backend(index)
    }

    fn sweep(
        &mut self,
        protocol: u8,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error> {
        self.plan.check(Call::Sweep)?;
        self.plane.sweep(protocol, keep)
    }

    fn sweep_on(
        &mut self,
        buckets: u32,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<Swept, Error> {
        match self.plan.check(Call::SweepOn) {
            Ok(()) => self.plane.sweep_on(buckets, keep),
            Err(_) => Ok(Swept { forgotten: 0, ended: false }),
        }
    }

    fn counters(&self, backend: u16) -> Counters {
        self.plane.counters(backend)
    }

    fn signals(&self, backend: u16) -> Signals {
        self.plane.signals(backend)
    }

    fn handshakes(&self, backend: u16) -> Handshakes {
        self.plane.handshakes(backend)
    }

    fn clear_counters(&mut self, backends: &BTreeSet<u16>) {
        self.plane.clear_counters(backends);
    }

    fn forget(&mut self, lost: &dyn Fn(&FlowKey, &FlowEntry) -> bool) -> Result<u64, Error> {
        self.plan.check(Call::Forget)?;
        self.plane.forget(lost)
    }

    fn reasons(&self) -> ReasonCounts {
        self.plane.reasons()
    }

    fn outer_source(&self) -> OuterSource {
        self.plane.outer_source()
    }

    fn uses(&self) -> Vec<Use> {
        self.plane.uses()
    }
}

impl<P: DataPlane> Inspect for Chaos<P> {
    fn listener(&self, at: &Endpoint) -> Result<Option<u32>, Error> {
        self.plane.listener(at)
    }

    fn way_back(&self, from: &Endpoint) -> Result<Option<Return>, Error> {
        self.plane.way_back(from)
    }

    fn record(&self, service: u32) -> Result<Option<Service>, Error> {
        self.plane.record(service)
    }

    fn steer(&self, service: u32, client: Address) -> Result<Option<SteerSlot>, Error> {
        self.plane.steer(service, client)
    }

    fn remembered(&self, table: FlowTable, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        self.plane.remembered(table, key)
    }

    fn room(&self, key: &FlowKey) -> Result<Room, Error> {
        self.plane.room(key)
    }

    fn link(&self, index: u32) -> Link {
        self.plane.link(index)
    }
}
