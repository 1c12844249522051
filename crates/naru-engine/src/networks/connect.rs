//! Joining and leaving networks, also while the container runs.

use super::attach::{check_settings, refuse_template, way_out};
use super::{Network, forbidden};
use crate::Engine;
use crate::container::Container;
use crate::types::{EndpointSettings, NetworkMode};
use naru_base::{Class, Error, Result};
use naru_fs::Durability;
use naru_net::Driver;
use std::sync::Arc;

impl Engine {
    /// Puts a container on a further network; one that doesn't run will be when it starts.
    ///
    /// # Errors
    /// docker's texts: it is there already, it has no network of its own, an address can't be had.
    pub async fn connect_network(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let network = self.networks.find(network)?;
        refuse_template(&network)?;
        let container = self.containers.find(container)?;
        let _operation = container.operation.lock().await;
        let (mode, name, cut_off) =
            container.read(|r| (r.host.network.clone(), r.name.clone(), r.networks.contains_key("none")));
        check_mode(&mode, cut_off, &network)?;
        if container.read(|r| r.networks.contains_key(&network.spec.name)) {
            let network = &network.spec.name;
            return Err(forbidden(format!("endpoint with name {name} already exists in network {network}")));
        }
        check_settings(&network, &settings)
            .map_err(|why| Error::invalid(format!("invalid endpoint settings:\n{why}")))?;
        container.change(|r| r.networks.insert(network.spec.name.clone(), settings.clone()));
        if container.read(|r| r.state.has_process()) {
            let joined = self.join_running(&container, &network, settings).await;
            if let Err(error) = joined {
                container.change(|r| r.networks.remove(&network.spec.name));
                return Err(error);
            }
        }
        container.save(&self.records, Durability::Synced)
    }

    async fn join_running(
        self: &Arc<Self>,
        container: &Arc<Container>,
        network: &Arc<Network>,
        settings: EndpointSettings,
    ) -> Result<()> {
        let ended = || Error::conflict(format!("container {} is not running", container.id));
        let sandbox = container.sandbox().ok_or_else(ended)?;
        let (engine, record, on) = (Arc::clone(self), container.read(Clone::clone), Arc::clone(network));
        let endpoint =
            crate::image::blocking(move || engine.networks.attach(&sandbox, &record, &on, &settings, false)).await?;
        let name = network.spec.name.clone();
        let entered = container.change_sandbox(|s| s.attached.insert(name.clone(), endpoint.clone())).is_some();
        if !entered {
            // It ended meanwhile, and its namespace with the interface in it.
            self.networks.host.detach(&endpoint);
            self.networks.leave(&network.spec.id, &container.id);
            return Err(ended());
        }
        let record = container.change(|r| {
            r.state.attached.insert(name.clone(), endpoint.clone());
            r.clone()
        });
        self.networks.enter_name(&record, network, &endpoint)?;
        if let Some(sandbox) = container.sandbox() {
            self.networks.make_way_for_names(&record, &sandbox.netns, network)?;
        }
        self.network_changed(container).await?;
        self.network_event(network, "connect", Some(&container.id));
        Ok(())
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// docker's texts: it isn't there, it is on the host's.
    pub async fn disconnect_network(self: &Arc<Self>, network: &str, container: &str, force: bool) -> Result<()> {
        let network = self.networks.find(network)?;
        let container = match self.containers.find(container) {
            // A container that is gone has no endpoint: what is forced is done.
            Err(e) if force && e.class() == Class::NotFound => return Ok(()),
            found => found?,
        };
        let _operation = container.operation.lock().await;
        if network.spec.driver == Driver::Host {
            return Err(forbidden("container cannot be disconnected from host network or connected to host network"));
        }
        let name = network.spec.name.clone();
        let Some(settings) = container.change(|r| r.networks.remove(&name)) else {
            let id = &container.id;
            return Err(Error::system(format!("container {id} is not connected to network {name}")));
        };
        if let Err(error) = self.leave_running(&container, &network).await {
            container.change(|r| r.networks.insert(name, settings));
            return Err(error);
        }
        container.save(&self.records, Durability::Synced)
    }

    async fn leave_running(self: &Arc<Self>, container: &Arc<Container>, network: &Arc<Network>) -> Result<()> {
        let name = network.spec.name.clone();
        let Some(sandbox) = container.sandbox() else { return Ok(()) };
        let Some(endpoint) = sandbox.attached.get(&name).cloned() else { return Ok(()) };
        let (engine, netns, gone) = (Arc::clone(self), Arc::clone(&sandbox.netns), endpoint.clone());
        // Out of the sandbox first: an end that comes meanwhile must not give the address back a second time.
        let taken = container.change_sandbox(|s| s.attached.remove(&name)).flatten();
        if taken.is_none() {
            return Ok(());
        }
        self.networks.remove_name(network, &container.id);
        self.follow_links(None);
        let done = crate::image::blocking(move || engine.networks.host.disconnect(&netns, &gone)).await;
        if let Err(error) = done {
            container.change_sandbox(|s| s.attached.insert(name, endpoint));
            return Err(error);
        }
        container.change(|r| r.state.attached.remove(&name));
        self.networks.leave(&network.spec.id, &container.id);
        self.network_changed(container).await?;
        self.network_event(network, "disconnect", Some(&container.id));
        Ok(())
    }

    /// What follows from another set of networks: the way out, the container's files, and its name server.
    async fn network_changed(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let Some(sandbox) = container.sandbox() else { return Ok(()) };
        self.move_ports(container, &sandbox).await?;
        self.follow_links(None);
        let (engine, changed) = (Arc::clone(self), Arc::clone(container));
        crate::image::blocking(move || {
            let record = changed.read(Clone::clone);
            let way_out = way_out(&record, &sandbox.attached).map(|(_, endpoint)| endpoint);
            engine.networks.host.set_gateway(&sandbox.netns, way_out)?;
            engine.rewrite_files(&changed, &sandbox)
        })
        .await?;
        self.tell_resolver(container).await
    }
}

/// docker's refusals for containers without a network of their own, or that are to have none.
fn check_mode(mode: &NetworkMode, cut_off: bool, network: &Network) -> Result<()> {
    match (mode, network.spec.driver) {
        (NetworkMode::Host | NetworkMode::Container(_), _) => Err(Error::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        )),
        (_, Driver::Host) => {
            Err(forbidden("container cannot be disconnected from host network or connected to host network"))
        }
        (_, driver) if cut_off || driver == Driver::Null => Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )),
        _ => Ok(()),
    }
}
