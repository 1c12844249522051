//! Rules as lists of expressions (linux/netfilter/nf_tables.h), in the forms that the nft program can print.

use super::transaction::Family;
use crate::netlink::Attrs;
use std::net::IpAddr;

/// A register: 1 to 4 are of 16 bytes, 8 to 23 of 4 bytes in the same memory (so 8 is the start of 1, 9 follows).
type Register = u32;

/// The first register, and the second to fourth 4-byte parts of it.
const FIRST: Register = 1;
const FIRST_4: Register = 9;
const FIRST_8: Register = 10;
const FIRST_12: Register = 11;
/// The second register of 16 bytes, behind the first; its second 4-byte part.
const SECOND: Register = 2;
const SECOND_4: Register = 13;
/// The third one; its second 4-byte part.
const THIRD: Register = 3;
const THIRD_4: Register = 17;
/// The verdict register.
const VERDICT: Register = 0;

/// `NFT_META_*`.
#[derive(Debug, Clone, Copy)]
enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    NetworkProtocol = 15,
    TransportProtocol = 16,
    InputKind = 26,
    OutputKind = 27,
}

/// Which interface of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interface {
    Input,
    Output,
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    /// Where its address is in an IP header.
    fn offset(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Source, Family::V4) => 12,
            (Self::Destination, Family::V4) => 16,
            (Self::Source, Family::V6) => 8,
            (Self::Destination, Family::V6) => 24,
        }
    }
}

/// What happens to a packet that a rule matches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict<'a> {
    Drop,
    Accept,
    Jump(&'a str),
}

/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
#[derive(Debug, Clone, Copy)]
enum Compare {
    Equal = 0,
    Different = 1,
}

/// Connection states, as bits (`NF_CT_STATE_BIT`): established and related.
const ESTABLISHED_OR_RELATED: u32 = 0b110;
/// `IPS_DST_NAT`.
const DESTINATION_NAT: u32 = 0x20;
/// A connection's first packet.
const NEW: u32 = 0b1000;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const UDP: u8 = 17;
/// `NFT_FIB_RESULT_*`, `NFTA_FIB_F_*` (linux/netfilter/nf_tables.h).
const OUTPUT_INDEX: u32 = 1;
const ADDRESS_TYPE: u32 = 3;
const BY_SOURCE: u32 = 1;
const BY_DESTINATION: u32 = 2;
const BY_INPUT: u32 = 8;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

#[derive(Debug, Clone)]
struct Expression {
    name: &'static str,
    /// Attributes as (kind, value); a nested value stands in [`Value`].
    attributes: Vec<(u16, Value)>,
}

#[derive(Debug, Clone)]
enum Value {
    Number(u32),
    Text(String),
    /// `NFTA_DATA_VALUE`
    Data(Vec<u8>),
    /// `NFTA_DATA_VERDICT`
    Verdict(i32, Option<String>),
}

/// A rule under construction: each call adds a condition or, at the end, what is done.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    expressions: Vec<Expression>,
}

impl Rule {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn write(&self, attributes: &mut Attrs<'_>) {
        for expression in &self.expressions {
            attributes.nest(1, |a| {
                a.text(1, expression.name);
                a.nest(2, |a| expression.attributes.iter().for_each(|(kind, value)| write_value(a, *kind, value)));
            });
        }
    }

    fn with(mut self, name: &'static str, attributes: Vec<(u16, Value)>) -> Self {
        self.expressions.push(Expression { name, attributes });
        self
    }

    fn meta(self, key: Meta, to: Register) -> Self {
        self.with("meta", vec![(1, Value::Number(to)), (2, Value::Number(key as u32))])
    }

    fn compare(self, how: Compare, with: Vec<u8>) -> Self {
        self.with("cmp", vec![(1, Value::Number(FIRST)), (2, Value::Number(how as u32)), (3, Value::Data(with))])
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: Register) -> Self {
        let attributes = [to, base, offset, length].into_iter().zip(1..).map(|(v, k)| (k, Value::Number(v))).collect();
        self.with("payload", attributes)
    }

