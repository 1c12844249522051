//! Who asks where a packet's source is: rules that drop what comes in by another interface (`fib saddr . iif oif missing`, iptables'
//! `rpfilter`), which would drop what comes out of the gate.
//!
//! The routing rule that mends it makes the kernel look up every route of the host in a longer way (6 % of a connection's time), so it is
//! there only where somebody asks.

use super::{FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, Nft, SUBSYSTEM, legacy};
use crate::Result;
use crate::netlink::{Attributes, attribute, text};

const GETRULE: u16 = SUBSYSTEM | 7;
/// `NFTA_RULE_EXPRESSIONS`.
const EXPRESSIONS: u16 = 4;
/// `NFTA_FIB_F_SADDR`.
const BY_SOURCE: u32 = 1;

/// The families for which somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SourceFilters {
    pub v4: bool,
    pub v6: bool,
}

impl SourceFilters {
    /// Of a table of this family.
    pub(super) fn of(family: u8) -> Self {
        Self { v4: matches!(family, FAMILY_INET | FAMILY_IPV4), v6: matches!(family, FAMILY_INET | FAMILY_IPV6) }
    }

    /// Either's.
    pub fn and(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }
}

/// Whether the table is an engine's: what it says of sources is about its own bridges.
pub(super) fn is_engines(table: &str) -> bool {
    table.strip_prefix("naru").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether the rule of which these are the attributes asks for a source.
pub(super) fn asks(rule: &[u8]) -> bool {
    Attributes::new(attribute(rule, EXPRESSIONS).unwrap_or_default()).any(|(_, expression)| {
        let data = attribute(expression, 2).unwrap_or_default();
        is_filter(&attribute(expression, 1).map(text).unwrap_or_default(), data)
    })
}

fn is_filter(name: &str, data: &[u8]) -> bool {
    match name {
        "fib" => attribute(data, 3).and_then(super::listing::be32).is_some_and(|flags| flags & BY_SOURCE != 0),
        "match" => attribute(data, 1).map(text).as_deref() == Some("rpfilter"),
        _ => false,
    }
}

impl Nft {
    /// Looks through all rules but those of engines.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn source_filters(&mut self) -> Result<SourceFilters> {
        let found = self.socket.dump("list nftables rules", GETRULE, &[0; 4], |payload| {
            let attributes = payload.get(4..)?;
            let foreign = attribute(attributes, 1).map(text).is_some_and(|table| !is_engines(&table));
            (foreign && asks(attributes)).then(|| SourceFilters::of(payload[0]))
        })?;
        let of_legacy = legacy::chains()?.into_iter().filter_map(|chain| {
            let mut all = chain.rules.iter().flat_map(|rule| &rule.expressions);
            all.any(|(name, data)| is_filter(name, data)).then(|| SourceFilters::of(chain.table.0))
        });
        Ok(found.into_iter().chain(of_legacy).fold(SourceFilters::default(), SourceFilters::and))
    }
}
