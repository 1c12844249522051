//! What the rules of the host say about a packet of which not everything is known.
//!
//! Rules are followed as the kernel would follow them, with three answers to each condition: yes, no, and "it depends", on who the
//! client is or on what only the kernel knows. A verdict behind a condition that depends is noted, and the walk goes on.

use super::Nft;
use super::listing::{Chain, Elements, Listing, TableKey, be32};
use crate::netlink::{attribute, read_u16, read_u32, text};
use crate::{Protocol, Result};
use std::net::IpAddr;

/// Jumps deeper than the kernel allows (`NFT_JUMP_STACK_SIZE`) are not followed.
const DEPTH: usize = 16;
const FAMILY_NAMES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];
/// Room for the registers: 16 of 4 bytes.
const REGISTERS: usize = 64;

/// The first packet of a connection from another machine, at one hook.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// `NF_INET_*`.
    pub hook: u32,
    pub protocol: Protocol,
    pub destination: IpAddr,
    pub port: u16,
    pub input: String,
    /// Where it leaves, when it is forwarded.
    pub output: Option<String>,
    /// Its destination has been rewritten.
    pub rewritten: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Nothing stops it.
    Open,
    /// It depends on the client.
    Limited,
    /// It is dropped, whoever sends it.
    Closed,
}

/// What the rules say, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it.
    pub reach: Reach,
    /// The rules that decide, in the order in which they are met.
    pub rules: Vec<String>,
}

/// All rules of the host but our own.
#[derive(Debug)]
pub(crate) struct Judge {
    listing: Listing,
}

impl Nft {
    /// Reads the rules of every table but those named `own`, and those of legacy iptables.
    pub(crate) fn judge(&mut self, own: &str) -> Result<Judge> {
        let mut listing = self.list(own)?;
        listing.chains.extend(super::legacy::chains()?);
        Ok(Judge { listing })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    Depends,
    No,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
}

/// A verdict that some packets get.
struct Note {
    accepts: bool,
    rule: String,
}

/// How a walk through a chain ends.
enum End {
    /// With a verdict for every packet that is left.
    Verdict { accepts: bool, rule: String },
    /// Without one.
    Through,
}

impl Judge {
    /// Follows a packet through the base chains of its hooks, one after the other.
    pub(crate) fn judge(&self, packets: &[Packet]) -> Judgement {
        let mut judgement = Judgement { reach: Reach::Open, rules: Vec::new() };
        for packet in packets {
            let family = if packet.destination.is_ipv4() { 2 } else { 10 };
            let at_hook = |c: &&Chain| {
                // A chain of type nat drops nothing that matters here.
                c.hook.is_some_and(|(hook, _)| hook == packet.hook)
                    && c.kind != "nat"
                    && (c.table.0 == 1 || c.table.0 == family)
            };
            let mut chains: Vec<&Chain> = self.listing.chains.iter().filter(at_hook).collect();
            chains.sort_by_key(|c| c.hook.map(|(_, priority)| priority));
            for chain in chains {
                let mut notes = Vec::new();
                let (accepts, rule) = match self.walk(chain, packet, true, 0, &mut notes) {
                    End::Verdict { accepts, rule } => (accepts, rule),
                    End::Through => (!chain.drops, format!("the policy of {}", name(chain))),
                };
                // Of what some packets get, only the opposite of what the rest gets matters.
                let others: Vec<String> = notes.into_iter().filter(|n| n.accepts != accepts).map(|n| n.rule).collect();
                match (accepts, others.is_empty()) {
                    (true, true) => {
                        if rule.starts_with("rule") {
                            judgement.rules.push(format!("{rule} accepts"));
                        }
                    }
                    (true, false) => {
                        judgement.reach = Reach::Limited;
                        judgement.rules.extend(others.into_iter().map(|r| format!("{r} drops some")));
                    }
                    (false, true) => {
                        return Judgement { reach: Reach::Closed, rules: vec![format!("{rule} drops")] };
                    }
                    (false, false) => {
                        judgement.reach = Reach::Limited;
                        judgement.rules.extend(others.into_iter().map(|r| format!("{r} accepts some")));
                        judgement.rules.push(format!("{rule} drops the rest"));
                    }
                }
            }
        }
        judgement
    }

