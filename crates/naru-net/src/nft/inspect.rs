//! What other tables do to our packets.

use super::{FAMILY_IPV4, Nft, SUBSYSTEM};
use crate::Result;
use crate::netlink::{attribute, read_u32, text};

const GETCHAIN: u16 = SUBSYSTEM | 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const FORWARD: u32 = 2;
const DROP: u32 = 0;

/// A chain: (table, name, family, hook, policy).
#[derive(Debug)]
struct Chain {
    table: String,
    name: String,
    family: u8,
    hook: Option<u32>,
    policy: Option<u32>,
}

impl Nft {
    /// Whether a forward chain of another table drops what it has no rule for, as docker's does and ufw's: then containers
    /// reach nothing until that table lets our bridges through. Best effort: rules of such a chain are not read.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn forward_policy_blocks(&mut self, own_table: &str) -> Result<bool> {
        let chains = self.chains()?;
        Ok(chains.iter().any(|c| {
            c.hook == Some(FORWARD)
                && c.policy == Some(DROP)
                && matches!(c.family, FAMILY_IPV4 | super::FAMILY_INET)
                && c.table != own_table
        }) || super::legacy::chains()?.iter().any(|c| c.drops && c.hook.is_some_and(|(hook, _)| hook == FORWARD)))
    }

    /// Whether the table has this chain.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn has_chain(&mut self, table: &str, name: &str) -> Result<bool> {
        Ok(self.chains()?.iter().any(|c| c.family == super::FAMILY_INET && c.table == table && c.name == name))
    }

    fn chains(&mut self) -> Result<Vec<Chain>> {
        self.socket.dump("list nftables chains", GETCHAIN, &[0; 4], read_chain)
    }
}

fn read_chain(payload: &[u8]) -> Option<Chain> {
    let attributes = payload.get(4..)?;
    let be32 = |bytes: &[u8]| read_u32(bytes).map(u32::from_be);
    Some(Chain {
        table: text(attribute(attributes, CHAIN_TABLE)?),
        name: text(attribute(attributes, CHAIN_NAME)?),
        family: payload[0],
        hook: attribute(attributes, CHAIN_HOOK).and_then(|h| attribute(h, HOOK_NUMBER)).and_then(be32),
        policy: attribute(attributes, CHAIN_POLICY).and_then(be32),
    })
}
