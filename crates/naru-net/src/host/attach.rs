//! Attaching a container to a network and detaching it.

use super::{HostNet, Live, lock, with_live};
use crate::rtnl::VethPair;
use crate::{Driver, Endpoint, EndpointRequest, Error, Mac, Netns, NetworkSpec, Result};
use naru_base::Id;
use naru_base::id::hex;
use rustix::fd::AsFd;
use rustix::rand::{GetRandomFlags, getrandom};
use std::net::Ipv4Addr;

/// The interface of a container's only network.
const FIRST_INTERFACE: &str = "eth0";

/// A leased address, given back unless the endpoint is finished.
struct Lease<'a> {
    host: &'a HostNet,
    network: &'a Id,
    address: Ipv4Addr,
    armed: bool,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.host.release(self.network, self.address);
        }
    }
}

impl HostNet {
    /// Attaches the namespace `netns` to a bridge network that is set up: leases an address, makes a veth pair whose one end
    /// is a port of the bridge and whose other is in the namespace under its final name, and gives that its address and route.
    ///
    /// Takes about 0.4 ms. On an error nothing is left but what the caller gave.
    ///
    /// # Errors
    /// Not found for a network that is not set up, conflict for a taken address, invalid parameter for one outside the subnet.
    pub fn attach(&self, spec: &NetworkSpec, netns: &Netns, wish: &EndpointRequest) -> naru_base::Result<Endpoint> {
        if spec.driver != Driver::Bridge {
            return Err(Error::Invalid(format!("network {} has no endpoints", spec.name)).into());
        }
        Ok(self.attach_bridge(spec, netns, wish)?)
    }

    fn attach_bridge(&self, spec: &NetworkSpec, netns: &Netns, wish: &EndpointRequest) -> Result<Endpoint> {
        let wanted_mac = wish.mac.as_deref().map(parse_mac).transpose()?;
        let (address, facts) = with_live(&mut lock(&self.live), &spec.id, |live| {
            let address = match wish.ip {
                Some(ip) => live.leases.reserve(ip).map(|()| ip)?,
                None => live.leases.lease()?,
            };
            Ok((address, Facts::of(live)))
        })?;
        let mut lease = Lease { host: self, network: &spec.id, address, armed: true };
        let mac = wanted_mac.unwrap_or_else(|| Mac::of_endpoint(spec.id.as_str(), address));
        let inside = wish.interface.as_deref().unwrap_or(FIRST_INTERFACE);
        let (outside, index) = self.make_veth(&facts, netns, inside, mac)?;
        let gateway = (!facts.internal).then_some(facts.gateway);
        let route = gateway.filter(|_| !wish.no_default_route);
        let configured =
            configure(netns, inside, address, &facts, route).and_then(|own| self.settle(index, &facts, netns, own));
        if let Err(error) = configured {
            self.delete_veth(&outside);
            return Err(error);
        }
        lease.armed = false;
        Ok(Endpoint {
            endpoint_id: Id::random().map_err(|_| Error::Malformed("no random bytes"))?,
            network_id: spec.id.clone(),
            ip: address,
            prefix: facts.subnet.prefix(),
            gateway,
            mac: mac.to_string(),
            host_ifname: outside,
            ifname: inside.to_owned(),
        })
    }

    /// Gives the endpoint's address back. The veth pair goes when the namespace does; deleting it here would take 20 ms and more.
    pub fn detach(&self, endpoint: &Endpoint) {
        self.release(&endpoint.network_id, endpoint.ip);
    }

    /// Detaches a container that goes on running: its interface is deleted now, which takes the kernel 20 ms and more.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn disconnect(&self, endpoint: &Endpoint) -> naru_base::Result<()> {
        let mut rtnl = lock(&self.rtnl);
        if let Some(link) = rtnl.link(&endpoint.host_ifname)? {
            rtnl.delete_links(&[link.index])?;
        }
        drop(rtnl);
        self.detach(endpoint);
        Ok(())
    }

    pub(super) fn release(&self, network: &Id, address: Ipv4Addr) {
        // A network that is gone has no leases.
        let _ = with_live(&mut lock(&self.live), network, |live| Ok(live.leases.release(address)));
    }

    /// Makes the pair under a name that nobody has; the host's end's name and number.
    fn make_veth(&self, facts: &Facts, netns: &Netns, inside: &str, mac: Mac) -> Result<(String, u32)> {
        loop {
            let outside = random_name()?;
            let pair = VethPair {
                name: &outside,
                master: facts.bridge,
                peer_netns: netns.as_fd(),
                peer_name: inside,
                peer_mac: mac,
                mtu: facts.mtu,
                isolated: !facts.icc,
                no_ipv6_address: self.ipv6,
            };
            let mut rtnl = lock(&self.rtnl);
            match rtnl.create_veth(&pair) {
                Ok(index) => return Ok((outside, index)),
                // One name in 268 million is taken by chance; but the name inside may be taken for good.
                Err(e) if e.errno() == Some(rustix::io::Errno::EXIST) && rtnl.link(&outside)?.is_some() => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens the way from the first packet on: the port, then the bridge (which has a carrier when a port does), then the
    /// container's own interface, numbered `own`.
    fn settle(&self, port: u32, facts: &Facts, netns: &Netns, own: u32) -> Result<()> {
        {
            let mut rtnl = lock(&self.rtnl);
            rtnl.settle(port)?;
            rtnl.settle(facts.bridge)?;
        }
        netns.rtnl().settle(own)
    }

    fn delete_veth(&self, name: &str) {
        let mut rtnl = lock(&self.rtnl);
        if let Ok(Some(link)) = rtnl.link(name) {
            // The error that led here is the one to tell; a reconcile finds what is left.
            let _ = rtnl.delete_links(&[link.index]);
        }
    }
}

/// What attaching needs of a network, so that its lock is not held meanwhile.
struct Facts {
    bridge: u32,
    subnet: crate::Subnet,
    gateway: Ipv4Addr,
    mtu: u32,
    icc: bool,
    internal: bool,
}

impl Facts {
    fn of(live: &Live) -> Self {
        let spec = &live.spec;
        let (mtu, icc, internal) = (spec.mtu, spec.icc, spec.internal);
        Self { bridge: live.index, subnet: live.subnet, gateway: live.gateway, mtu, icc, internal }
    }
}

/// The container's side; the number of its interface.
fn configure(netns: &Netns, name: &str, address: Ipv4Addr, facts: &Facts, gateway: Option<Ipv4Addr>) -> Result<u32> {
    let mut rtnl = netns.rtnl();
    let link = rtnl.link(name)?.ok_or(Error::Malformed("a new interface is not there"))?;
    rtnl.configure(link.index, address, facts.subnet, gateway)?;
    Ok(link.index)
}

fn parse_mac(text: &str) -> Result<Mac> {
    Mac::parse(text).ok_or_else(|| Error::Invalid(format!("invalid MAC address {text:?}")))
}

/// `veth` and 7 hexadecimal digits.
fn random_name() -> Result<String> {
    let mut bytes = [0; 4];
    // Up to 256 bytes come whole and without interruption once the pool is ready (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| Error::Socket { operation: "name a veth", errno })?;
    Ok(format!("veth{}", &hex(&bytes)[..7]))
}
