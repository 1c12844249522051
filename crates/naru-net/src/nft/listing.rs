//! The rules of all tables, as the kernel lists them (linux/netfilter/nf_tables.h).

use super::{Nft, SUBSYSTEM};
use crate::Result;
use crate::netlink::{Attributes, attribute, read_u32, text};
use std::collections::BTreeMap;

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const GETSET: u16 = SUBSYSTEM | 10;
const GETSETELEM: u16 = SUBSYSTEM | 13;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 4;

/// (family, name).
pub(super) type TableKey = (u8, String);

/// A chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub table: TableKey,
    pub name: String,
    /// Hook number and priority, of a base chain.
    pub hook: Option<(u32, i32)>,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Drops what no rule has decided.
    pub drops: bool,
    pub rules: Vec<Rule>,
}

/// A rule: its expressions, each a name and its attributes.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub handle: u64,
    pub expressions: Vec<(String, Vec<u8>)>,
}

/// What a set or map holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Elements {
    pub interval: bool,
    pub all: Vec<Element>,
}

/// An element, its attributes as they are.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub end: bool,
    /// Attributes of its data.
    pub data: Vec<u8>,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    pub chains: Vec<Chain>,
    pub sets: BTreeMap<(TableKey, String), Elements>,
}

impl Nft {
    /// Lists the chains and sets of every table but those named `without`.
    pub(super) fn list(&mut self, without: &str) -> Result<Listing> {
        let table = |payload: &[u8]| -> Option<TableKey> {
            let name = text(attribute(payload.get(4..)?, 1)?);
            (name != without).then(|| (payload[0], name))
        };
        let mut chains = self.socket.dump("list nftables chains", GETCHAIN, &[0; 4], |payload| {
            let table = table(payload)?;
            read_chain(table, payload.get(4..)?)
        })?;
        let rules = self.socket.dump("list nftables rules", GETRULE, &[0; 4], |payload| {
            let attributes = payload.get(4..)?;
            Some((table(payload)?, text(attribute(attributes, 2)?), read_rule(attributes)))
        })?;
        for (table, chain, rule) in rules {
            if let Some(chain) = chains.iter_mut().find(|c| c.table == table && c.name == chain) {
                chain.rules.push(rule);
            }
        }
        let sets = self.socket.dump("list nftables sets", GETSET, &[0; 4], |payload| {
            let attributes = payload.get(4..)?;
            let flags = attribute(attributes, 3).and_then(be32).unwrap_or(0);
            Some((table(payload)?, text(attribute(attributes, 2)?), flags & INTERVAL != 0))
        })?;
        let mut listing = Listing { chains, sets: BTreeMap::new() };
        for (table, name, interval) in sets {
            let mut header = vec![table.0, 0, 0, 0];
            push_text(&mut header, 1, &table.1);
            push_text(&mut header, 2, &name);
            let parts = self.socket.dump("list nftables elements", GETSETELEM, &header, |payload| {
                let list = attribute(payload.get(4..)?, 3)?;
                Some(Attributes::new(list).filter_map(|(_, e)| read_element(e)).collect::<Vec<_>>())
            })?;
            listing.sets.insert((table, name), Elements { interval, all: parts.into_iter().flatten().collect() });
        }
        Ok(listing)
    }
}

fn push_text(to: &mut Vec<u8>, kind: u16, value: &str) {
    let length = u16::try_from(4 + value.len() + 1).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value.as_bytes());
    to.push(0);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// 32 bits, big endian.
pub(super) fn be32(bytes: &[u8]) -> Option<u32> {
    read_u32(bytes).map(u32::from_be)
}

fn read_chain(table: TableKey, attributes: &[u8]) -> Option<Chain> {
    let hook = attribute(attributes, 4).and_then(|hook| {
        let priority = attribute(hook, 2).and_then(be32)?.cast_signed();
        Some((attribute(hook, 1).and_then(be32)?, priority))
    });
    Some(Chain {
        table,
        name: text(attribute(attributes, 3)?),
        hook,
        kind: attribute(attributes, 7).map(text).unwrap_or_default(),
        drops: attribute(attributes, 5).and_then(be32) == Some(0),
        rules: Vec::new(),
    })
}

fn read_rule(attributes: &[u8]) -> Rule {
    let handle = attribute(attributes, 3).and_then(|h| h.first_chunk().map(|b| u64::from_be_bytes(*b)));
    let list = attribute(attributes, 4).unwrap_or_default();
    let expressions = Attributes::new(list).filter_map(|(_, expression)| {
        let name = text(attribute(expression, 1)?);
        Some((name, attribute(expression, 2).unwrap_or_default().to_vec()))
    });
    Rule { handle: handle.unwrap_or(0), expressions: expressions.collect() }
}

fn read_element(element: &[u8]) -> Option<Element> {
    let value = |kind| attribute(element, kind).and_then(|k| attribute(k, 1)).map(<[u8]>::to_vec);
    let flags = attribute(element, 3).and_then(be32).unwrap_or(0);
    Some(Element {
        // What catches all has no key, and is matched by none.
        key: value(1)?,
        key_end: value(10),
        end: flags & INTERVAL_END != 0,
        data: attribute(element, 2).unwrap_or_default().to_vec(),
    })
}
