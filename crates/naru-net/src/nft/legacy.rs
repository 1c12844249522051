//! Rules of legacy iptables (linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h), told as those of nftables are: the kernel
//! asks both, and lists neither with the other.

use super::listing::{Chain, Rule};
use crate::netlink::{read_u16, read_u32, text};
use crate::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; the numbers of IPv6 are the same.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const NAME: usize = 32;
/// `struct ipt_getinfo`.
const INFO: usize = NAME + 52;
/// Where the entries begin in `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// `struct xt_entry_match` and `struct xt_entry_target`, before what is the extension's own.
const EXTENSION: usize = 32;
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
const PRIORITIES: [(&str, i32); 4] = [("raw", -300), ("mangle", -150), ("filter", 0), ("security", 50)];
/// Tables whose size changes between the two questions are asked for again so often.
const TRIES: usize = 4;

const VIA_IN: u8 = 1;
const VIA_OUT: u8 = 2;
const DESTINATION: u8 = 0x10;
const PROTOCOL: u8 = 0x40;

/// Where things are in an entry of one family.
struct Layout {
    family: u8,
    /// Length of an address.
    address: usize,
    /// Where the header's destination address is in a packet.
    in_packet: u32,
    /// Where the protocol's number is; the interfaces' names and masks are the 64 bytes before it.
    protocol: usize,
    flags: usize,
    inverse: usize,
    goto: u8,
    /// Set for fragments other than the first.
    fragment: u8,
    target_offset: usize,
    elements: usize,
}

const V4: Layout = Layout {
    family: super::FAMILY_IPV4,
    address: 4,
    in_packet: 16,
    protocol: 80,
    flags: 82,
    inverse: 83,
    goto: 2,
    fragment: 1,
    target_offset: 88,
    elements: 112,
};
const V6: Layout = Layout {
    family: super::FAMILY_IPV6,
    address: 16,
    in_packet: 24,
    protocol: 128,
    flags: 131,
    inverse: 132,
    goto: 4,
    // What is asked of a traffic class.
    fragment: 2,
    target_offset: 140,
    elements: 168,
};

/// The chains of all tables that are there, in the calling thread's network namespace.
///
/// # Errors
/// As getsockopt(2).
pub(super) fn chains() -> Result<Vec<Chain>> {
    let mut all = Vec::new();
    for (layout, listed, family, level) in
        [(&V4, "ip_tables_names", AddressFamily::INET, 0), (&V6, "ip6_tables_names", AddressFamily::INET6, 41)]
    {
        // To ask for one that is not there would make it. A kernel without legacy iptables has no such file.
        let names = std::fs::read_to_string(format!("/proc/thread-self/net/{listed}")).unwrap_or_default();
        let known = |name: &&str| PRIORITIES.iter().any(|(known, _)| known == name);
        let wanted: Vec<&str> = names.lines().filter(known).collect();
        if wanted.is_empty() {
            continue;
        }
        let failed = |operation| move |errno| Error::Socket { operation, errno };
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(rustix::net::ipproto::RAW))
            .map_err(failed("open"))?;
        for name in wanted {
            if let Some((info, entries)) = read(&socket, level, name).map_err(failed("list iptables' rules of"))? {
                all.extend(parse(layout, name, &info, &entries));
            }
        }
    }
    Ok(all)
}

/// A table's description and its entries.
type Table = (Vec<u8>, Vec<u8>);

/// None when it has just gone.
fn read(socket: &OwnedFd, level: i32, name: &str) -> std::result::Result<Option<Table>, Errno> {
    for _ in 0..TRIES {
        let mut info = vec![0; INFO];
        info[..name.len()].copy_from_slice(name.as_bytes());
        match naru_sys::sockopt::get(socket, level, GET_INFO, &mut info) {
            Err(Errno::NOENT | Errno::NOPROTOOPT) => return Ok(None),
            other => drop(other?),
        }
        let size = info.get(INFO - 4..).and_then(read_u32).unwrap_or(0) as usize;
        let mut entries = vec![0; ENTRIES + size];
        entries[..name.len()].copy_from_slice(name.as_bytes());
        entries[NAME..NAME + 4].copy_from_slice(&(size as u32).to_ne_bytes());
        match naru_sys::sockopt::get(socket, level, GET_ENTRIES, &mut entries) {
            Err(Errno::AGAIN) => {}
            other => {
                other?;
                return Ok(Some((info, entries.split_off(ENTRIES))));
            }
        }
    }
    Err(Errno::AGAIN)
}

