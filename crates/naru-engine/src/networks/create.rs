//! Making a network: its name, driver, options and addresses decided, its record written, then the bridge made.

use super::pools::{self, Wanted};
use super::{Network, Networks, forbidden, options};
use crate::types::NetworkRequest;
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::Durability;
use naru_net::{Driver, NetworkSpec};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Names that no user's network can have.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

impl Engine {
    /// Makes a network; its id.
    ///
    /// # Errors
    /// With docker's texts: a name that is taken or reserved, an unknown driver, addresses that make no sense or overlap.
    pub async fn create_network(self: &Arc<Self>, request: NetworkRequest) -> Result<Id> {
        let engine = Arc::clone(self);
        let network = crate::image::blocking(move || engine.networks.create(&request)).await?;
        self.network_event(&network, "create", None);
        Ok(network.spec.id.clone())
    }
}

impl Networks {
    fn create(&self, request: &NetworkRequest) -> Result<Arc<Network>> {
        check(request)?;
        let _making = crate::lock(&self.making);
        let request = &*self.resolve(request)?;
        if self.all().iter().any(|n| n.spec.name == request.name) {
            return Err(Error::conflict(format!("network with name {} already exists", request.name)));
        }
        let (ipv4, ipv6) = (request.ipv4.unwrap_or(true), request.ipv6.unwrap_or(false));
        if !ipv4 && !ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        let wanted = pools::read(&request.pools, ipv4, ipv6)?;
        let network = if request.config_only {
            self.template(request, wanted)?
        } else {
            Network {
                created: clock::now(),
                own_subnets: wanted.v4.is_some() || wanted.v6.is_some(),
                spec: self.specify(request, driver(&request.driver)?, (ipv4, ipv6), wanted)?,
                attachable: request.attachable,
                config_only: false,
                config_from: request.config_from.clone(),
                predefined: false,
            }
        };
        let id = network.spec.id.clone();
        self.records.save(id.as_str(), &network, Durability::Synced).system("cannot write the network's record")?;
        if let Err(error) = self.host.ensure(&network.spec) {
            // What is left of it is on no record, so the next start removes it.
            let _ = self.host.remove(&network.spec);
            let _ = self.records.remove(id.as_str());
            return Err(error);
        }
        let network = Arc::new(network);
        crate::lock(&self.known).networks.insert(id, Arc::clone(&network));
        Ok(network)
    }

    /// The whole of what is asked for, or chosen where nothing is.
    fn specify(
        &self,
        request: &NetworkRequest,
        driver: Driver,
        (ipv4, ipv6): (bool, bool),
        wanted: Wanted,
    ) -> Result<NetworkSpec> {
        let id = Id::random()?;
        let mut spec = match driver {
            on_link if on_link.is_on_link() => NetworkSpec::on_link(id, &request.name, on_link),
            _ => {
                let bridge = self.host.instance().bridge_of(id.as_str());
                NetworkSpec::unaddressed_bridge(id, &request.name, bridge)
            }
        };
        (spec.ipv4, spec.ipv6, spec.internal) = (ipv4, ipv6, request.internal);
        options::apply(&mut spec, &request.options)?;
        if driver == Driver::Bridge && self.all().iter().any(|n| n.spec.bridge_name == spec.bridge_name) {
            let other = &spec.bridge_name;
            return Err(forbidden(format!("the bridge {other} belongs to another network of this engine")));
        }
        if driver.is_on_link() {
            self.choose_parent(&mut spec)?;
        }
        spec.options.clone_from(&request.options);
        spec.labels.clone_from(&request.labels);
        self.address(&mut spec, wanted)?;
        Ok(spec)
    }

    fn address(&self, spec: &mut NetworkSpec, wanted: Wanted) -> Result<()> {
        let overlap = || forbidden("invalid pool request: Pool overlaps with other one on this address space");
        let (taken, taken6) = self.subnets();
        // The router of a link is one of its machines, and only the user knows which.
        let on_link = spec.driver.is_on_link();
        if spec.ipv4 {
            let (subnet, range, gateway) = match wanted.v4 {
                Some(own) if taken.iter().any(|s| s.overlaps(own.subnet)) => return Err(overlap()),
                Some(own) => (own.subnet, own.range, own.gateway),
                None => (self.host.choose_subnet(&self.name_servers, &taken)?, None, None),
            };
            (spec.subnet, spec.ip_range) = (Some(subnet), range);
            spec.gateway = gateway.or((!on_link).then(|| Ipv4Addr::from_bits(subnet.hosts().0)));
        }
        if spec.ipv6 {
            let (subnet, range, gateway) = match wanted.v6 {
                Some(own) if taken6.iter().any(|s| s.overlaps(own.subnet)) => return Err(overlap()),
                Some(own) => (own.subnet, own.range, own.gateway),
                None => (self.host.choose_subnet6(&self.engine_id, &taken6)?, None, None),
            };
            (spec.subnet6, spec.ip_range6) = (Some(subnet), range);
            spec.gateway6 = gateway.or((!on_link).then(|| Ipv6Addr::from_bits(subnet.hosts().0)));
        }
        spec.auxiliary = wanted.auxiliary;
        Ok(())
    }
}

/// Refuses what this engine doesn't do, and names that can't be.
fn check(request: &NetworkRequest) -> Result<()> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if PREDEFINED.contains(&name) {
        return Err(forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    if name.contains(|c: char| c.is_control() || c == '/') {
        return Err(Error::invalid(format!("invalid name: {name:?} has characters that a network's name can't have")));
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(forbidden(format!("cannot create a {} scoped network when swarm is not active", request.scope)));
    }
    if request.ingress {
        return Err(forbidden("Ingress network can only be global scope network"));
    }
    match request.ipam_driver.as_str() {
        "" | "default" => Ok(()),
        other => Err(Error::not_found(format!("IPAM plugin \"{other}\" not found"))),
    }
}

fn driver(name: &str) -> Result<Driver> {
    match name {
        "" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "host" | "null" => Err(forbidden(format!("only one instance of \"{name}\" network is allowed"))),
        "ipvlan" => Ok(Driver::Ipvlan),
        "overlay" => Err(forbidden("cannot create an overlay network when swarm is not active")),
        other => Err(Error::not_found(format!("plugin \"{other}\" not found"))),
    }
}
