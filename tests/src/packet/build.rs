//! How layers are put together: a packet begins with [`ip`], and each method changes one thing.

use std::net::{IpAddr, SocketAddr};

use super::{Body, FRAGMENT, Icmp, Ip, MACS, Mac, Net, Packet, Payload, Tcp, Udp, Wrong};

/// A frame with an IP packet without contents. The addresses are of one family.
pub fn ip(source: &str, destination: &str) -> Packet {
    let (source, destination): (IpAddr, IpAddr) =
        (source.parse().expect("an address"), destination.parse().expect("an address"));
    assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} and {destination}");
    frame(Net::Ip(Ip {
        source,
        destination,
        tos: 0,
        ttl: 64,
        id: 0x1234,
        fragment: 0,
        options: Vec::new(),
        flow_label: 0,
        extensions: Vec::new(),
        body: Body::Raw(59, Vec::new()), // "no next header"
        wrong: Wrong::default(),
    }))
}

/// A frame that holds no IP packet.
pub fn other(ether_type: u16, bytes: &[u8]) -> Packet {
    frame(Net::Other(ether_type, bytes.to_vec()))
}

fn frame(net: Net) -> Packet {
    let (tags, padding) = (Vec::new(), Vec::new());
    Packet { macs: MACS, tags, net, padding, cut: None, broken: false }
}

