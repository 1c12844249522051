//! What stands in a container's /etc/hosts, /etc/hostname and /etc/resolv.conf, by docker's rules. Text in, text out.

mod hosts;
mod resolv;

pub use hosts::{ExtraHost, HostsFile, hostname, parse_extra_host};
pub use resolv::{LOCAL_STUB, Overrides, ResolvConf, SYSTEMD_UPLINKS, host_source};
