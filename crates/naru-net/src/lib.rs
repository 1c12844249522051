//! Networks of containers: bridge, veth, addresses, routes and firewall rules, by netlink alone.
//!
//! No program is ever run (no ip, nft or iptables), no socket is non-blocking, and no thread is kept: a short-lived one makes
//! each network namespace, because a namespace belongs to a thread.
//!
//! From top to bottom:
//! - [`HostNet`] is the host's side: one per engine. It makes a network ([`HostNet::ensure`]), attaches a container to it
//!   ([`HostNet::attach`]), publishes ports ([`HostNet::publish`]), and at start-up removes what has no owner
//!   ([`HostNet::reconcile`]). Every step that makes something has a guard which undoes it until the whole has succeeded.
//! - [`Netns`] is a container's side: its namespace and a netlink socket inside it, so that nothing enters it again.
//! - [`WarmPool`] keeps endpoints ready for the next containers.
//! - [`ipam`] chooses subnets and addresses; [`etc`] writes hosts, hostname and resolv.conf.
//! - Below are [`rtnl`] (links, addresses, routes), [`nft`] (transactions) and [`netlink`] (messages, sockets).
//!
//! Knows no container, image, record or file layout: ids and names are given, and files are returned as text.

mod error;
pub mod etc;
mod hold;
mod host;
mod instance;
pub mod ipam;
mod mac;
pub mod netlink;
mod netns;
pub mod nft;
mod on_link;
mod pool;
pub mod rtnl;
mod spec;
mod subnet;
mod subnet6;
mod sysctl;

pub use error::{Error, Result};
pub use hold::{HeldPorts, bind_port, has_ipv6, port_user, serve_port};
pub use host::{ExposedPort, Exposure, HostNet, LiveEndpoint, Outlook, Removed};
pub use instance::Instance;
pub use mac::Mac;
pub use netns::{Netns, NetnsSetup};
pub use on_link::{IpvlanFlag, IpvlanMode, MacvlanMode};
pub use pool::{Pooled, WarmPool};
pub use spec::{Driver, Endpoint, EndpointRequest, Link, NetworkSpec, Protocol, Published};
pub use subnet::Subnet;
pub use subnet6::Subnet6;