    fn lookup(self, set: &str, inverted: bool) -> Self {
        let mut attributes = vec![(1, Value::Text(set.to_owned())), (2, Value::Number(FIRST))];
        if inverted {
            attributes.push((5, Value::Number(1)));
        }
        self.with("lookup", attributes)
    }

    fn map(self, map: &str) -> Self {
        let attributes = vec![(1, Value::Text(map.to_owned())), (2, Value::Number(FIRST)), (3, Value::Number(FIRST))];
        self.with("lookup", attributes)
    }

    /// Bits of register 1 under a mask, unequal zero.
    fn any_bit(self, mask: u32) -> Self {
        let attributes = vec![
            (1, Value::Number(FIRST)),
            (2, Value::Number(FIRST)),
            (3, Value::Number(4)),
            (4, Value::Data(mask.to_ne_bytes().to_vec())),
            (5, Value::Data(vec![0; 4])),
        ];
        self.with("bitwise", attributes).compare(Compare::Different, vec![0; 4])
    }

    fn interface_to(self, which: Interface, to: Register) -> Self {
        self.meta(if matches!(which, Interface::Input) { Meta::InputName } else { Meta::OutputName }, to)
    }

    /// The packet has this mark.
    pub fn marked(self, mark: u32) -> Self {
        self.meta(Meta::Mark, FIRST).compare(Compare::Equal, mark.to_ne_bytes().to_vec())
    }

    /// Gives the packet this mark.
    pub fn mark(self, mark: u32) -> Self {
        self.with("immediate", vec![(1, Value::Number(FIRST)), (2, Value::Data(mark.to_ne_bytes().to_vec()))])
            .with("meta", vec![(2, Value::Number(Meta::Mark as u32)), (3, Value::Number(FIRST))])
    }

    /// The interface's name is in the set.
    pub fn interface_in(self, which: Interface, set: &str) -> Self {
        self.interface_to(which, FIRST).lookup(set, false)
    }

    /// The interface's name is not in the set.
    pub fn interface_not_in(self, which: Interface, set: &str) -> Self {
        self.interface_to(which, FIRST).lookup(set, true)
    }

    /// The interface has this name.
    pub fn interface_is(self, which: Interface, name: &str) -> Self {
        self.interface_to(which, FIRST).compare(Compare::Equal, super::ruleset::interface_key(name))
    }

    /// The interface is of this kind (`bridge`).
    pub fn interface_kind(self, which: Interface, kind: &str) -> Self {
        let key = if matches!(which, Interface::Input) { Meta::InputKind } else { Meta::OutputKind };
        self.meta(key, FIRST).compare(Compare::Equal, super::ruleset::interface_key(kind))
    }

    /// (input name, output name) is in the set.
    pub fn interfaces_in(self, set: &str) -> Self {
        self.interface_to(Interface::Input, FIRST).interface_to(Interface::Output, SECOND).lookup(set, false)
    }

    /// The packet is IPv4. Must precede what reads an IPv4 header.
    pub fn ipv4(self) -> Self {
        self.meta(Meta::NetworkProtocol, FIRST).compare(Compare::Equal, vec![NFPROTO_IPV4])
    }

    /// The packet is IPv6.
    pub fn ipv6(self) -> Self {
        self.meta(Meta::NetworkProtocol, FIRST).compare(Compare::Equal, vec![NFPROTO_IPV6])
    }

    /// The address is in the set.
    pub fn address_in(self, end: End, set: &str) -> Self {
        self.payload(1, end.offset(Family::V4), 4, FIRST).lookup(set, false)
    }

    /// (source address, destination address) is in the set.
    pub fn addresses_in(self, family: Family, set: &str) -> Self {
        let (length, second) = match family {
            Family::V4 => (4, FIRST_4),
            Family::V6 => (16, SECOND),
        };
        self.payload(1, End::Source.offset(family), length, FIRST)
            .payload(1, End::Destination.offset(family), length, second)
            .lookup(set, false)
    }

    /// (source address, destination address, protocol, destination port) is in the set.
    pub fn flow_in(self, family: Family, set: &str) -> Self {
        let (length, to, protocol, port) = match family {
            Family::V4 => (4, FIRST_4, FIRST_8, FIRST_12),
            Family::V6 => (16, SECOND, THIRD, THIRD_4),
        };
        self.payload(1, End::Source.offset(family), length, FIRST)
            .payload(1, End::Destination.offset(family), length, to)
            .meta(Meta::TransportProtocol, protocol)
            .payload(2, 2, 2, port)
            .lookup(set, false)
    }

