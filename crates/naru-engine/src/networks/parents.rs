//! The interface of the host that a macvlan or ipvlan network is on.

use super::{Network, Networks, forbidden};
use naru_base::{Error, Result};
use naru_net::{Driver, MacvlanMode, NetworkSpec};
use std::sync::Arc;

impl Networks {
    /// Decides what a new network is on: the interface that was asked for, or one of its own when none was, or when nothing outside may be
    /// reached.
    ///
    /// # Errors
    /// docker's texts, for an interface that can't be one or that another network has.
    pub(super) fn choose_parent(&self, spec: &mut NetworkSpec) -> Result<()> {
        let driver = spec.driver.name();
        if spec.parent == "lo" {
            return Err(Error::invalid(format!("loopback interface is not a valid {driver} parent link")));
        }
        if spec.parent.is_empty() || spec.internal {
            spec.parent = self.host.instance().dummy_of(spec.id.as_str());
        }
        let others: Vec<Arc<Network>> =
            self.all().into_iter().filter(|n| n.spec.driver.is_on_link() && n.spec.parent == spec.parent).collect();
        others.iter().try_for_each(|other| may_share(spec, other))?;
        let made = others.iter().any(|n| n.spec.own_parent);
        spec.own_parent = made || self.host.lacks_parent(spec)?;
        Ok(())
    }
}

/// Whether two networks can be on one interface.
fn may_share(spec: &NetworkSpec, other: &Network) -> Result<()> {
    let (name, parent) = (&other.spec.name, &spec.parent);
    if spec.driver == Driver::Ipvlan || other.spec.driver == Driver::Ipvlan {
        // Its mode is the parent's, and the kernel has only one kind on a parent.
        return Err(forbidden(format!("network {name} is already using parent interface {parent}")));
    }
    if spec.macvlan_mode == MacvlanMode::Passthru {
        return Err(forbidden(format!(
            "cannot use mode passthru, macvlan network {name} is already using parent interface {parent}"
        )));
    }
    if other.spec.macvlan_mode == MacvlanMode::Passthru {
        return Err(forbidden(format!(
            "macvlan network {name} is already using parent interface {parent} in mode passthru"
        )));
    }
    Ok(())
}
