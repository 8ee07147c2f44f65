//! Files for Wireshark: what went into cases and what came out. Each frame's comment names its
//! case; its interface says whether it went in or came out of which program.
//!
//! The form is pcapng (draft-ietf-opsawg-pcapng) in the order of this machine's bytes, with the
//! three kinds of blocks that this needs.

/// Interfaces of the file, by number.
pub const INTERFACES: [&str; 3] = ["in", "xdp", "tc"];

/// Written in the comment of a frame that is wrong on purpose.
pub const BROKEN: &str = "wrong on purpose";

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const COMMENT: u16 = 1;
const NAME: u16 = 2;

/// A file in the making.
#[derive(Clone, Debug)]
pub struct File {
    bytes: Vec<u8>,
    frames: u64,
}

impl Default for File {
    fn default() -> Self {
        Self::new()
    }
}

impl File {
    /// One without frames.
    #[must_use]
    pub fn new() -> Self {
        let mut file = Self { bytes: Vec::new(), frames: 0 };
        let (magic, major, minor) = (0x1a2b_3c4d_u32, 1_u16, 0_u16);
        let mut section =
            [&magic.to_ne_bytes()[..], &major.to_ne_bytes(), &minor.to_ne_bytes()].concat();
        section.extend(u64::MAX.to_ne_bytes()); // length not told
        file.block(SECTION, section);
        for name in INTERFACES {
            let mut body = [ETHERNET.to_ne_bytes(), [0; 2]].concat();
            body.extend(0_u32.to_ne_bytes()); // frames of any length
            option(&mut body, NAME, name);
            file.block(INTERFACE, body);
        }
        file
    }

    /// Adds a frame of an interface. Frames are a millisecond apart.
    pub fn push(&mut self, interface: u32, frame: &[u8], comment: &str) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let [.., a, b, c, d, e, f, g, h] = (self.frames * 1_000).to_be_bytes();
        let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let mut body = [interface, high, low, length, length].map(u32::to_ne_bytes).concat();
        body.extend(frame);
        pad(&mut body);
        option(&mut body, COMMENT, comment);
        self.block(PACKET, body);
        self.frames += 1;
    }

    /// How many frames it has.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn block(&mut self, kind: u32, body: Vec<u8>) {
        let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_ne_bytes();
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
    }
}

/// The only option of a block, and the end of the options.
fn option(body: &mut Vec<u8>, code: u16, text: &str) {
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(text.as_bytes());
    pad(body);
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