/// An entry, and where it begins.
struct Entry<'a> {
    at: usize,
    bytes: &'a [u8],
    /// Its target's name, and what is the target's own.
    target: (String, &'a [u8]),
}

fn entries<'a>(layout: &Layout, all: &'a [u8]) -> Vec<Entry<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = all.get(at..).filter(|rest| rest.len() > layout.elements) {
        let offset = |place: usize| rest.get(place..).and_then(read_u16).map_or(0, usize::from);
        let (target, next) = (offset(layout.target_offset), offset(layout.target_offset + 2));
        let Some(bytes) = rest.get(..next).filter(|b| b.len() >= layout.elements) else { break };
        let Some(own) = bytes.get(target..).filter(|t| t.len() >= EXTENSION) else { break };
        found.push(Entry { at, bytes, target: (text(&own[2..31]), &own[EXTENSION..]) });
        at += next;
    }
    found
}

fn parse(layout: &Layout, table: &str, info: &[u8], all: &[u8]) -> Vec<Chain> {
    let number = |at: usize| info.get(at..).and_then(read_u32).unwrap_or(0);
    let hooks: Vec<usize> = (0..5).filter(|hook| number(NAME) >> hook & 1 == 1).collect();
    let begins = |hook: usize| number(NAME + 4 + 4 * hook) as usize;
    let policy = |hook: usize| number(NAME + 24 + 4 * hook) as usize;
    let key = (layout.family, format!("{table} (legacy)"));
    let priority = PRIORITIES.iter().find(|(name, _)| *name == table).map_or(0, |(_, priority)| *priority);
    let entries = entries(layout, all);
    // A chain of the user's begins behind an entry that has its name.
    let named: Vec<(usize, String)> = entries
        .iter()
        .zip(entries.iter().skip(1))
        .filter(|(head, _)| head.target.0 == "ERROR")
        .map(|(head, first)| (first.at, text(head.target.1)))
        .collect();
    let mut chains: Vec<Chain> = Vec::new();
    for entry in &entries {
        let base = hooks.iter().find(|hook| begins(**hook) == entry.at);
        let user = named.iter().find(|(at, _)| *at == entry.at);
        if base.is_some() || user.is_some() {
            chains.push(Chain {
                table: key.clone(),
                name: base.map_or_else(|| user.map(|u| u.1.clone()).unwrap_or_default(), |h| HOOKS[*h].to_owned()),
                hook: base.map(|hook| (*hook as u32, priority)),
                kind: "filter".into(),
                drops: false,
                rules: Vec::new(),
            });
        }
        let Some(chain) = chains.last_mut().filter(|_| entry.target.0 != "ERROR") else { continue };
        let verdict = entry.target.1.get(..4).and_then(read_u32).map(u32::cast_signed);
        if entry.target.0.is_empty() && hooks.iter().any(|hook| policy(*hook) == entry.at && begins(*hook) <= entry.at)
        {
            chain.drops = verdict == Some(DROP);
            continue;
        }
        let handle = chain.rules.len() as u64 + 1;
        chain.rules.push(Rule { handle, expressions: expressions(layout, entry, &named) });
    }
    chains
}

