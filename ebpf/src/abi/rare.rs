//! The TC program's rare work, which programs of their own do: they are reached by tail calls, so
//! that the common way does not carry them.

/// Programs in `PROGRAMS`.
pub const RARE_PROGRAMS: u32 = 4;
/// Index of the program for ICMP and ICMPv6.
pub const PROGRAM_ICMP: u32 = 0;
/// Index of the program for fragments.
pub const PROGRAM_FRAGMENT: u32 = 1;
/// Index of the program that turns a packet into an error to its sender. What it needs to know
/// comes in the socket buffer's control words: [`Reply::word`], then the error's source address.
pub const PROGRAM_REPLY: u32 = 2;
/// Index of the program that translates what an ICMP error quotes, once the error has its way.
pub const PROGRAM_QUOTE: u32 = 3;

/// What a sender is told, and of which packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What.
    pub complaint: Complaint,
    /// Offset of the packet's IP header in the frame.
    pub l3: u8,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// Its hop limit is used up.
    Expired,
    /// It is longer than this number of bytes, which would fit.
    TooBig(u16),
}

impl Reply {
    /// As one word. A size of zero means that the hop limit is used up; no link is that small.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        let mtu = match self.complaint {
            Complaint::Expired => 0,
            Complaint::TooBig(0) => 1,
            Complaint::TooBig(mtu) => mtu,
        };
        (mtu as u32) << 16 | self.l3 as u32
    }

    /// What a word says.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let complaint = match (word >> 16) as u16 {
            0 => Complaint::Expired,
            mtu => Complaint::TooBig(mtu),
        };
        Self { complaint, l3: word as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_fits_in_a_word() {
        for complaint in [Complaint::Expired, Complaint::TooBig(1), Complaint::TooBig(u16::MAX)] {
            for l3 in [14, 18, u8::MAX] {
                let reply = Reply { complaint, l3 };
                assert_eq!(Reply::from_word(reply.word()), reply);
            }
        }
    }
}
