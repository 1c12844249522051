//! Routing by mark (ip-rule(8), linux/fib_rules.h): where the host looks when it asks for the way back of a marked packet.

use super::Rtnl;
use super::address::{AF_INET, AF_INET6};
use super::route::{PROTOCOL_BOOT, RTA_OIF, RTA_TABLE, RTM_NEWROUTE, SCOPE_LINK, TYPE_UNICAST, header};
use crate::Result;
use crate::netlink::{ACK, Batch, CREATE, EXCL, REPLACE};
use crate::nft::SourceFilters;
use rustix::io::Errno;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const TO_TABLE: u8 = 1;
/// Behind the local table (0), before whatever the administrator has.
const PREFERENCE: u32 = 110;

/// `struct fib_rule_hdr`.
fn rule(batch: &mut Batch, operation: &'static str, kind: u16, flags: u16, family: u8, mark: u32) {
    batch.push(operation, kind, flags, &[family, 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0], |a| {
        a.u32(FRA_PRIORITY, PREFERENCE);
        a.text(FRA_IIFNAME, "lo");
        a.u32(FRA_FWMARK, mark);
        a.u32(FRA_FWMASK, u32::MAX);
        a.u32(FRA_TABLE, mark);
    });
}

/// A kernel without routing by rules, or without IPv6: nobody can ask there by a mark.
fn is_missing(error: &crate::Error) -> bool {
    matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT))
}

impl Rtnl {
    /// Everything is behind the interface `index` for who asks with `mark` where a source is (`fib saddr . mark`, `rpfilter
    /// --validmark`): a table of that number, which is not asked when a packet is routed. May be done again.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn lead_back(&mut self, index: u32, mark: u32, asked: SourceFilters) -> Result<()> {
        for family in [(asked.v4, AF_INET), (asked.v6, AF_INET6)].into_iter().filter_map(|(is, f)| is.then_some(f)) {
            let mut batch = Batch::new();
            let header = header(family, 0, 0, PROTOCOL_BOOT, SCOPE_LINK, TYPE_UNICAST);
            batch.push("add route", RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |a| {
                a.u32(RTA_OIF, index);
                a.u32(RTA_TABLE, mark);
            });
            self.socket.send(batch)?;
            let mut batch = Batch::new();
            rule(&mut batch, "add routing rule", RTM_NEWRULE, ACK | CREATE | EXCL, family, mark);
            match self.socket.send(batch) {
                Err(e) if e.errno() != Some(Errno::EXIST) && !is_missing(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes that back; the route goes with its interface. None is no error.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn forget_way_back(&mut self, mark: u32, ipv6: bool) -> Result<()> {
        for family in std::iter::once(AF_INET).chain(ipv6.then_some(AF_INET6)) {
            let mut batch = Batch::new();
            rule(&mut batch, "delete routing rule", RTM_DELRULE, ACK, family, mark);
            match self.socket.send(batch) {
                Err(e) if e.errno() != Some(Errno::NOENT) && !is_missing(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}
