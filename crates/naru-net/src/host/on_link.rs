//! Networks on the link of one of the host's interfaces: their parent, and the interfaces of containers on it.

use super::{HostNet, lock};
use crate::on_link::Vlan;
use crate::rtnl::{LinkInfo, LinkKind, OnLink, ParentOptions, Rtnl};
use crate::{Driver, Error, Mac, MacvlanMode, Netns, NetworkSpec, Result};
use rustix::fd::AsFd;
use rustix::io::Errno;

impl HostNet {
    /// Whether a new network's parent has to be made: it is a dummy of its own, or a VLAN's sub-interface that is not there.
    ///
    /// # Errors
    /// Invalid parameter, in docker's words, when the parent can't be one, or when the kernel has no such networks.
    pub fn lacks_parent(&self, spec: &NetworkSpec) -> naru_base::Result<bool> {
        let mut rtnl = lock(&self.rtnl);
        let kind = spec.driver.name();
        if !rtnl.has_kind_on_link(kind)? {
            return Err(naru_base::Error::invalid(no_kind(kind)));
        }
        if spec.parent == self.instance.dummy_of(spec.id.as_str()) {
            return Ok(true);
        }
        if rtnl.link(&spec.parent)?.is_some() {
            return Ok(false);
        }
        let vlan = Vlan::parse(&spec.parent)?;
        match rtnl.link(vlan.carrier)? {
            Some(_) => Ok(true),
            None => Err(naru_base::Error::invalid(format!(
                "failed to find master interface {} on the Docker host: the host has no such interface",
                vlan.carrier
            ))),
        }
    }

    /// Makes the parent of a network that has it for its own, unless it is there.
    pub(super) fn make_parent(&self, spec: &NetworkSpec) -> Result<()> {
        if !spec.own_parent {
            return Ok(());
        }
        let mut rtnl = lock(&self.rtnl);
        if let Some(link) = rtnl.link(&spec.parent)? {
            return if self.is_ours(&link) {
                Ok(())
            } else {
                let kind = if link.kind.is_empty() { "device".to_owned() } else { link.kind };
                Err(Error::Invalid(format!("interface {} exists and is a {kind} of somebody else's", link.name)))
            };
        }
        let alias = self.instance.alias(spec.id.as_str());
        let vlan = if spec.parent == self.instance.dummy_of(spec.id.as_str()) {
            None
        } else {
            let vlan = Vlan::parse(&spec.parent).map_err(|e| Error::Invalid(e.message().to_owned()))?;
            let carrier = rtnl.link(vlan.carrier)?.ok_or_else(|| {
                Error::Invalid(format!("network {}: the host has no interface {}", spec.name, vlan.carrier))
            })?;
            Some((vlan.id, carrier.index))
        };
        let options = ParentOptions { name: &spec.parent, alias: &alias, vlan, no_ipv6_address: self.ipv6 };
        rtnl.create_parent(&options).map_err(|e| match (e.errno(), vlan) {
            (Some(Errno::OPNOTSUPP), Some(_)) => Error::Invalid(format!(
                "the interface {} can't be made, since this kernel has no VLANs (modprobe 8021q)",
                spec.parent
            )),
            (Some(Errno::OPNOTSUPP), None) => Error::Invalid(format!(
                "a {} network without a parent, or an internal one, is on an interface of its own, and this kernel has no dummy \
                 interfaces (modprobe dummy); give a network that is not internal a parent by -o parent=<interface>",
                spec.driver.name()
            )),
            _ => e,
        })
    }

    /// Removes the parent of a network that has it for its own, unless another set-up network is on it.
    pub(super) fn remove_parent(&self, spec: &NetworkSpec) -> Result<()> {
        if !spec.own_parent || lock(&self.live).values().any(|l| l.spec.parent == spec.parent) {
            return Ok(());
        }
        let mut rtnl = lock(&self.rtnl);
        match rtnl.link(&spec.parent)? {
            Some(link) if self.is_ours(&link) => rtnl.delete_links(&[link.index]),
            _ => Ok(()),
        }
    }

    /// Whether an interface is one that networks of this engine are on, and was made for them.
    pub(super) fn is_ours(&self, link: &LinkInfo) -> bool {
        matches!(link.kind.as_str(), "dummy" | "vlan") && link.alias.starts_with(&self.instance.alias_prefix())
    }

    /// Makes a container's interface on the parent's link, in its namespace; the Ethernet address that it has of its own.
    pub(super) fn make_on_link(
        &self,
        spec: &NetworkSpec,
        netns: &Netns,
        inside: &str,
        mac: Mac,
        wanted: Option<Mac>,
    ) -> Result<Option<Mac>> {
        let kind = match spec.driver {
            Driver::Ipvlan if wanted.is_some() => {
                return Err(Error::Invalid("ipvlan interfaces do not support custom mac address assignment".into()));
            }
            Driver::Ipvlan => LinkKind::Ipvlan { mode: spec.ipvlan_mode.number(), flags: spec.ipvlan_flag.number() },
            _ => LinkKind::Macvlan { mode: spec.macvlan_mode.number(), mac },
        };
        {
            let mut rtnl = lock(&self.rtnl);
            let parent = rtnl.link(&spec.parent)?.ok_or_else(|| {
                Error::Invalid(format!("network {}: its parent interface {} is not there", spec.name, spec.parent))
            })?;
            let mtu = (spec.mtu > 0).then_some(spec.mtu);
            let wanted = OnLink { kind, parent: parent.index, netns: netns.as_fd(), name: inside, mtu };
            rtnl.create_on_link(&wanted).map_err(|e| refused(spec, e))?;
        }
        match kind {
            LinkKind::Ipvlan { .. } => Ok(None),
            LinkKind::Macvlan { .. } if spec.macvlan_mode == MacvlanMode::Passthru => {
                parents_mac(&mut *netns.rtnl()?, inside, wanted).map(Some)
            }
            LinkKind::Macvlan { .. } => Ok(Some(mac)),
        }
    }
}

/// The address that the parent has given to its only interface, or the wanted one, which the parent takes over until that interface goes.
fn parents_mac(rtnl: &mut Rtnl, name: &str, wanted: Option<Mac>) -> Result<Mac> {
    let link = rtnl.link(name)?.ok_or(Error::Malformed("a new interface is not there"))?;
    if let Some(mac) = wanted {
        if let Err(error) = rtnl.set_mac(link.index, mac) {
            // The error that led here is the one to tell.
            let _ = rtnl.delete_links(&[link.index]);
            return Err(error);
        }
        return Ok(mac);
    }
    link.mac.ok_or(Error::Malformed("a new interface has no Ethernet address"))
}

fn no_kind(kind: &str) -> String {
    format!(
        "this kernel has no {kind} interfaces (modprobe {kind}), so no network can be of that driver; use another one, or a bridge"
    )
}

/// Why the kernel made no interface on the parent.
fn refused(spec: &NetworkSpec, error: Error) -> Error {
    let (name, parent, kind) = (&spec.name, &spec.parent, spec.driver.name());
    match error.errno() {
        Some(Errno::OPNOTSUPP) => Error::Invalid(no_kind(kind)),
        Some(Errno::BUSY) => Error::Invalid(format!(
            "network {name}: its parent interface {parent} is in use by something else (a bridge, a bond, or another kind than {kind})"
        )),
        Some(Errno::INVAL) if spec.driver == Driver::Macvlan && spec.macvlan_mode == MacvlanMode::Passthru => {
            Error::Invalid(format!(
                "network {name}: another container has its parent interface {parent} (macvlan mode passthru is for one alone)"
            ))
        }
        _ => error,
    }
}
