//! Attaching a container to a network and detaching it.

use super::{HostNet, Live, lock, with_live};
use crate::ipam::{Block, Leases};
use crate::rtnl::{Configuration, VethPair};
use crate::spec::{Addresses, Plan};
use crate::{Endpoint, EndpointRequest, Error, Mac, Netns, NetworkSpec, Result};
use naru_base::Id;
use naru_base::id::hex;
use rustix::fd::AsFd;
use rustix::rand::{GetRandomFlags, getrandom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The interface of a container's only network.
const FIRST_INTERFACE: &str = "eth0";

/// Leased addresses, given back unless the endpoint is finished.
struct Lease<'a> {
    host: &'a HostNet,
    network: &'a Id,
    ip: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    armed: bool,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.host.release(self.network, self.ip, self.ip6);
        }
    }
}

impl HostNet {
    /// Attaches the namespace `netns` to a network that is set up: leases addresses, makes an interface in the namespace under its
    /// final name, and gives that its addresses and routes. On a bridge the interface is one end of a veth pair whose other end
    /// is a port of the bridge.
    ///
    /// Takes about 0.4 ms. On an error nothing is left but what the caller gave.
    ///
    /// # Errors
    /// Not found for a network that is not set up, forbidden for a taken address, invalid parameter for one outside the subnet.
    pub fn attach(&self, spec: &NetworkSpec, netns: &Netns, wish: &EndpointRequest) -> naru_base::Result<Endpoint> {
        Ok(self.attach_endpoint(spec, netns, wish)?)
    }

    fn attach_endpoint(&self, spec: &NetworkSpec, netns: &Netns, wish: &EndpointRequest) -> Result<Endpoint> {
        let wanted_mac = wish.mac.as_deref().map(parse_mac).transpose()?;
        let (mut lease, facts) = self.lease(&spec.id, wish)?;
        let seed = lease.ip.map(IpAddr::V4).or(lease.ip6.map(IpAddr::V6)).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mac = wanted_mac.unwrap_or_else(|| Mac::of_endpoint(spec.id.as_str(), seed));
        let inside = wish.interface.as_deref().unwrap_or(FIRST_INTERFACE);
        let (own_mac, outside, port) = if spec.driver.is_on_link() {
            (self.make_on_link(spec, netns, inside, mac, wanted_mac)?, String::new(), None)
        } else {
            let (name, index) = self.make_veth(&facts, netns, inside, mac)?;
            (Some(mac), name, Some(index))
        };
        let endpoint = Endpoint {
            endpoint_id: Id::random().map_err(|_| Error::Malformed("no random bytes"))?,
            network_id: spec.id.clone(),
            ip: lease.ip,
            prefix: facts.addresses.v4.map_or(0, |v4| v4.subnet.prefix()),
            gateway: facts.gateway(facts.addresses.v4, Ipv4Addr::UNSPECIFIED),
            ip6: lease.ip6,
            prefix6: facts.addresses.v6.map_or(0, |v6| v6.subnet.prefix()),
            gateway6: facts.gateway(facts.addresses.v6, Ipv6Addr::UNSPECIFIED),
            mac: own_mac.map(|mac| mac.to_string()).unwrap_or_default(),
            host_ifname: outside,
            ifname: inside.to_owned(),
        };
        let configured = configure(netns, &endpoint, &facts, wish).and_then(|own| match port {
            Some(port) => {
                self.lock_in(netns, &endpoint, &facts, mac, own, wish.unlocked)?;
                self.settle(port, &facts, netns, own)
            }
            None => Ok(()),
        });
        if let Err(error) = configured {
            self.delete_interface(netns, &endpoint);
            self.forget(&endpoint);
            return Err(error);
        }
        lease.armed = false;
        Ok(endpoint)
    }

    /// Keeps an endpoint from being another on its bridge, and others from being the gateway to it, or it to the host. One that is
    /// `unlocked` may be whom it likes, but not a locked one to the host.
    fn lock_in(
        &self,
        netns: &Netns,
        endpoint: &Endpoint,
        facts: &Facts,
        mac: Mac,
        own: u32,
        unlocked: bool,
    ) -> Result<()> {
        if !unlocked {
            let mut rtnl = lock(&self.rtnl);
            rtnl.lock_port(&endpoint.host_ifname, true)?;
            rtnl.pin_neighbours(facts.bridge, &endpoint.addresses(), mac)?;
        }
        match facts.mac {
            Some(bridge) => netns.rtnl()?.pin_neighbours(own, &endpoint.gateways(), bridge),
            None => Ok(()),
        }
    }

