//! Removing networks: out of the table first, so that nobody joins, then from the host, then the record.

use super::{Network, Networks, forbidden};
use crate::Engine;
use crate::types::Filters;
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use std::sync::Arc;

impl Engine {
    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// docker's texts: predefined, in use, not there.
    pub async fn remove_network(self: &Arc<Self>, given: &str) -> Result<()> {
        let network = self.networks.find(given)?;
        self.remove_found(network).await
    }

    async fn remove_found(self: &Arc<Self>, network: Arc<Network>) -> Result<()> {
        let name = &network.spec.name;
        if network.predefined {
            return Err(forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        if network.config_only && self.networks.is_template_of_any(&network) {
            return Err(forbidden(format!("error while removing network: configuration network {name:?} is in use")));
        }
        if let Err(users) = self.networks.withdraw(&network) {
            let users: Vec<String> = users.iter().filter_map(|id| self.as_user(&network, id)).collect();
            return Err(forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                users.join(", ")
            )));
        }
        let (engine, gone) = (Arc::clone(self), Arc::clone(&network));
        crate::image::blocking(move || engine.networks.remove(&gone)).await?;
        self.network_event(&network, "destroy", None);
        Ok(())
    }

    /// A container on a network, as docker's refusal names it.
    fn as_user(&self, network: &Network, id: &Id) -> Option<String> {
        let container = self.containers.by_id(id)?;
        container.read(|r| {
            let endpoint = r.state.attached.get(&network.spec.name).map(|e| e.endpoint_id.short().to_owned());
            Some(format!("name:{:?} id:{:?}", r.name, endpoint.unwrap_or_default()))
        })
    }

    /// Removes all networks of users that no running container is on; their names.
    ///
    /// # Errors
    /// For a filter that can't be read.
    pub async fn prune_networks(self: &Arc<Self>, filters: &Filters) -> Result<Vec<String>> {
        let filter = crate::prune::Filter::parse(filters)?;
        let mut removed = Vec::new();
        for network in self.networks.all() {
            if network.predefined || network.config_only || !filter.accepts(network.created, &network.spec.labels) {
                continue;
            }
            // One in use stays; so does one that somebody else has just removed.
            let name = network.spec.name.clone();
            if self.remove_found(network).await.is_ok() {
                removed.push(name);
            }
        }
        removed.sort();
        self.prune_event("network", 0);
        Ok(removed)
    }
}

impl Networks {
    /// Whether another network was made from this template. One that is just being made has its settings already, and needs it no more.
    fn is_template_of_any(&self, network: &Network) -> bool {
        let name = &network.spec.name;
        crate::lock(&self.known).networks.values().any(|n| n.config_from == *name)
    }

    /// Takes it out of the table, unless it has users: then those.
    fn withdraw(&self, network: &Network) -> std::result::Result<(), Vec<Id>> {
        let mut known = crate::lock(&self.known);
        match known.users.get(&network.spec.id) {
            Some(users) => Err(users.iter().cloned().collect()),
            None => {
                known.networks.remove(&network.spec.id);
                Ok(())
            }
        }
    }

    /// Its bridge, rules, names and record. When the host can't let go of it, it is a network again.
    fn remove(&self, network: &Arc<Network>) -> Result<()> {
        let id = &network.spec.id;
        if let Err(error) = self.host.remove(&network.spec) {
            crate::lock(&self.known).networks.insert(id.clone(), Arc::clone(network));
            return Err(Error::new(
                error.class(),
                format!("error while removing network {}: {}", network.spec.name, error.message()),
            ));
        }
        self.names.forget(id);
        self.records.remove(id.as_str()).system("cannot remove the network's record")
    }
}