    /// The address is a loopback one: in 127.0.0.0/8, or ::1.
    pub fn loopback(self, family: Family, end: End) -> Self {
        let at = end.offset(family);
        match family {
            Family::V4 => self.payload(1, at, 1, FIRST).compare(Compare::Equal, vec![127]),
            Family::V6 => {
                self.payload(1, at, 16, FIRST).compare(Compare::Equal, std::net::Ipv6Addr::LOCALHOST.octets().to_vec())
            }
        }
    }

    /// The IPv6 address is one of the link only (fe80::/10).
    pub fn link_local6(self, end: End) -> Self {
        let mask = vec![
            (1, Value::Number(FIRST)),
            (2, Value::Number(FIRST)),
            (3, Value::Number(2)),
            (4, Value::Data(vec![0xff, 0xc0])),
            (5, Value::Data(vec![0; 2])),
        ];
        self.payload(1, end.offset(Family::V6), 2, FIRST)
            .with("bitwise", mask)
            .compare(Compare::Equal, vec![0xfe, 0x80])
    }

    /// The packet is of a connection that was let through before, or one that came out of such.
    pub fn established(self) -> Self {
        self.with("ct", vec![(1, Value::Number(FIRST)), (2, Value::Number(0))]).any_bit(ESTABLISHED_OR_RELATED)
    }

    /// The packet is the first of its connection.
    pub fn new_connection(self) -> Self {
        self.with("ct", vec![(1, Value::Number(FIRST)), (2, Value::Number(0))]).any_bit(NEW)
    }

    /// The packet's connection had its destination rewritten: it goes to a published port.
    pub fn published(self) -> Self {
        self.with("ct", vec![(1, Value::Number(FIRST)), (2, Value::Number(2))]).any_bit(DESTINATION_NAT)
    }

    /// The destination address is one of the host's (`fib daddr type local`).
    pub fn destined_here(self) -> Self {
        self.route(ADDRESS_TYPE, BY_DESTINATION).compare(Compare::Equal, LOCAL.to_ne_bytes().to_vec())
    }

    /// The destination address is none of the interface that the packet came in by (`fib daddr . iif type != local`).
    pub fn destined_beyond_interface(self) -> Self {
        self.route(ADDRESS_TYPE, BY_DESTINATION | BY_INPUT).compare(Compare::Different, LOCAL.to_ne_bytes().to_vec())
    }

    /// What the packet's source is behind is not the interface that it came in by (`fib saddr . iif oif missing`).
    pub fn source_is_elsewhere(self) -> Self {
        self.route(OUTPUT_INDEX, BY_SOURCE | BY_INPUT).compare(Compare::Equal, vec![0; 4])
    }

    /// What the routes say (`NFT_FIB_RESULT_*`) about the packet (`NFTA_FIB_F_*`).
    fn route(self, result: u32, about: u32) -> Self {
        self.with("fib", vec![(1, Value::Number(FIRST)), (2, Value::Number(result)), (3, Value::Number(about))])
    }

    /// The packet has no IPv6 source address yet.
    pub fn no_source6(self) -> Self {
        self.payload(1, End::Source.offset(Family::V6), 16, FIRST).compare(Compare::Equal, vec![0; 16])
    }

    /// (address, protocol, port) of the destination is in the set.
    pub fn destination_in(self, family: Family, set: &str) -> Self {
        self.destination(family).lookup(set, false)
    }

    /// (protocol, port) of the destination is in the set.
    pub fn port_in(self, set: &str) -> Self {
        self.port().lookup(set, false)
    }

    fn destination(self, family: Family) -> Self {
        let (length, protocol, port) = match family {
            Family::V4 => (4, FIRST_4, FIRST_8),
            Family::V6 => (16, SECOND, SECOND_4),
        };
        self.payload(1, End::Destination.offset(family), length, FIRST)
            .meta(Meta::TransportProtocol, protocol)
            .payload(2, 2, 2, port)
    }