    /// Lets a container that may change its addresses (CAP_NET_ADMIN) use others on an endpoint that was made without knowing of it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn unlock(&self, endpoint: &Endpoint) -> naru_base::Result<()> {
        lock(&self.rtnl).lock_port(&endpoint.host_ifname, false)?;
        self.forget(endpoint);
        Ok(())
    }

    /// Lets the host learn anew who has an endpoint's addresses.
    fn forget(&self, endpoint: &Endpoint) {
        let bridge = lock(&self.live).get(&endpoint.network_id).map_or(0, |live| live.index);
        if bridge != 0 {
            // A note that stays is replaced by the next holder's, or found by the next reconcile.
            let _ = lock(&self.rtnl).forget_neighbours(bridge, &endpoint.addresses());
        }
    }

    fn lease<'a>(&'a self, network: &'a Id, wish: &EndpointRequest) -> Result<(Lease<'a>, Facts)> {
        let mut lease = Lease { host: self, network, ip: None, ip6: None, armed: false };
        let facts = with_live(&mut lock(&self.live), network, |live| {
            lease.ip = take(live.leases.as_mut(), wish.ip)?;
            match take(live.leases6.as_mut(), wish.ip6) {
                Ok(ip6) => lease.ip6 = ip6,
                Err(error) => {
                    if let (Some(leases), Some(ip)) = (&mut live.leases, lease.ip) {
                        leases.release(ip);
                    }
                    return Err(error);
                }
            }
            Ok(Facts::of(live))
        })?;
        lease.armed = true;
        Ok((lease, facts))
    }

    /// Gives the endpoint's addresses back. Its interface goes when the namespace does; deleting it here would take 20 ms and more.
    pub fn detach(&self, endpoint: &Endpoint) {
        self.forget(endpoint);
        self.release(&endpoint.network_id, endpoint.ip, endpoint.ip6);
    }

    /// Detaches a container that goes on running: its interface is deleted now, which takes the kernel 20 ms and more.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn disconnect(&self, netns: &Netns, endpoint: &Endpoint) -> naru_base::Result<()> {
        let link = netns.rtnl()?.link(&endpoint.ifname)?;
        if let Some(link) = link {
            netns.rtnl()?.delete_links(&[link.index])?;
        }
        self.detach(endpoint);
        Ok(())
    }

    /// Makes `endpoint` the way out of its namespace, of both families; `None` leaves the namespace without a default route.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn set_gateway(&self, netns: &Netns, endpoint: Option<&Endpoint>) -> naru_base::Result<()> {
        let mut rtnl = netns.rtnl()?;
        let Some(endpoint) = endpoint else { return Ok(rtnl.set_default_routes(0, &[])?) };
        let link = rtnl.link(&endpoint.ifname)?.ok_or(Error::Malformed("an endpoint's interface is gone"))?;
        Ok(rtnl.set_default_routes(link.index, &endpoint.gateways())?)
    }

    pub(super) fn release(&self, network: &Id, ip: Option<Ipv4Addr>, ip6: Option<Ipv6Addr>) {
        // A network that is gone has no leases.
        let _ = with_live(&mut lock(&self.live), network, |live| {
            if let (Some(leases), Some(ip)) = (&mut live.leases, ip) {
                leases.release(ip);
            }
            if let (Some(leases), Some(ip6)) = (&mut live.leases6, ip6) {
                leases.release(ip6);
            }
            Ok(())
        });
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
        netns.rtnl()?.settle(own)
    }

    /// Takes back an interface whose endpoint could not be finished.
    fn delete_interface(&self, netns: &Netns, endpoint: &Endpoint) {
        let Ok(mut rtnl) = netns.rtnl() else { return };
        if let Ok(Some(link)) = rtnl.link(&endpoint.ifname) {
            // The error that led here is the one to tell; a reconcile finds what is left.
            let _ = rtnl.delete_links(&[link.index]);
        }
    }
}

/// An address of one family: the wanted one, the next free one, or none on a network without the family.
fn take<B: Block>(leases: Option<&mut Leases<B>>, wanted: Option<B::Address>) -> Result<Option<B::Address>> {
    match (leases, wanted) {
        (Some(leases), Some(wanted)) => leases.reserve(wanted).map(|()| Some(wanted)),
        (Some(leases), None) => leases.lease().map(Some),
        (None, Some(wanted)) => Err(Error::Invalid(format!("no configured subnet contains IP address {wanted}"))),
        (None, None) => Ok(None),
    }
}

/// What attaching needs of a network, so that its lock is not held meanwhile.
struct Facts {
    bridge: u32,
    mac: Option<Mac>,
    addresses: Addresses,
    mtu: u32,
    icc: bool,
    internal: bool,
    direct: bool,
}

impl Facts {
    fn of(live: &Live) -> Self {
        let spec = &live.spec;
        let (mtu, icc, internal) = (spec.mtu, spec.icc, spec.internal);
        let direct = spec.routes_directly();
        Self { bridge: live.index, mac: live.mac, addresses: live.addresses, mtu, icc, internal, direct }
    }

    /// The default gateway of one family; `unspecified` where the interface itself is the way.
    fn gateway<B: Block>(&self, plan: Option<Plan<B>>, unspecified: B::Address) -> Option<B::Address> {
        let plan = plan.filter(|_| !self.internal)?;
        if self.direct { Some(unspecified) } else { plan.gateway }
    }
}

/// The container's side; the number of its interface.
fn configure(netns: &Netns, endpoint: &Endpoint, facts: &Facts, wish: &EndpointRequest) -> Result<u32> {
    let ipv6 = endpoint.ip6.is_some() || wish.link_local.iter().any(IpAddr::is_ipv6);
    if ipv6 {
        netns.enable_ipv6(&endpoint.ifname)?;
    }
    let gateways = if wish.no_default_route { Vec::new() } else { endpoint.gateways() };
    let mut rtnl = netns.rtnl()?;
    let link = rtnl.link(&endpoint.ifname)?.ok_or(Error::Malformed("a new interface is not there"))?;
    let wanted = Configuration {
        v4: endpoint.ip.zip(facts.addresses.v4.map(|v4| v4.subnet)),
        v6: endpoint.ip6.zip(facts.addresses.v6.map(|v6| v6.subnet)),
        link_local: &wish.link_local,
        gateways: &gateways,
    };
    rtnl.configure(link.index, &wanted)?;
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
