//! Files for Wireshark: frames with their times, interfaces and a comment each.
//!
//! The form is pcapng (draft-ietf-opsawg-pcapng) in the order of this machine's bytes, with the
//! three kinds of blocks that this needs.

use std::io::{self, Write};
use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const END: u16 = 0;
const COMMENT: u16 = 1;
const NAME: u16 = 2;
/// How fine times are: a power of ten.
const RESOLUTION: u16 = 9;
const NANOSECONDS: u8 = 9;

/// A file in the making.
#[derive(Clone, Debug)]
pub struct Writer<W> {
    out: W,
    interfaces: Vec<String>,
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Since 1970.
    pub time: Duration,
    /// Its first bytes, or all.
    pub bytes: &'a [u8],
    /// How many there were.
    pub length: u32,
    /// What is to be said of it; at most 65 535 bytes are.
    pub comment: &'a str,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// It cannot be written to.
    pub fn new(out: W) -> io::Result<Self> {
        let mut file = Self { out, interfaces: Vec::new() };
        let (magic, major, minor) = (0x1a2b_3c4d_u32, 1_u16, 0_u16);
        let mut section =
            [&magic.to_ne_bytes()[..], &major.to_ne_bytes(), &minor.to_ne_bytes()].concat();
        section.extend(u64::MAX.to_ne_bytes()); // length not told
        file.block(SECTION, &section)?;
        Ok(file)
    }

    /// The number of an interface, which is told of where it is new.
    ///
    /// # Errors
    ///
    /// The file cannot be written to.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if let Some(known) = self.interfaces.iter().position(|known| known == name) {
            return Ok(number(known));
        }
        let mut body = [ETHERNET.to_ne_bytes(), [0; 2]].concat();
        body.extend(0_u32.to_ne_bytes()); // frames of any length
        option(&mut body, NAME, name.as_bytes());
        option(&mut body, RESOLUTION, &[NANOSECONDS]);
        option(&mut body, END, &[]);
        self.block(INTERFACE, &body)?;
        self.interfaces.push(name.to_owned());
        Ok(number(self.interfaces.len() - 1))
    }

    /// Adds a frame of an interface.
    ///
    /// # Errors
    ///
    /// The file cannot be written to.
    pub fn frame(&mut self, interface: u32, frame: &Frame<'_>) -> io::Result<()> {
        let time = u64::try_from(frame.time.as_nanos()).unwrap_or(u64::MAX);
        let [high, low] = [time >> 32, time & 0xffff_ffff];
        let half = |half| u32::try_from(half).unwrap_or(u32::MAX);
        let captured = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        let head = [interface, half(high), half(low), captured, frame.length];
        let mut body = head.map(u32::to_ne_bytes).concat();
        body.extend(frame.bytes);
        pad(&mut body);
        option(&mut body, COMMENT, frame.comment.as_bytes());
        option(&mut body, END, &[]);
        self.block(PACKET, &body)
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Where it was written to.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_ne_bytes();
        self.out.write_all(&[&kind.to_ne_bytes()[..], &length, body, &length].concat())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_ne_bytes());
    body.extend(length.to_ne_bytes());
    body.extend(&value[..usize::from(length)]);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