    fn port(self) -> Self {
        self.meta(Meta::TransportProtocol, FIRST).payload(2, 2, 2, FIRST_4)
    }

    /// The packet is UDP.
    pub fn udp(self) -> Self {
        self.meta(Meta::TransportProtocol, FIRST).compare(Compare::Equal, vec![UDP])
    }

    /// Lets an IPv4 packet be cut into fragments again.
    pub fn may_fragment(self) -> Self {
        const FLAGS: (u32, u32, u32) = (1, 6, 2);
        const ALL_BUT_DONT_FRAGMENT: [u8; 2] = [0xbf, 0xff];
        let mask = vec![
            (1, Value::Number(FIRST)),
            (2, Value::Number(FIRST)),
            (3, Value::Number(FLAGS.2)),
            (4, Value::Data(ALL_BUT_DONT_FRAGMENT.to_vec())),
            (5, Value::Data(vec![0; 2])),
        ];
        // From register 1, with the header's own checksum (at 10) kept true.
        let write = [(2, FLAGS.0), (3, FLAGS.1), (4, FLAGS.2), (5, FIRST), (6, 1), (7, 10)];
        self.payload(FLAGS.0, FLAGS.1, FLAGS.2, FIRST)
            .with("bitwise", mask)
            .with("payload", write.into_iter().map(|(kind, value)| (kind, Value::Number(value))).collect())
    }

    /// Sends a copy, which no connection is kept for, by the interface numbered `device` towards `to`.
    pub fn copy_to(self, to: IpAddr, device: u32) -> Self {
        let load = |register, data: &[u8]| vec![(1, Value::Number(register)), (2, Value::Data(data.to_vec()))];
        let to = match to {
            IpAddr::V4(to) => to.octets().to_vec(),
            IpAddr::V6(to) => to.octets().to_vec(),
        };
        self.with("immediate", load(FIRST, &to))
            .with("immediate", load(SECOND, &device.to_ne_bytes()))
            .with("dup", vec![(1, Value::Number(FIRST)), (2, Value::Number(SECOND))])
    }

    /// Rewrites the destination to what the map holds for (address, protocol, port), if anything. Ends the rule.
    pub fn redirect_by_address(self, family: Family, map: &str) -> Self {
        self.destination(family).map(map).destination_nat(family)
    }

    /// Rewrites the destination to what the map holds for (protocol, port), if anything. Ends the rule.
    pub fn redirect_by_port(self, family: Family, map: &str) -> Self {
        self.port().map(map).destination_nat(family)
    }

    fn destination_nat(self, family: Family) -> Self {
        const DNAT: u32 = 1;
        let (number, port) = match family {
            Family::V4 => (NFPROTO_IPV4, FIRST_4),
            Family::V6 => (NFPROTO_IPV6, SECOND),
        };
        let attributes = vec![
            (1, Value::Number(DNAT)),
            (2, Value::Number(u32::from(number))),
            (3, Value::Number(FIRST)),
            (5, Value::Number(port)),
        ];
        self.with("nat", attributes)
    }

    /// Rewrites the source to the address of the interface that the packet leaves by. Ends the rule.
    pub fn masquerade(self) -> Self {
        self.with("masq", Vec::new())
    }

    /// Ends the rule.
    pub fn verdict(self, verdict: Verdict<'_>) -> Self {
        let value = match verdict {
            Verdict::Drop => Value::Verdict(0, None),
            Verdict::Accept => Value::Verdict(1, None),
            Verdict::Jump(chain) => Value::Verdict(-3, Some(chain.to_owned())),
        };
        self.with("immediate", vec![(1, Value::Number(VERDICT)), (2, value)])
    }
}

fn write_value(attributes: &mut Attrs<'_>, kind: u16, value: &Value) {
    match value {
        Value::Number(number) => attributes.be32(kind, *number),
        Value::Text(text) => attributes.text(kind, text),
        Value::Data(bytes) => attributes.nest(kind, |a| a.bytes(1, bytes)),
        Value::Verdict(code, chain) => attributes.nest(kind, |a| {
            a.nest(2, |a| {
                a.be32(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    a.text(2, chain);
                }
            });
        }),
    }
}