    /// `all`: every packet comes here, not only some.
    fn walk(&self, chain: &Chain, packet: &Packet, all: bool, depth: usize, notes: &mut Vec<Note>) -> End {
        let mut all = all;
        for rule in &chain.rules {
            let shown = || format!("rule {} of {}", rule.handle, name(chain));
            let (answer, verdicts) = self.apply(&chain.table, &rule.expressions, packet);
            if answer == Answer::No {
                continue;
            }
            for (sure, verdict) in verdicts {
                let every = all && sure && answer == Answer::Yes;
                match verdict {
                    Verdict::Accept | Verdict::Drop => {
                        let accepts = verdict == Verdict::Accept;
                        if every {
                            return End::Verdict { accepts, rule: shown() };
                        }
                        notes.push(Note { accepts, rule: shown() });
                    }
                    Verdict::Return if every => return End::Through,
                    // From here on only some are left.
                    Verdict::Return => all = false,
                    Verdict::Jump(ref to) | Verdict::Goto(ref to) => {
                        let target = self.listing.chains.iter().find(|c| c.table == chain.table && c.name == *to);
                        let Some(target) = target.filter(|_| depth < DEPTH) else { continue };
                        match self.walk(target, packet, every, depth + 1, notes) {
                            End::Verdict { accepts, rule } if every => return End::Verdict { accepts, rule },
                            End::Through if every && matches!(verdict, Verdict::Goto(_)) => return End::Through,
                            _ => {}
                        }
                    }
                }
            }
        }
        End::Through
    }