/// So many bytes of a pattern, in which a shifted byte is seen.
#[must_use]
pub fn pattern(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// Addresses, ports and the frame.
impl Packet {
    /// The IP packet, the outer one of a tunnel.
    #[must_use]
    pub fn inner(&self) -> &Ip {
        match &self.net {
            Net::Ip(ip) => ip,
            Net::Other(..) => panic!("no IP in {self:?}"),
        }
    }

    fn ip(&mut self) -> &mut Ip {
        match &mut self.net {
            Net::Ip(ip) => ip,
            Net::Other(..) => panic!("no IP here"),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        change(self.ip());
        self
    }

    fn ports(&mut self) -> &mut [u16; 2] {
        match &mut self.ip().body {
            Body::Tcp(tcp) => &mut tcp.ports,
            Body::Udp(udp) => &mut udp.ports,
            body => panic!("no ports in {body:?}"),
        }
    }

    /// Sets the receiver: `10.0.0.1:8080`, or an address alone.
    pub fn to(mut self, to: &str) -> Self {
        let (address, port) = place(to);
        self.ip().destination = address;
        if let Some(port) = port {
            self.ports()[1] = port;
        }
        self
    }

    /// Sets the sender likewise.
    pub fn from(mut self, from: &str) -> Self {
        let (address, port) = place(from);
        self.ip().source = address;
        if let Some(port) = port {
            self.ports()[0] = port;
        }
        self
    }

    /// Sets destination and source MAC.
    pub fn macs(self, destination: Mac, source: Mac) -> Self {
        Self { macs: [destination, source], ..self }
    }

    /// Adds an 802.1Q tag, behind those that are there.
    pub fn tag(self, id: u16) -> Self {
        self.tagged(0x8100, id)
    }

    /// Adds a tag of any protocol: 0x88a8 is a service tag.
    pub fn tagged(mut self, protocol: u16, tag: u16) -> Self {
        self.tags.push((protocol, tag));
        self
    }

    /// Takes all tags off.
    pub fn untagged(mut self) -> Self {
        self.tags.clear();
        self
    }

    /// Adds bytes behind the packet until the frame is so long.
    pub fn padded(mut self, length: usize) -> Self {
        let missing = length.saturating_sub(self.bytes().len());
        self.padding.extend(std::iter::repeat_n(0, missing));
        self
    }

    /// Marks it as wrong on purpose.
    pub fn broken(self) -> Self {
        Self { broken: true, ..self }
    }

    /// Cuts the frame after so many bytes.
    pub fn cut(self, length: usize) -> Self {
        Self { cut: Some(length), ..self }.broken()
    }
}

/// The IP header.
impl Packet {
    /// Hop limit.
    pub fn ttl(self, ttl: u8) -> Self {
        self.with(|ip| ip.ttl = ttl)
    }

    /// Type of service, traffic class: DSCP and ECN.
    pub fn tos(self, tos: u8) -> Self {
        self.with(|ip| ip.tos = tos)
    }

    /// IPv4: identification.
    pub fn id(self, id: u16) -> Self {
        self.with(|ip| ip.id = id)
    }

    /// IPv4: the flag "do not fragment".
    pub fn df(self) -> Self {
        self.with(|ip| ip.fragment |= 0x4000)
    }

    /// IPv4: options, a multiple of four bytes.
    pub fn options(self, options: &[u8]) -> Self {
        self.with(|ip| ip.options = options.to_vec())
    }

    /// IPv6: flow label, 20 bits.
    pub fn flow_label(self, label: u32) -> Self {
        self.with(|ip| ip.flow_label = label)
    }

    /// IPv6: an extension header behind those that are there; `body` is what follows its first two
    /// bytes: 6, 14, 22 … bytes.
    pub fn extension(self, number: u8, body: &[u8]) -> Self {
        self.with(|ip| ip.extensions.push((number, body.to_vec())))
    }

    /// The fragment that carries `length` bytes of the packet's body from `start`, a multiple of
    /// eight: the whole packet's checksum is in the first.
    pub fn fragment(self, id: u32, start: usize, length: usize) -> Self {
        self.with(|ip| {
            let (protocol, whole) = ip.body_bytes();
            let end = (start + length).min(whole.len());
            let more = end < whole.len();
            let offset = u16::try_from(start / 8).unwrap();
            if ip.source.is_ipv4() {
                ip.id = u16::try_from(id).unwrap();
                ip.fragment = offset | if more { 0x2000 } else { 0 };
            } else {
                let place = (offset << 3 | u16::from(more)).to_be_bytes();
                ip.extensions.push((FRAGMENT, [&place[..], &id.to_be_bytes()].concat()));
            }
            ip.body = Body::Raw(protocol, whole[start..end].to_vec());
        })
    }

    /// A wrong version number.
    pub fn version(self, version: u8) -> Self {
        self.with(|ip| ip.wrong.version = Some(version)).broken()
    }

    /// A wrong header length, in words of four bytes.
    pub fn header_words(self, words: u8) -> Self {
        self.with(|ip| ip.wrong.words = Some(words)).broken()
    }

    /// A wrong total length (IPv4) or payload length (IPv6).
    pub fn length(self, length: u16) -> Self {
        self.with(|ip| ip.wrong.length = Some(length)).broken()
    }

    /// A wrong header checksum: this is added to the right one.
    pub fn header_checksum_off_by(self, error: u16) -> Self {
        self.with(|ip| ip.wrong.checksum = error).broken()
    }
}

/// What the IP packet carries.
impl Packet {
    /// A TCP segment.
    pub fn tcp(self, from: u16, to: u16, flags: u8) -> Self {
        let (options, payload) = (Vec::new(), Vec::new());
        let tcp = Tcp { ports: [from, to], flags, options, payload, wrong: Wrong::default() };
        self.with(|ip| ip.body = Body::Tcp(tcp))
    }

    /// A UDP datagram.
    pub fn udp(self, from: u16, to: u16) -> Self {
        let payload = Payload::Bytes(Vec::new());
        let udp = Udp { ports: [from, to], checksum: true, payload, wrong: Wrong::default() };
        self.with(|ip| ip.body = Body::Udp(udp))
    }

    /// An ICMP message of the packet's family.
    pub fn icmp(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let payload = Payload::Bytes(Vec::new());
        let icmp = Icmp { kind, code, rest, payload, wrong: Wrong::default() };
        self.with(|ip| ip.body = Body::Icmp(icmp))
    }

    /// Another type of ICMP message.
    pub fn icmp_kind(mut self, kind: u8) -> Self {
        match &mut self.ip().body {
            Body::Icmp(icmp) => icmp.kind = kind,
            body => panic!("no ICMP: {body:?}"),
        }
        self
    }

    /// Any protocol.
    pub fn raw(self, protocol: u8, bytes: &[u8]) -> Self {
        self.with(|ip| ip.body = Body::Raw(protocol, bytes.to_vec()))
    }

    /// So many bytes of payload.
    pub fn payload(self, length: usize) -> Self {
        self.data(&pattern(length))
    }

    /// This payload.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        match &mut self.ip().body {
            Body::Tcp(tcp) => tcp.payload = bytes.to_vec(),
            Body::Udp(udp) => udp.payload = Payload::Bytes(bytes.to_vec()),
            Body::Icmp(icmp) => icmp.payload = Payload::Bytes(bytes.to_vec()),
            body => panic!("no payload in {body:?}"),
        }
        self
    }

    /// An ICMP error quotes the first `length` bytes of this packet.
    pub fn quoting(mut self, packet: &Self, length: usize) -> Self {
        match &mut self.ip().body {
            Body::Icmp(icmp) => {
                icmp.payload = Payload::Ip(Box::new(packet.inner().clone()), length);
            }
            body => panic!("no ICMP: {body:?}"),
        }
        self
    }

    /// The packet in a tunnel: in an outer packet, or in the datagram that `outer` has.
    pub fn within(self, mut outer: Self) -> Self {
        let Net::Ip(inner) = self.net else { panic!("no IP to put into a tunnel") };
        match &mut outer.ip().body {
            Body::Udp(udp) => udp.payload = Payload::Ip(Box::new(inner), usize::MAX),
            body => *body = Body::Ip(Box::new(inner)),
        }
        Self { net: outer.net, ..self }
    }

    /// Whether it is in a tunnel, as [`within`](Self::within) makes it.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        let Net::Ip(ip) = &self.net else { return false };
        match &ip.body {
            Body::Ip(_) => true,
            Body::Udp(udp) => matches!(udp.payload, Payload::Ip(..)),
            Body::Tcp(_) | Body::Icmp(_) | Body::Raw(..) => false,
        }
    }

    /// Sets UDP's source port and IPv6's flow label, those of a tunnel's outer headers.
    pub fn shows(mut self, port: Option<u16>, label: Option<u32>) -> Self {
        let ip = self.ip();
        if let (Body::Udp(udp), Some(port)) = (&mut ip.body, port) {
            udp.ports[0] = port;
        }
        ip.flow_label = label.unwrap_or(ip.flow_label);
        self
    }

    /// TCP options, a multiple of four bytes.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        match &mut self.ip().body {
            Body::Tcp(tcp) => tcp.options = options.to_vec(),
            body => panic!("no TCP: {body:?}"),
        }
        self
    }

    /// A datagram without a checksum.
    pub fn no_checksum(mut self) -> Self {
        match &mut self.ip().body {
            Body::Udp(udp) => udp.checksum = false,
            body => panic!("no UDP: {body:?}"),
        }
        self
    }

    fn wrong(mut self, change: impl FnOnce(&mut Wrong)) -> Self {
        change(match &mut self.ip().body {
            Body::Tcp(tcp) => &mut tcp.wrong,
            Body::Udp(udp) => &mut udp.wrong,
            Body::Icmp(icmp) => &mut icmp.wrong,
            body => panic!("nothing to be wrong in {body:?}"),
        });
        self.broken()
    }

    /// A wrong checksum of what the IP packet carries: this is added to the right one.
    pub fn checksum_off_by(self, error: u16) -> Self {
        self.wrong(|wrong| wrong.checksum = error)
    }

    /// A wrong data offset of TCP, in words of four bytes.
    pub fn data_offset(self, words: u8) -> Self {
        self.wrong(|wrong| wrong.words = Some(words))
    }

    /// A wrong length of UDP.
    pub fn udp_length(self, length: u16) -> Self {
        self.wrong(|wrong| wrong.length = Some(length))
    }
}

fn place(text: &str) -> (IpAddr, Option<u16>) {
    match text.parse::<SocketAddr>() {
        Ok(at) => (at.ip(), Some(at.port())),
        Err(_) => (text.parse().expect("an address, with or without a port"), None),
    }
}
