//! Checks of option values that are made while the arguments are read, so that the message names the flag.

use super::{devices, environment, mounts, networks};
use std::net::IpAddr;

type Checked = Result<(), String>;

/// `--mount`.
pub fn mount(value: &str) -> Checked {
    mounts::parse_mount(value).map(drop)
}

/// `--network`.
pub fn network(value: &str) -> Checked {
    networks::parse(value).map(drop)
}

/// `--ulimit`.
pub fn ulimit(value: &str) -> Checked {
    devices::parse_ulimit(value).map(drop)
}

/// `--gpus`.
pub fn gpus(value: &str) -> Checked {
    devices::parse_gpus(value).map(drop)
}

/// `--add-host`.
pub fn host(value: &str) -> Checked {
    networks::extra_host(value).map(drop)
}

/// `--attach`.
pub fn attach(value: &str) -> Checked {
    match value.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// `--blkio-weight-device`.
pub fn weight_device(value: &str) -> Checked {
    devices::parse_weight(value).map(drop)
}

/// `--device`.
pub fn device(value: &str) -> Checked {
    devices::parse_device(value).map(drop)
}

/// `--device-cgroup-rule`.
pub fn device_cgroup_rule(value: &str) -> Checked {
    devices::check_cgroup_rule(value)
}

/// `--device-read-bps` and its like.
pub fn rate(value: &str) -> Checked {
    devices::parse_rate(value).map(drop)
}

/// `--device-read-iops` and its like.
pub fn iops(value: &str) -> Checked {
    devices::parse_iops(value).map(drop)
}

/// `--dns`.
pub fn ip(value: &str) -> Checked {
    value.trim().parse::<IpAddr>().map(drop).map_err(|_| format!("IP address is not correctly formatted: {value}"))
}

/// An address that the engine checks.
pub fn any_ip(_value: &str) -> Checked {
    Ok(())
}

/// `--dns-search`.
pub fn dns_search(value: &str) -> Checked {
    let value = value.trim();
    let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    let named = value.chars().any(char::is_alphabetic);
    if value == "." || (named && value.trim_end_matches('.').split('.').all(label)) {
        return Ok(());
    }
    Err(format!("{value} is not a valid domain"))
}

/// `--env`.
pub fn env(value: &str) -> Checked {
    environment::check_variable(value)
}

/// `--label`.
pub fn label(value: &str) -> Checked {
    environment::check_label(value)
}

/// `--link`.
pub fn link(value: &str) -> Checked {
    networks::check_link(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_checks() {
        assert!(attach("STDIN").is_ok() && attach("x").is_err());
        assert!(ip("1.1.1.1").is_ok() && ip("::1").is_ok() && ip("1.1").is_err());
        assert!(
            dns_search("a.b").is_ok()
                && dns_search(".").is_ok()
                && dns_search("a..b").is_err()
                && dns_search("1").is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(value in "[a-z0-9=,:./\\[\\]\" é*-]{0,40}", free in ".{0,30}") {
            for check in [mount, network, ulimit, gpus, host, attach, weight_device, device, device_cgroup_rule, rate, iops, ip,
                          any_ip, dns_search, env, label, link] {
                let _ = check(&value);
                let _ = check(&free);
            }
        }
    }
}
