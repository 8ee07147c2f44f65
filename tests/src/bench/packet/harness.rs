//! The harness, loaded: runs a program over a table of flows, and says how long a packet takes.

use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use weir::dataplane::Mapped;
use weir_ebpf::abi::TCP;
use weir_ebpf::bench::{FIRST, FRAME_LEN, FRAME_WORDS, MASK, RING, RUNS, TARGET, endpoint};

use super::flows::Headers;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEIR_BENCH_OBJECT"));

/// What a program says that sends the frame back.
const XDP_TX: u32 = 3;
/// What one says that redirects it.
const XDP_REDIRECT: u32 = 4;

/// A program to compare with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    /// Sends the frame as it is: what the harness costs.
    Nothing,
    /// Parses, swaps addresses, sends.
    Floor,
    /// A balancer with a table of connections.
    Textbook,
}

impl Reference {
    const ALL: [Self; 3] = [Self::Nothing, Self::Floor, Self::Textbook];

    /// Name of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "bench_nothing",
            Self::Floor => "bench_floor",
            Self::Textbook => "bench_textbook",
        }
    }
}

/// The programs of the benchmark.
pub struct Harness {
    object: Ebpf,
    targets: ProgramArray<MapData>,
    frames: Mapped,
    state: Mapped,
    /// Flows that there is room for.
    room: usize,
}

impl Harness {
    /// Loads it, with room for so many flows. Needs root.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn load(room: usize) -> Result<Self> {
        let mut object =
            EbpfLoader::new().map_max_entries("FRAMES", u32::try_from(room)?).load(OBJECT)?;
        for name in ["bench_harness"].into_iter().chain(Reference::ALL.map(Reference::name)) {
            program(&mut object, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        fill_textbook(&mut object)?;
        let targets = take(&mut object, "TARGETS")?.try_into()?;
        let frames = mapped(take(&mut object, "FRAMES")?, room * FRAME_WORDS * 8)?;
        let state = mapped(take(&mut object, "STATE")?, 64)?;
        Ok(Self { object, targets, frames, state, room })
    }

    /// Writes the headers of flows, from the place `first` on.
    ///
    /// # Errors
    ///
    /// There is no room for them.
    pub fn write(&self, first: usize, flows: impl Iterator<Item = Headers>) -> Result<()> {
        let words = self.frames.long_words();
        let mut places = words[first * FRAME_WORDS..].chunks_exact(FRAME_WORDS);
        for headers in flows {
            let place = places.next().with_context(|| format!("room for {} flows", self.room))?;
            for (to, from) in place.iter().zip(headers) {
                to.store(from, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// From now on runs are over these flows, a power of two.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn use_flows(&self, first: usize, count: usize) -> Result<()> {
        ensure!(count.is_power_of_two() && first + count <= self.room, "{count} flows");
        let state = self.state.long_words();
        state[RUNS].store(0, Ordering::Relaxed);
        state[FIRST].store(first as u64, Ordering::Relaxed);
        state[MASK].store(count as u64 - 1, Ordering::Relaxed);
        Ok(())
    }

    /// From now on runs are of this program.
    ///
    /// # Errors
    ///
    /// The kernel refuses: it is of another kind than the harness.
    pub fn call(&mut self, program: &ProgramFd) -> Result<()> {
        self.targets.set(TARGET, program, 0).context("the program cannot be called")
    }

    /// A program to compare with.
    ///
    /// # Errors
    ///
    /// It is not in the object.
    pub fn reference(&mut self, reference: Reference) -> Result<&Xdp> {
        Ok(program(&mut self.object, reference.name())?)
    }

    /// From now on runs are of this one.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn call_reference(&mut self, reference: Reference) -> Result<()> {
        let program = self.reference(reference)?.fd()?.try_clone()?;
        self.call(&program)
    }

    /// Runs over so many packets and gives the nanoseconds that one took: CPU time of this thread, so
    /// that what else the machine does counts as little as can be.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or did not send the last packet.
    #[allow(clippy::cast_precision_loss, reason = "runs take seconds at most")]
    pub fn run(&mut self, packets: u32) -> Result<f64> {
        let frame = [0; FRAME_LEN];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = packets;
        let harness = program(&mut self.object, "bench_harness")?;
        let before = cpu()?;
        let run = harness.test_run(options).context("the harness cannot be run")?;
        let took = cpu()?.saturating_sub(before);
        ensure!(
            [XDP_TX, XDP_REDIRECT].contains(&run.return_value),
            "the program does not send the packet, but says {}",
            run.return_value
        );
        Ok(took.as_nanos() as f64 / f64::from(packets))
    }

    /// Runs over so many packets, and gives the last verdict and frame.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub fn last_of(&mut self, packets: u32) -> Result<(u32, Vec<u8>)> {
        let frame = [0; FRAME_LEN];
        let mut out = vec![0; FRAME_LEN + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        options.repeat = packets;
        let run = program(&mut self.object, "bench_harness")?.test_run(options)?;
        out.truncate(run.data_size_out as usize);
        Ok((run.return_value, out))
    }
}

/// CPU time of this thread.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).with_context(|| format!("no map {name}"))
}

fn mapped(map: Map, bytes: usize) -> Result<Mapped> {
    match map {
        Map::Array(data) => Ok(Mapped::new(data.fd().as_fd(), bytes)?),
        _ => anyhow::bail!("not an array"),
    }
}

/// The textbook program's listeners and backends: as many services as a node can have, three backends.
fn fill_textbook(object: &mut Ebpf) -> Result<()> {
    let backends = 3_u32;
    let map = |object: &mut Ebpf, name: &str| take(object, name);
    let mut listeners: HashMap<_, [u32; 5], u32> = map(object, "BOOK_LISTENERS")?.try_into()?;
    for service in 0..super::flows::SERVICES {
        let address = u32::from_ne_bytes(super::flows::listener_v4(service).octets());
        let port = super::flows::PORT.to_be();
        listeners.insert([address, 0, 0, 0, endpoint(port, TCP)], service, 0)?;
    }
    let mut ring: Array<_, u32> = map(object, "BOOK_RING")?.try_into()?;
    for place in 0..u32::try_from(RING)? {
        ring.set(place, place % backends, 0)?;
    }
    let mut addresses: Array<_, [u32; 4]> = map(object, "BOOK_BACKENDS")?.try_into()?;
    for backend in 0..backends {
        let address = u32::from_ne_bytes([10, 0, 0, 1 + u8::try_from(backend)?]);
        addresses.set(backend, [address, 0, 0, 0], 0)?;
    }
    Ok(())
}