    /// Whether a rule matches, and what it then says; a map may say several things, each to some.
    fn apply(
        &self,
        table: &TableKey,
        expressions: &[(String, Vec<u8>)],
        packet: &Packet,
    ) -> (Answer, Vec<(bool, Verdict)>) {
        let mut registers: Registers = [None; REGISTERS];
        let mut answer = Answer::Yes;
        let mut verdicts = Vec::new();
        for (name, data) in expressions {
            let number = |kind| attribute(data, kind).and_then(be32);
            let holds = match name.as_str() {
                "meta" | "ct" | "payload" | "fib" | "bitwise" | "immediate" if writes(name, data) => {
                    if name == "immediate" && number(1) == Some(0) {
                        verdicts.extend(attribute(data, 2).and_then(read_verdict).map(|v| (true, v)));
                    } else {
                        load(name, data, packet, &mut registers);
                    }
                    Answer::Yes
                }
                "cmp" | "range" => compare(name, data, &registers),
                "lookup" => {
                    let set = attribute(data, 1).map(text).unwrap_or_default();
                    let elements = self.listing.sets.get(&(table.clone(), set));
                    let (holds, found) = look_up(data, elements, &registers);
                    // A map of verdicts.
                    if number(3) == Some(0) {
                        verdicts.extend(found);
                    } else if let Some(to) = number(3) {
                        store(&mut registers, to, &[None; 16]);
                    }
                    holds
                }
                "match" => legacy_match(data, packet),
                "target" => {
                    let target = attribute(data, 1).map(text).unwrap_or_default();
                    if matches!(target.as_str(), "REJECT" | "DROP") {
                        verdicts.push((true, Verdict::Drop));
                    }
                    Answer::Yes
                }
                "reject" => {
                    verdicts.push((true, Verdict::Drop));
                    Answer::Yes
                }
                "limit" | "quota" | "connlimit" | "numgen" | "socket" | "osf" | "exthdr" | "tproxy" | "dynset"
                | "inner" | "hash" | "rt" | "last" | "xfrm" => Answer::Depends,
                // counter, log, notrack, writes of marks, …: nothing that decides.
                _ => Answer::Yes,
            };
            match holds {
                Answer::No => return (Answer::No, Vec::new()),
                Answer::Depends => answer = Answer::Depends,
                Answer::Yes => {}
            }
        }
        (answer, verdicts)
    }
}

/// `input in inet filter`
fn name(chain: &Chain) -> String {
    let family = FAMILY_NAMES.iter().find(|(f, _)| *f == chain.table.0).map_or("", |(_, n)| n);
    format!("{family} {} {}", chain.table.1, chain.name)
}

/// What is known of the registers' bytes.
type Registers = [Option<u8>; REGISTERS];

/// Where a register begins: 1 to 4 are of 16 bytes, 8 to 23 of 4 in the same memory.
fn place(register: u32) -> usize {
    match register {
        1..=4 => (register as usize - 1) * 16,
        8..=23 => (register as usize - 8) * 4,
        _ => REGISTERS,
    }
}

fn store(registers: &mut Registers, register: u32, value: &[Option<u8>]) {
    let at = place(register);
    let padded = value.len().next_multiple_of(4);
    for offset in 0..padded {
        if let Some(byte) = registers.get_mut(at + offset) {
            *byte = value.get(offset).copied().unwrap_or(Some(0));
        }
    }
}

fn read(registers: &Registers, register: u32, length: usize) -> Vec<Option<u8>> {
    let at = place(register);
    (at..at + length).map(|i| registers.get(i).copied().flatten()).collect()
}

fn known(bytes: &[u8]) -> Vec<Option<u8>> {
    bytes.iter().map(|b| Some(*b)).collect()
}

/// Whether the expression writes a register, and not the packet or a mark.
fn writes(name: &str, data: &[u8]) -> bool {
    let there = |kind| attribute(data, kind).is_some();
    match name {
        "bitwise" => there(2),
        _ => there(1),
    }
}

fn load(name: &str, data: &[u8], packet: &Packet, registers: &mut Registers) {
    let number = |kind| attribute(data, kind).and_then(be32).unwrap_or(0);
    match name {
        "meta" => store(registers, number(1), &packet.meta(number(2))),
        "ct" => store(registers, number(1), &packet.connection(number(2))),
        "payload" => {
            let value: Vec<Option<u8>> =
                (number(3)..number(3).saturating_add(number(4).min(64))).map(|at| packet.byte(number(2), at)).collect();
            store(registers, number(1), &value);
        }
        "fib" => store(registers, number(1), &packet.route(number(2), number(3))),
        "immediate" => {
            let value = attribute(data, 2).and_then(|d| attribute(d, 1)).unwrap_or_default();
            store(registers, number(1), &known(value));
        }
        _ => {
            let value = |kind| attribute(data, kind).and_then(|d| attribute(d, 1)).unwrap_or_default();
            let (mask, xor) = (value(4), value(5));
            let from = read(registers, number(1), number(3).min(64) as usize);
            let plain = number(6) == 0;
            let out: Vec<Option<u8>> = from
                .iter()
                .enumerate()
                .map(|(at, byte)| {
                    let (mask, xor) = (*mask.get(at)?, *xor.get(at)?);
                    // Where nothing is kept, nothing need be known.
                    let kept = if mask == 0 { 0 } else { (*byte)? & mask };
                    plain.then_some(kept ^ xor)
                })
                .collect();
            store(registers, number(2), &out);
        }
    }
}

/// Whether values of which parts may be unknown are equal.
fn equal(value: &[Option<u8>], with: &[u8]) -> Answer {
    if value.iter().zip(with).any(|(a, b)| a.is_some_and(|a| a != *b)) {
        return Answer::No;
    }
    if value.iter().all(Option::is_some) { Answer::Yes } else { Answer::Depends }
}

fn whole(value: &[Option<u8>]) -> Option<Vec<u8>> {
    value.iter().copied().collect()
}

fn when(condition: bool) -> Answer {
    if condition { Answer::Yes } else { Answer::No }
}

fn inverted(answer: Answer, invert: bool) -> Answer {
    match answer {
        Answer::Yes if invert => Answer::No,
        Answer::No if invert => Answer::Yes,
        other => other,
    }
}

fn compare(name: &str, data: &[u8], registers: &Registers) -> Answer {
    let number = |kind| attribute(data, kind).and_then(be32).unwrap_or(0);
    let value = |kind| attribute(data, kind).and_then(|d| attribute(d, 1)).unwrap_or_default();
    let with = value(3);
    let own = read(registers, number(1), with.len());
    if name == "range" {
        let Some(own) = whole(&own) else { return Answer::Depends };
        let inside = own.as_slice() >= with && own.as_slice() <= value(4);
        return when(inside != (number(2) == 1));
    }
    match number(2) {
        0 => equal(&own, with),
        1 => inverted(equal(&own, with), true),
        operation => {
            let Some(own) = whole(&own) else { return Answer::Depends };
            let order = own.as_slice().cmp(with);
            when(match operation {
                2 => order.is_lt(),
                3 => order.is_le(),
                4 => order.is_gt(),
                _ => order.is_ge(),
            })
        }
    }
}

fn look_up(data: &[u8], elements: Option<&Elements>, registers: &Registers) -> (Answer, Vec<(bool, Verdict)>) {
    let number = |kind| attribute(data, kind).and_then(be32);
    let Some(elements) = elements else { return (Answer::Depends, Vec::new()) };
    let length = elements.all.first().map_or(0, |e| e.key.len());
    let key = read(registers, number(2).unwrap_or(0), length);
    let mut answer = Answer::No;
    let mut verdicts = Vec::new();
    for (at, element) in elements.all.iter().enumerate() {
        let found = match (&element.key_end, elements.interval, whole(&key)) {
            _ if element.end => Answer::No,
            (Some(end), _, _) if *end != element.key => Answer::Depends,
            (_, true, Some(key)) => {
                // Up to the end that follows it, which the kernel may list before or behind.
                let end = elements.all.iter().filter(|e| e.end && e.key > element.key).map(|e| &e.key).min();
                when(key >= element.key && end.is_none_or(|end| key < *end))
            }
            (None, true, None) => Answer::Depends,
            _ => equal(&key, &element.key),
        };
        if found == Answer::No {
            continue;
        }
        answer = if found == Answer::Yes {
            Answer::Yes
        } else if answer == Answer::Yes {
            answer
        } else {
            Answer::Depends
        };
        let verdict = elements.all.get(at).and_then(|e| read_verdict(&e.data));
        verdicts.extend(verdict.map(|v| (found == Answer::Yes, v)));
    }
    let answer = inverted(answer, number(5).unwrap_or(0) & 1 != 0);
    (answer, verdicts)
}

/// A verdict in an expression's data; none for what goes on.
fn read_verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = attribute(data, 2)?;
    let chain = || attribute(verdict, 2).map(text).unwrap_or_default();
    match attribute(verdict, 1).and_then(be32)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => Some(Verdict::Jump(chain())),
        -4 => Some(Verdict::Goto(chain())),
        -5 => Some(Verdict::Return),
        // A queue is somebody's to decide; what continues, continues.
        _ => None,
    }
}

