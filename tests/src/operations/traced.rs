//! What a trace says of a packet that is about to be sent.

use std::net::SocketAddr;

use weir::dataplane::kernel::Kernel;
use weir::model::{Protocol, ServiceName};
use weir::node::trace::answer::TraceFlow;
use weir_ebpf::abi::TCP;

use super::world::{INDICES, SERVICE, World};
use crate::frames::{self, Frame};
use crate::program::Counts;

impl World {
    /// Where a packet will go, as the node says, and all that it says of it. Nothing may change.
    pub(super) fn trace(
        &mut self,
        frame: &Frame,
        flags: u8,
    ) -> Result<(Option<SocketAddr>, String), String> {
        let state = |kernel: &Kernel| {
            let mut flows = kernel.flows(TCP).map_err(|error| error.to_string())?;
            flows.sort_unstable_by_key(|(key, _)| (key.source, key.source_port));
            Ok::<_, String>((flows, Counts::read(kernel, INDICES)))
        };
        // Reading all of it takes time; chance has it often enough.
        let look = self.tally.packets.is_multiple_of(16);
        let before = if look { Some(state(self.kernel())?) } else { None };
        let asked = TraceFlow {
            from: frame.from,
            to: Some(frame.to),
            protocol: Protocol::Tcp,
            service: Some(ServiceName::new(SERVICE)?),
        };
        let traced = self.owner().trace_flow(&asked).map_err(|error| error.to_string())?;
        if look && Some(state(self.kernel())?) != before {
            return Err(format!("a trace has changed something: {traced:?}"));
        }
        let walk = traced.walk.ok_or("the listener is not found")?;
        let way = if flags == frames::SYN { &walk.opens } else { &walk.continues };
        let at = way.goes.as_ref().map(|goes| goes.backend.address);
        Ok((at, format!("{walk:?}")))
    }
}
