//! Which network and namespaces a container is in.

use crate::dto::host_config::HostConfig;
use naru_base::{Error, Result};
use naru_engine::types::{ContainerConfig, NamespaceMode, NetworkMode, UserMode};

/// Reads the network mode and writes its normal form back.
///
/// # Errors
/// With docker's texts, also for options that another's network doesn't have.
pub(crate) fn network(host: &mut HostConfig, config: &ContainerConfig) -> Result<NetworkMode> {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    let mode = match host.network_mode.as_str() {
        "bridge" => NetworkMode::Default,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => match other.split_once(':') {
            Some(("container", "")) => {
                return Err(Error::invalid("Invalid network mode: invalid container format container:<name|id>"));
            }
            Some(("container", name)) => NetworkMode::Container(name.to_owned()),
            _ if other == "container" => {
                return Err(Error::invalid("Invalid network mode: invalid container format container:<name|id>"));
            }
            _ => NetworkMode::Named(other.to_owned()),
        },
    };
    if matches!(mode, NetworkMode::Container(_)) {
        let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        let published = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty());
        for (conflict, text) in [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (
                given(&host.links),
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (given(&host.dns), "dns and the network mode"),
            (given(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
            (published, "port publishing and the container type network mode"),
            (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
        ] {
            if conflict {
                return Err(Error::invalid(format!("conflicting options: {text}")));
            }
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    Ok(mode)
}

/// IPC namespace.
///
/// # Errors
/// For an unknown word.
pub(crate) fn ipc(host: &mut HostConfig) -> Result<NamespaceMode> {
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".into();
    }
    match host.ipc_mode.as_str() {
        "private" => Ok(NamespaceMode::Private),
        "shareable" => Ok(NamespaceMode::Shareable),
        "none" => Ok(NamespaceMode::None),
        other => shared(other).ok_or_else(|| Error::invalid(format!("invalid IPC mode: {other}"))),
    }
}

/// PID namespace.
///
/// # Errors
/// For an unknown word.
pub(crate) fn pid(host: &HostConfig) -> Result<NamespaceMode> {
    match host.pid_mode.as_str() {
        "" | "private" => Ok(NamespaceMode::Private),
        other => shared(other).ok_or_else(|| Error::invalid(format!("invalid PID mode: {other}"))),
    }
}

/// UTS namespace.
///
/// # Errors
/// For an unknown word.
pub(crate) fn uts(host: &HostConfig) -> Result<NamespaceMode> {
    match host.uts_mode.as_str() {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        other => Err(Error::invalid(format!("invalid UTS mode: {other}"))),
    }
}

/// User namespace.
///
/// # Errors
/// For an unknown word.
pub(crate) fn user(host: &HostConfig) -> Result<UserMode> {
    match host.userns_mode.as_str() {
        "" => Ok(UserMode::Default),
        "auto" | "private" => Ok(UserMode::Auto),
        "host" => Ok(UserMode::Host),
        other => Err(Error::invalid(format!("invalid user namespace mode: {other}; use auto or host"))),
    }
}

/// cgroup namespace; writes the default for this host and container back.
///
/// # Errors
/// For an unknown word.
pub(crate) fn cgroup(host: &mut HostConfig) -> Result<Option<bool>> {
    match host.cgroupns_mode.as_str() {
        "private" => Ok(Some(true)),
        "host" => Ok(Some(false)),
        "" => {
            let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
            host.cgroupns_mode = if unified { "private" } else { "host" }.into();
            Ok(None)
        }
        other => Err(Error::invalid(format!("invalid cgroup namespace mode: {other}"))),
    }
}

/// `host` or `container:<name>`.
fn shared(text: &str) -> Option<NamespaceMode> {
    match text.split_once(':') {
        Some(("container", name)) if !name.is_empty() => Some(NamespaceMode::Container(name.to_owned())),
        _ if text == "host" => Some(NamespaceMode::Host),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(mode: &str, change: impl FnOnce(&mut HostConfig, &mut ContainerConfig)) -> (Result<NetworkMode>, String) {
        let mut host = HostConfig { network_mode: mode.into(), ..HostConfig::default() };
        let mut config = ContainerConfig::default();
        change(&mut host, &mut config);
        (network(&mut host, &config), host.network_mode)
    }

    #[test]
    fn network_modes() {
        for (text, mode, shown) in [
            ("", NetworkMode::Default, "bridge"),
            ("default", NetworkMode::Default, "bridge"),
            ("bridge", NetworkMode::Default, "bridge"),
            ("host", NetworkMode::Host, "host"),
            ("none", NetworkMode::None, "none"),
            ("container:x", NetworkMode::Container("x".into()), "container:x"),
            ("mine", NetworkMode::Named("mine".into()), "mine"),
        ] {
            let (got, normal) = net(text, |_, _| {});
            assert_eq!((got.unwrap(), normal.as_str()), (mode, shown));
        }
        assert_eq!(
            net("container:", |_, _| {}).0.unwrap_err().message(),
            "Invalid network mode: invalid container format container:<name|id>"
        );
    }

    #[test]
    fn anothers_network_has_its_own_options() {
        let conflict = |change: fn(&mut HostConfig, &mut ContainerConfig)| {
            net("container:x", change).0.unwrap_err().message().to_owned()
        };
        assert_eq!(conflict(|_, c| c.hostname = "h".into()), "conflicting options: hostname and the network mode");
        assert_eq!(
            conflict(|h, _| h.dns = Some(vec!["1.1.1.1".into()])),
            "conflicting options: dns and the network mode"
        );
        assert_eq!(
            conflict(|h, _| h.publish_all_ports = true),
            "conflicting options: port publishing and the container type network mode"
        );
        let uts = net("bridge", |h, c| {
            h.uts_mode = "host".into();
            c.hostname = "h".into();
        });
        assert_eq!(uts.0.unwrap_err().message(), "conflicting options: hostname and the UTS mode");
    }

    #[test]
    fn other_modes() {
        let mut host = HostConfig::default();
        assert_eq!(ipc(&mut host).unwrap(), NamespaceMode::Private);
        assert_eq!(host.ipc_mode, "private");
        host.pid_mode = "container:".into();
        assert_eq!(pid(&host).unwrap_err().message(), "invalid PID mode: container:");
        host.uts_mode = "container:x".into();
        assert_eq!(uts(&host).unwrap_err().message(), "invalid UTS mode: container:x");
        assert_eq!(user(&host).unwrap(), UserMode::Default);
        host.userns_mode = "auto".into();
        assert_eq!(user(&host).unwrap(), UserMode::Auto);
        host.userns_mode = "foo".into();
        assert!(user(&host).unwrap_err().message().starts_with("invalid user namespace mode: foo"));
        host.cgroupns_mode = "foo".into();
        assert_eq!(cgroup(&mut host).unwrap_err().message(), "invalid cgroup namespace mode: foo");
    }
}
