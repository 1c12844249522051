//! A container's network namespace and a netlink socket inside it.

use crate::nft::Nft;
use crate::rtnl::{LinkStats, Rtnl};
use crate::{Error, Result, sysctl};
use naru_sys::namespace::{NewNamespace, unshare};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Where a thread's own network namespace is (namespaces(7)).
const OWN: &str = "/proc/thread-self/ns/net";
/// The number of `lo`, the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// What a new namespace's settings are, beyond the kernel's defaults.
#[derive(Debug, Clone, Default)]
pub struct NetnsSetup {
    /// Interfaces that come later have no IPv6; `lo` keeps `::1`.
    pub no_ipv6: bool,
    /// docker's defaults for a private network: every port may be bound, and every group may send pings.
    pub unprivileged_ports_and_ping: bool,
    /// The groups that may send pings, first and last as the host counts them; `None` for all. A container in a user namespace has no others
    /// than its own, and would see a range of nobody's.
    pub ping_groups: Option<(u32, u32)>,
}

impl NetnsSetup {
    /// A container's, on a network without IPv6.
    pub fn container() -> Self {
        Self { no_ipv6: true, unprivileged_ports_and_ping: true, ping_groups: None }
    }
}

/// A network namespace. Dropping it, together with every copy of its descriptor and every process in it, removes the namespace
/// and its interfaces in the kernel's own time (about 20 ms later), which costs the caller nothing.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    /// Opened when it is needed: most namespaces that are taken up are only kept.
    rtnl: OnceLock<Mutex<Rtnl>>,
}

impl Netns {
    /// Makes a namespace with `lo` up.
    ///
    /// A short-lived thread makes it: unshare(2) moves the calling thread.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, `ENOSPC` at the limit of namespaces.
    pub fn create(setup: &NetnsSetup) -> naru_base::Result<Self> {
        let setup = setup.clone();
        Ok(in_thread(move || {
            unshare(NewNamespace::Net).map_err(|errno| Error::Namespace { operation: "create", errno })?;
            let fd = own()?;
            let mut rtnl = Rtnl::open()?;
            apply(&setup)?;
            rtnl.set_up(LOOPBACK, true)?;
            Ok(Self::with(fd, rtnl))
        })?)
    }

    fn with(fd: OwnedFd, rtnl: Rtnl) -> Self {
        Self { fd, rtnl: OnceLock::from(Mutex::new(rtnl)) }
    }

    /// Takes up a new namespace that was made elsewhere: the settings of `setup`, and `lo` up.
    ///
    /// # Errors
    /// `EINVAL` when `fd` is no network namespace, and as [`Netns::create`].
    pub fn set_up(fd: OwnedFd, setup: &NetnsSetup) -> naru_base::Result<Self> {
        let setup = setup.clone();
        Ok(in_thread(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::Namespace { operation: "enter", errno })?;
            let mut rtnl = Rtnl::open()?;
            apply(&setup)?;
            rtnl.set_up(LOOPBACK, true)?;
            Ok(Self::with(fd, rtnl))
        })?)
    }

    /// Takes up a namespace that exists (one that a monitor kept). It is not entered before it is needed.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, rtnl: OnceLock::new() }
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// As open(2) and socket(2).
    pub fn current() -> naru_base::Result<Self> {
        Ok(Self::with(own()?, Rtnl::open()?))
    }

    /// A further descriptor of the namespace; it keeps the namespace alive.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone_fd(&self) -> naru_base::Result<OwnedFd> {
        let clone = self.fd.try_clone();
        clone.map_err(|e| naru_base::Error::system(format!("network namespace: cannot duplicate descriptor: {e}")))
    }

    /// Counters of its interfaces but `lo`, by name.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn stats(&self) -> naru_base::Result<Vec<(String, LinkStats)>> {
        let links = self.rtnl()?.links()?;
        Ok(links.into_iter().filter(|l| l.index != LOOPBACK).map(|l| (l.name, l.stats)).collect())
    }

    /// Turns IPv6 on for one of its interfaces, without router advertisements: its addresses and routes are ours.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub(crate) fn enable_ipv6(&self, interface: &str) -> Result<()> {
        let keys = format!("ipv6/conf/{interface}");
        let fd = self.fd.try_clone().map_err(|_| Error::Malformed("no descriptor for a network namespace"))?;
        in_thread(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::Namespace { operation: "enter", errno })?;
            sysctl::write(&format!("{keys}/accept_ra"), "0")?;
            sysctl::write(&format!("{keys}/disable_ipv6"), "0")
        })
    }

    /// Leads what goes to `server` at port 53 inside to its port `port`.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn redirect_names(&self, server: Ipv4Addr, port: u16) -> naru_base::Result<()> {
        let fd = self.try_clone_fd()?;
        Ok(in_thread(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::Namespace { operation: "enter", errno })?;
            Nft::open()?.redirect_names(server, port)
        })?)
    }

    /// The routing socket inside the namespace.
    ///
    /// # Errors
    /// `EINVAL` when it is no network namespace, and socket(2)'s.
    pub fn rtnl(&self) -> Result<MutexGuard<'_, Rtnl>> {
        let opened = match self.rtnl.get() {
            Some(opened) => opened,
            None => {
                let socket = self.open_inside()?;
                self.rtnl.get_or_init(|| Mutex::new(socket))
            }
        };
        Ok(opened.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_inside(&self) -> Result<Rtnl> {
        let fd = self.fd.try_clone().map_err(|_| Error::Malformed("no descriptor for a network namespace"))?;
        in_thread(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::Namespace { operation: "enter", errno })?;
            Rtnl::open()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn own() -> Result<OwnedFd> {
    rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Namespace { operation: "open", errno })
}

/// Writes the settings of the calling thread's namespace. A read-only or missing /proc/sys is an error: a container must not
/// start with other settings than it was promised.
fn apply(setup: &NetnsSetup) -> Result<()> {
    if setup.no_ipv6 && sysctl::has_ipv6() {
        sysctl::write("ipv6/conf/default/disable_ipv6", "1")?;
    }
    if setup.unprivileged_ports_and_ping {
        sysctl::write("ipv4/ip_unprivileged_port_start", "0")?;
        let (first, last) = setup.ping_groups.unwrap_or((0, 2_147_483_647));
        sysctl::write("ipv4/ping_group_range", &format!("{first} {last}"))?;
    }
    Ok(())
}

/// Runs `work` on a thread of its own, which may leave its network namespace.
fn in_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let errno = |e: std::io::Error| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::AGAIN);
    std::thread::Builder::new()
        .name("netns".into())
        .stack_size(128 * 1024)
        .spawn(work)
        .map_err(|e| Error::Namespace { operation: "start a thread for", errno: errno(e) })?
        .join()
        .unwrap_or(Err(Error::Malformed("the thread that made a network namespace panicked")))
}
