//! The gate: how the host's own rules for incoming packets hold for published ports.
//!
//! A packet whose destination is rewritten before routing is forwarded to its container and never meets the host's rules for
//! incoming packets: that is how docker opens ports which ufw or firewalld keep closed. Here only what comes from a container
//! or from the host itself is rewritten at once. Anybody else's first packet is left as it is, so that it meets the host's
//! rules with its true addresses and ports. What they let in reaches a chain behind all of them, which sends a copy into one
//! end of a veth pair and drops the packet. The copy comes out of the other end, as if it had just arrived: now its
//! destination is rewritten, and it is forwarded. From then on the connection is known, and its packets go straight to the
//! container. So a packet of a connection takes the detour once, and the client's address is kept.
//!
//! Who looks whether a packet's source is behind the interface that it came in by finds the gate's packets wrong. For the kernel's own
//! filter (`rp_filter`) that is a setting of the gate. Filters in rules (`fib saddr . mark . iif`, firewalld's `IPv6_rpfilter`) ask the
//! routing tables with the packet's mark: a packet that comes out unmarked gets one, until it is forwarded, with which everything is behind
//! the gate as soon as there is such a filter (`nft::sources`).

use super::{HostNet, lock};
use crate::nft::{Loss, RuleWatch, SourceFilters};
use crate::{Published, Result, sysctl};

impl HostNet {
    /// Makes the pair unless it is there, and opens it for IPv6 when one of `ports` needs that; the number of the end into which
    /// packets go.
    pub(super) fn ensure_gate<'a>(&self, ports: impl IntoIterator<Item = &'a Published>) -> Result<u32> {
        let (into, out) = (self.instance.gate_in(), self.instance.gate());
        let alias = self.instance.alias("gate");
        let sources = self.sources()?;
        let mut rtnl = lock(&self.rtnl);
        let ((index, outer), new) = match (rtnl.link(&into)?, rtnl.link(&out)?) {
            (Some(into), Some(out)) => ((into.index, out.index), false),
            // Half a pair is no pair: somebody else has one of the names.
            _ => (rtnl.create_gate(&into, &out, &alias)?, true),
        };
        let needed = self.ipv6 && ports.into_iter().any(|p| p.host_ip.is_ipv6());
        if self.ipv6 {
            for name in [&into, &out] {
                let conf = format!("ipv6/conf/{name}");
                // No address of its own, and nothing learnt from the link.
                sysctl::ensure(&format!("{conf}/addr_gen_mode"), "1")?;
                sysctl::ensure(&format!("{conf}/accept_ra"), "0")?;
                if needed {
                    sysctl::ensure(&format!("{conf}/disable_ipv6"), "0")?;
                } else if new {
                    sysctl::ensure(&format!("{conf}/disable_ipv6"), "1")?;
                }
            }
            if needed {
                sysctl::ensure(&format!("ipv6/conf/{out}/forwarding"), "1")?;
                rtnl.add_link_local_route(index)?;
            }
        }
        // The source of what comes out is not behind this interface. 2 is "behind any", and wins over a stricter setting for all.
        sysctl::ensure(&format!("ipv4/conf/{out}/rp_filter"), "2")?;
        sysctl::ensure(&format!("ipv4/conf/{out}/forwarding"), "1")?;
        rtnl.lead_back(outer, self.instance.gate_mark(), SourceFilters { v6: sources.v6 && needed, ..sources })?;
        Ok(index)
    }

    /// Who asks where a packet's source is.
    fn sources(&self) -> Result<SourceFilters> {
        let mut firewall = lock(&self.firewall);
        match firewall.sources {
            Some(known) => Ok(known),
            None => {
                let found = firewall.nft.source_filters()?;
                firewall.sources = Some(found);
                Ok(found)
            }
        }
    }

    /// Hears of what others do to the firewall from now on.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn watch_rules(&self) -> naru_base::Result<RuleWatch> {
        Ok(RuleWatch::open()?)
    }

    /// Does what follows from news: puts the rules back if `watch` has heard that somebody else deleted some, or has missed news; true when somebody did.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn restore_rules(&self, watch: &RuleWatch) -> naru_base::Result<bool> {
        let table = self.instance.table();
        let own = lock(&self.firewall).nft.port_id()?;
        let news = watch.news(&table, own);
        let (ports, asked) = {
            let mut firewall = lock(&self.firewall);
            let before = firewall.sources;
            // What got lost may have told of more.
            firewall.sources = before.filter(|_| news.loss != Loss::Possible).map(|known| known.and(news.sources));
            (firewall.ports.clone(), firewall.sources != before)
        };
        if news.loss == Loss::None {
            if asked && !ports.is_empty() {
                self.ensure_gate(&ports)?;
            }
            return Ok(false);
        }
        let gate = if ports.is_empty() { None } else { Some(self.ensure_gate(&ports)?) };
        let mut firewall = lock(&self.firewall);
        firewall.gate.into = gate.or(firewall.gate.into);
        firewall.made = false;
        self.change_rules(&mut firewall, |_, _| Ok(()))?;
        Ok(news.loss == Loss::Certain)
    }

    /// Removes the pair.
    pub(super) fn remove_gate(&self) -> Result<()> {
        let mut rtnl = lock(&self.rtnl);
        rtnl.forget_way_back(self.instance.gate_mark(), self.ipv6)?;
        match rtnl.link(&self.instance.gate_in())? {
            Some(link) => rtnl.delete_links(&[link.index]),
            None => Ok(()),
        }
    }
}