/// Conditions of iptables that nft has no word for (linux/netfilter/xt_*.h).
fn legacy_match(data: &[u8], packet: &Packet) -> Answer {
    const CONNECTION_STATE: u16 = 1;
    const NEW: u16 = 8;
    let info = attribute(data, 3).unwrap_or_default();
    let word = |at: usize| info.get(at..).and_then(read_u16);
    let ports = |at: usize| word(at).zip(word(at + 2)).map(|(first, last)| (first..=last).contains(&packet.port));
    match attribute(data, 1).map(text).unwrap_or_default().as_str() {
        "comment" => Answer::Yes,
        "conntrack" => match (word(146), word(148), word(150)) {
            (Some(CONNECTION_STATE), Some(invert), Some(states)) => {
                inverted(when(states & NEW != 0), invert & CONNECTION_STATE != 0)
            }
            _ => Answer::Depends,
        },
        "state" => info.get(..4).and_then(read_u32).map_or(Answer::Depends, |s| when(s & u32::from(NEW) != 0)),
        "tcp" | "udp" => match ports(4) {
            Some(false) => Answer::No,
            Some(true) if word(0) == Some(0) && word(2) == Some(u16::MAX) => Answer::Yes,
            _ => Answer::Depends,
        },
        "multiport" => {
            let (kind, count) = (info.first().copied(), info.get(1).copied().unwrap_or(0));
            let listed = (0..usize::from(count.min(15))).filter_map(|i| word(2 + 2 * i)).any(|p| p == packet.port);
            let ranges = info.get(32..47).is_some_and(|flags| flags.iter().any(|f| *f != 0));
            match kind {
                Some(1) if !ranges => inverted(when(listed), info.get(47).is_some_and(|i| *i != 0)),
                _ => Answer::Depends,
            }
        }
        _ => Answer::Depends,
    }
}

