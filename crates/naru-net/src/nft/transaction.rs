//! The messages of one nftables transaction (linux/netfilter/nf_tables.h): all take effect, or none.

use super::expression::Rule;
use super::{FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, Nft, SUBSYSTEM};
use crate::Result;
use crate::netlink::{ACK, APPEND, Attrs, Batch, CREATE};
use std::net::IpAddr;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
/// Elements of one message; each takes well under 200 bytes, and a nested attribute holds 64 KiB.
const ELEMENTS: usize = 256;

/// A base chain's type and hook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub kind: &'static str,
    /// `NF_INET_*`.
    pub number: u32,
    pub priority: i32,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Data types as the nft program knows them (`enum datatypes` in nftables' datatype.h); a kernel only stores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    InterfaceName,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
        }
    }

    /// Length in bytes.
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Protocol => 1,
            Self::Port => 2,
            Self::InterfaceName => 16,
        }
    }

    /// As nft's userdata tells the byte order: 1 for the host's, 2 for big endian.
    fn byte_order(self) -> u32 {
        match self {
            Self::InterfaceName => 1,
            _ => 2,
        }
    }
}

/// What a set or map is made of: several types are a concatenation, each padded to 4 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub name: &'static str,
    pub key: &'static [Type],
    /// For a map.
    pub data: Option<&'static [Type]>,
    /// Elements are ranges of keys.
    pub interval: bool,
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub key: Vec<u8>,
    pub data: Option<Vec<u8>>,
    /// The first key behind a range.
    pub end: bool,
}

fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, t| (number << 6) | t.number())
}

fn length(types: &[Type]) -> u32 {
    match types {
        [one] => one.length(),
        several => several.iter().map(|t| t.length().next_multiple_of(4)).sum(),
    }
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A transaction on one table, and on the tables of the same name for one family alone.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    table: &'a str,
    family: u8,
    batch: Batch,
    sets: u32,
}

impl<'a> Transaction<'a> {
    pub fn new(table: &'a str) -> Self {
        let mut batch = Batch::new();
        batch.push("begin nftables transaction", BATCH_BEGIN, 0, &header(0, SUBSYSTEM >> 8), |_| {});
        Self { table, family: FAMILY_INET, batch, sets: 0 }
    }

    /// What `work` adds is for the table of one family alone, whose rules may do what the common one's may not (`dup`).
    pub fn for_family(&mut self, family: Family, work: impl FnOnce(&mut Self)) {
        self.family = match family {
            Family::V4 => FAMILY_IPV4,
            Family::V6 => FAMILY_IPV6,
        };
        work(self);
        self.family = FAMILY_INET;
    }

    fn push(&mut self, operation: &'static str, kind: u16, flags: u16, attributes: impl FnOnce(&mut Attrs<'_>)) {
        let table = self.table;
        self.batch.push(operation, kind, flags, &header(self.family, 0), |a| {
            a.text(1, table);
            attributes(a);
        });
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self) {
        self.push("add nftables table", NEWTABLE, CREATE, |_| {});
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.push("delete nftables table", DELTABLE, 0, |_| {});
    }

    /// Makes a chain: a base chain with `hook` and policy accept, or one to jump to.
    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.push("add nftables chain", NEWCHAIN, CREATE, |a| {
            a.text(3, name);
            let Some(hook) = hook else { return };
            a.nest(4, |a| {
                a.be32(1, hook.number);
                a.be32(2, hook.priority.cast_unsigned());
            });
            a.be32(5, 1);
            a.text(7, hook.kind);
        });
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        let flags =
            u32::from(set.interval) * 0x4 + u32::from(set.data.is_some()) * 0x8 + u32::from(set.key.len() > 1) * 0x80;
        self.push("add nftables set", NEWSET, CREATE, |a| {
            a.text(2, set.name);
            a.be32(3, flags);
            a.be32(4, type_number(set.key));
            a.be32(5, length(set.key));
            if let Some(data) = set.data {
                a.be32(6, type_number(data));
                a.be32(7, length(data));
            }
            a.be32(10, id);
            match set.key {
                [one] => {
                    let mut userdata = vec![0, 4];
                    userdata.extend_from_slice(&one.byte_order().to_ne_bytes());
                    a.bytes(13, &userdata);
                }
                several => a.nest(9, |a| {
                    a.nest(2, |a| several.iter().for_each(|t| a.nest(1, |a| a.be32(1, t.length()))));
                }),
            }
        });
    }

    /// Adds elements; one that is there already is no error.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add nftables elements", NEWSETELEM, CREATE, set, elements);
    }

    /// Deletes elements, also when they are not there.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        // A kernel before 6.3 can't be asked to delete what may be missing: add it first, in the same transaction.
        self.add_elements(set, elements);
        self.elements("delete nftables elements", DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, operation: &'static str, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for part in elements.chunks(ELEMENTS) {
            self.push(operation, kind, flags, |a| {
                a.text(2, set);
                a.nest(3, |a| part.iter().for_each(|e| a.nest(1, |a| element(a, e))));
            });
        }
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.push("add nftables rule", NEWRULE, CREATE | APPEND, |a| {
            a.text(2, chain);
            a.nest(4, |a| rule.write(a));
        });
    }

    /// Sends it.
    pub fn commit(mut self, nft: &mut Nft) -> Result<()> {
        // The table is made by each transaction that adds to it, so this changes nothing; its acknowledgement comes last.
        let table = self.table;
        self.batch.push("commit nftables transaction", SUBSYSTEM, CREATE | ACK, &header(FAMILY_INET, 0), |a| {
            a.text(1, table);
        });
        self.end(nft)
    }

    /// Sends it, when its last message deletes the table.
    pub fn commit_deletion(mut self, nft: &mut Nft) -> Result<()> {
        self.push("delete nftables table", DELTABLE, ACK, |_| {});
        self.end(nft)
    }

    fn end(mut self, nft: &mut Nft) -> Result<()> {
        self.batch.push("end nftables transaction", BATCH_END, 0, &header(0, SUBSYSTEM >> 8), |_| {});
        nft.socket.send_transaction(self.batch).map_err(|e| e.about(self.table))
    }
}

fn element(attributes: &mut Attrs<'_>, element: &Element) {
    attributes.nest(1, |a| a.bytes(1, &element.key));
    if let Some(data) = &element.data {
        attributes.nest(2, |a| a.bytes(1, data));
    }
    if element.end {
        attributes.be32(3, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenations_are_numbered_and_padded_as_nft_does() {
        assert_eq!(type_number(&[Type::Ipv4, Type::Protocol, Type::Port]), (7 << 12) | (12 << 6) | 13);
        assert_eq!(length(&[Type::Ipv4, Type::Protocol, Type::Port]), 12);
        assert_eq!(length(&[Type::Port]), 2);
        assert_eq!(length(&[Type::InterfaceName, Type::InterfaceName]), 32);
    }
}
