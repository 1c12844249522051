//! Driver options of a network, in docker's names.

use naru_base::{Error, Result};
use naru_net::{Driver, IpvlanFlag, IpvlanMode, MacvlanMode, NetworkSpec};
use std::collections::BTreeMap;

const BRIDGE: &str = "com.docker.network.bridge.";
const MTU: &str = "com.docker.network.driver.mtu";
/// The address of the host that ports are bound to.
pub(super) const PORT_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";

/// Applies them to a network's specification.
///
/// # Errors
/// For a value that can't be read, and for an option that would change who reaches whom and isn't there.
pub(super) fn apply(spec: &mut NetworkSpec, options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        if key == MTU {
            spec.mtu = mtu(value)?;
            continue;
        }
        match spec.driver {
            Driver::Bridge => bridge(spec, key, value)?,
            Driver::Macvlan | Driver::Ipvlan => on_link(spec, key, value)?,
            Driver::Host | Driver::Null => {}
        }
    }
    Ok(())
}

fn mtu(value: &str) -> Result<u32> {
    let number: i64 = value.parse().map_err(|_| {
        Error::invalid(format!(
            "failed to parse {MTU} value: {value} (strconv.Atoi: parsing {value:?}: invalid syntax)"
        ))
    })?;
    match u32::try_from(number) {
        Ok(0) => Ok(1500),
        Ok(mtu) if (68..=65535).contains(&mtu) => Ok(mtu),
        _ => Err(Error::invalid(format!("invalid MTU number: {value}"))),
    }
}

fn flag(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!(
            "failed to parse {key} value: {value} (strconv.ParseBool: parsing {value:?}: invalid syntax)"
        ))),
    }
}

fn bridge(spec: &mut NetworkSpec, key: &str, value: &str) -> Result<()> {
    match key.strip_prefix(BRIDGE) {
        Some("name") => value.clone_into(&mut spec.bridge_name),
        Some("enable_icc") => spec.icc = flag(key, value)?,
        Some("enable_ip_masquerade") => spec.masquerade = flag(key, value)?,
        Some("host_binding_ipv4") if value.parse::<std::net::IpAddr>().is_err() => {
            return Err(Error::invalid(format!("failed to parse {key} value: {value} (invalid ip)")));
        }
        Some("gateway_mode_ipv4" | "gateway_mode_ipv6") if value == "nat" => {}
        Some("gateway_mode_ipv4" | "gateway_mode_ipv6" | "inhibit_ipv4" | "trusted_host_interfaces") => {
            return Err(Error::not_implemented(format!("the network option {key}={value} is not available")));
        }
        // docker leaves alone what it doesn't know.
        _ => {}
    }
    Ok(())
}

fn on_link(spec: &mut NetworkSpec, key: &str, value: &str) -> Result<()> {
    match (spec.driver, key) {
        (_, "parent") => value.clone_into(&mut spec.parent),
        (Driver::Macvlan, "macvlan_mode") => spec.macvlan_mode = MacvlanMode::from_name(value)?,
        (Driver::Ipvlan, "ipvlan_mode") => spec.ipvlan_mode = IpvlanMode::from_name(value)?,
        (Driver::Ipvlan, "ipvlan_flag") => spec.ipvlan_flag = IpvlanFlag::from_name(value)?,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_base::Id;

    fn spec(options: &[(&str, &str)]) -> Result<NetworkSpec> {
        let subnet = "10.0.0.0/24".parse().unwrap();
        let mut spec = NetworkSpec::bridge(Id::random().unwrap(), "n", "br-n".into(), subnet);
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        apply(&mut spec, &options).map(|()| spec)
    }

    #[test]
    fn dockers_options_of_a_bridge() {
        let got = spec(&[
            ("com.docker.network.bridge.name", "mine0"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.driver.mtu", "1400"),
            ("anything.else", "x"),
        ])
        .unwrap();
        assert_eq!((got.bridge_name.as_str(), got.icc, got.masquerade, got.mtu), ("mine0", false, false, 1400));
        assert_eq!(spec(&[(MTU, "0")]).unwrap().mtu, 1500);
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        let said = |key, value| spec(&[(key, value)]).unwrap_err().message().to_owned();
        assert_eq!(
            said(MTU, "abc"),
            "failed to parse com.docker.network.driver.mtu value: abc (strconv.Atoi: parsing \"abc\": invalid syntax)"
        );
        assert_eq!(
            said("com.docker.network.bridge.enable_icc", "abc"),
            "failed to parse com.docker.network.bridge.enable_icc value: abc (strconv.ParseBool: parsing \"abc\": invalid syntax)"
        );
        assert!(said("com.docker.network.bridge.gateway_mode_ipv4", "routed").contains("not available"));
    }
}