impl Packet {
    /// `NFT_META_*`.
    fn meta(&self, key: u32) -> Vec<Option<u8>> {
        let name = |n: &str| known(&super::ruleset::interface_key(n));
        let v4 = self.destination.is_ipv4();
        match key {
            1 => known(&if v4 { 0x0800_u16 } else { 0x86dd }.to_be_bytes()),
            6 => name(&self.input),
            7 => name(self.output.as_deref().unwrap_or_default()),
            15 => known(&[if v4 { 2 } else { 10 }]),
            16 => known(&[self.protocol.number()]),
            27 if self.output.is_some() => name("bridge"),
            26 | 27 => vec![None; 16],
            _ => vec![None; 4],
        }
    }

    /// `NFT_CT_*`.
    fn connection(&self, key: u32) -> Vec<Option<u8>> {
        const NEW: u32 = 8;
        const DESTINATION_NAT: u32 = 0x20;
        match key {
            0 => known(&NEW.to_ne_bytes()),
            1 => known(&[0]),
            2 => known(&if self.rewritten { DESTINATION_NAT } else { 0 }.to_ne_bytes()),
            _ => vec![None; 16],
        }
    }

    /// A byte of the packet from a header's start: 1 is the network's, 2 the transport's.
    fn byte(&self, base: u32, at: u32) -> Option<u8> {
        let at = at as usize;
        match (base, self.destination) {
            (1, IpAddr::V4(_)) if at == 9 => Some(self.protocol.number()),
            (1, IpAddr::V4(ip)) => at.checked_sub(16).and_then(|i| ip.octets().get(i).copied()),
            (1, IpAddr::V6(_)) if at == 6 => Some(self.protocol.number()),
            (1, IpAddr::V6(ip)) => at.checked_sub(24).and_then(|i| ip.octets().get(i).copied()),
            (2, _) if matches!(at, 2 | 3) => self.port.to_be_bytes().get(at - 2).copied(),
            // A connection begins with SYN.
            (2, _) if at == 13 && self.protocol == Protocol::Tcp => Some(2),
            _ => None,
        }
    }

    /// `NFT_FIB_RESULT_*`, by `NFTA_FIB_F_*`. Clients are taken to be behind the interface they come in by.
    fn route(&self, result: u32, flags: u32) -> Vec<Option<u8>> {
        const BY_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        match result {
            3 if flags & BY_DESTINATION != 0 && self.output.is_none() => known(&LOCAL.to_ne_bytes()),
            1 if flags & BY_DESTINATION == 0 => known(&1_u32.to_ne_bytes()),
            2 => known(&super::ruleset::interface_key(&self.input)),
            _ => vec![None; 4],
        }
    }
}