/// `-NF_DROP - 1`, and so on; `XT_RETURN`.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// What nftables would have for the entry.
fn expressions(layout: &Layout, entry: &Entry<'_>, chains: &[(usize, String)]) -> Vec<(String, Vec<u8>)> {
    let bytes = entry.bytes;
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let part = |at: usize, length: usize| bytes.get(at..at + length).unwrap_or_default();
    let (flags, inverse) = (byte(layout.flags), byte(layout.inverse));
    let differs = |flag: u8| u32::from(inverse & flag != 0);
    let mut all = Expressions(Vec::new());
    let size = layout.address;
    // Who the client is, is not known.
    if part(2 * size, size).iter().any(|b| *b != 0) || flags & layout.fragment != 0 {
        all.depends();
    }
    let (destination, mask) = (part(size, size), part(3 * size, size));
    if mask.iter().any(|b| *b != 0) {
        let wanted: Vec<u8> = destination.iter().zip(mask).map(|(address, mask)| address & mask).collect();
        all.destination(layout.in_packet, mask);
        all.compare(differs(DESTINATION), &wanted);
    }
    let names = layout.protocol - 64;
    for (key, name, flag) in [(6, names, VIA_IN), (7, names + 16, VIA_OUT)] {
        let length = part(name + 32, 16).iter().filter(|b| **b == 0xff).count();
        if length > 0 {
            all.meta(key);
            all.compare(differs(flag), part(name, length));
        }
    }
    if let Some(protocol @ 1..=255) = bytes.get(layout.protocol..).and_then(read_u16) {
        all.meta(16);
        all.compare(differs(PROTOCOL), &[protocol as u8]);
    }
    let end = bytes.get(layout.target_offset..).and_then(read_u16).map_or(0, usize::from);
    let mut rest = bytes.get(layout.elements..end).unwrap_or_default();
    while let Some(length) = read_u16(rest).map(usize::from).filter(|l| *l >= EXTENSION && *l <= rest.len()) {
        let (one, behind) = rest.split_at(length);
        let mut data = Vec::new();
        put(&mut data, 1, text(&one[2..31]).as_bytes());
        put(&mut data, 3, &one[EXTENSION..]);
        all.push("match", data);
        rest = behind;
    }
    all.target(entry, flags & layout.goto != 0, chains);
    all.0
}

struct Expressions(Vec<(String, Vec<u8>)>);

impl Expressions {
    fn push(&mut self, name: &str, data: Vec<u8>) {
        self.0.push((name.to_owned(), data));
    }

    /// A condition that holds for some.
    fn depends(&mut self) {
        self.push("limit", Vec::new());
    }

    fn meta(&mut self, key: u32) {
        let mut data = Vec::new();
        put(&mut data, 1, &1_u32.to_be_bytes());
        put(&mut data, 2, &key.to_be_bytes());
        self.push("meta", data);
    }

    /// The destination's bits under a mask.
    fn destination(&mut self, at: u32, mask: &[u8]) {
        let length = mask.len() as u32;
        let mut data = Vec::new();
        for (kind, number) in [(1, 1), (2, 1), (3, at), (4, length)] {
            put(&mut data, kind, &u32::to_be_bytes(number));
        }
        self.push("payload", data);
        let mut data = Vec::new();
        for (kind, number) in [(1, 1), (2, 1), (3, length)] {
            put(&mut data, kind, &u32::to_be_bytes(number));
        }
        put(&mut data, 4, &value(mask));
        put(&mut data, 5, &value(&vec![0; mask.len()]));
        self.push("bitwise", data);
    }

    /// 0: equal, 1: different.
    fn compare(&mut self, how: u32, with: &[u8]) {
        let mut data = Vec::new();
        put(&mut data, 1, &1_u32.to_be_bytes());
        put(&mut data, 2, &how.to_be_bytes());
        put(&mut data, 3, &value(with));
        self.push("cmp", data);
    }

    fn target(&mut self, entry: &Entry<'_>, goto: bool, chains: &[(usize, String)]) {
        let (name, own) = &entry.target;
        if !name.is_empty() {
            let mut data = Vec::new();
            put(&mut data, 1, name.as_bytes());
            return self.push("target", data);
        }
        let Some(verdict) = read_u32(own).map(u32::cast_signed) else { return };
        let (code, chain): (i32, Option<&str>) = match verdict {
            DROP => (0, None),
            ACCEPT => (1, None),
            RETURN => (-5, None),
            // To the next rule, which is no jump, or to a chain.
            at => match chains.iter().find(|(begin, _)| usize::try_from(at).is_ok_and(|at| at == *begin)) {
                Some((_, chain)) => (if goto { -4 } else { -3 }, Some(chain)),
                None => return,
            },
        };
        let mut verdict = Vec::new();
        put(&mut verdict, 1, &code.to_be_bytes());
        if let Some(chain) = chain {
            put(&mut verdict, 2, chain.as_bytes());
        }
        let mut wrapped = Vec::new();
        put(&mut wrapped, 2, &verdict);
        let mut data = Vec::new();
        put(&mut data, 1, &0_u32.to_be_bytes());
        put(&mut data, 2, &wrapped);
        self.push("immediate", data);
    }
}

/// `NFTA_DATA_VALUE`.
fn value(bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    put(&mut data, 1, bytes);
    data
}

/// An attribute, padded to 4 bytes.
fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(
            info in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..96),
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512),
        ) {
            for layout in [&V4, &V6] {
                let _ = parse(layout, "filter", &info, &bytes);
            }
        }
    }
}
