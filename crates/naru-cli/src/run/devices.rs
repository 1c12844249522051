//! `--device`, `--gpus`, `--ulimit` and the block IO limits.

use crate::flag::csv;
use naru_base::{size, ulimit};
use serde::Serialize;
use std::collections::BTreeMap;

/// A device of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

/// Reads `host[:container[:rwm]]`.
///
/// # Errors
/// With docker's words.
pub fn parse_device(value: &str) -> Result<Option<Device>, String> {
    if is_cdi(value) {
        return Ok(None);
    }
    let parts: Vec<&str> = value.split(':').collect();
    let is_mode = |m: &str| !m.is_empty() && m.len() <= 3 && m.chars().all(|c| "rwm".contains(c)) && distinct(m);
    let (host, container, mode) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        _ => return Err(format!("invalid device specification: {value}")),
    };
    if host.is_empty() {
        return Err(format!("bad format for path: {value}"));
    }
    let container = if container.is_empty() { host } else { container };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Some(Device { path_on_host: host.into(), path_in_container: container.into(), cgroup_permissions: mode.into() }))
}

/// Whether it is the name of a CDI device, `vendor/class=name`.
pub fn is_cdi(value: &str) -> bool {
    let Some((kind, name)) = value.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |s: &str| s.starts_with(|c: char| c.is_ascii_alphanumeric()) && !s.contains(['/', ':']);
    word(vendor) && word(class) && word(name)
}

fn distinct(mode: &str) -> bool {
    mode.chars().enumerate().all(|(i, c)| !mode[..i].contains(c))
}

/// Checks `c 1:3 rwm`.
///
/// # Errors
/// With docker's words.
pub fn check_cgroup_rule(value: &str) -> Result<(), String> {
    let bad = || Err(format!("invalid device cgroup format '{value}'"));
    let parts: Vec<&str> = value.split(' ').collect();
    let [kind, numbers, mode] = parts[..] else { return bad() };
    let Some((major, minor)) = numbers.split_once(':') else { return bad() };
    let number = |s: &str| s == "*" || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let mode_ok = (1..=3).contains(&mode.len()) && mode.chars().all(|c| "rwm".contains(c));
    if matches!(kind, "a" | "b" | "c") && number(major) && number(minor) && mode_ok { Ok(()) } else { bad() }
}

/// A request for devices such as GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// Who provides them.
    pub driver: String,
    /// How many; -1 for all.
    pub count: i64,
    /// Which ones.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// What they must be able to do.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

/// Reads `all`, `2`, `device=0,"capabilities=gpu,utility"`.
///
/// # Errors
/// With docker's words.
pub fn parse_gpus(value: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen = Vec::new();
    for field in csv(value)? {
        let (key, v) = match field.split_once('=') {
            Some((key, v)) => (key.to_owned(), v.to_owned()),
            None => ("count".to_owned(), field.clone()),
        };
        if seen.contains(&key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.clone());
        match key.as_str() {
            "driver" => request.driver = v,
            "count" if v == "all" => request.count = -1,
            "count" => {
                request.count = v.parse().map_err(|_| {
                    format!("invalid count ({v}): value must be either \"all\" or an integer: invalid syntax")
                })?;
            }
            "device" => request.device_ids = Some(csv(&v)?),
            "capabilities" => {
                let mut list = csv(&v)?;
                list.insert(0, "gpu".into());
                list.dedup();
                request.capabilities = vec![list];
            }
            "options" => request.options = super::environment::pairs(&csv(&v)?),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|k| k == "count") && request.device_ids.is_none() {
        request.count = 1;
    }
    if request.capabilities.is_empty() {
        request.capabilities = vec![vec!["gpu".into()]];
    }
    Ok(request)
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, ….
    pub name: String,
    hard: i64,
    soft: i64,
}

/// Reads `name=soft[:hard]`.
///
/// # Errors
/// With docker's words.
pub fn parse_ulimit(value: &str) -> Result<Ulimit, String> {
    let (name, limits) = value.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
    if !ulimit::NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |s: &str| {
        s.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {}: invalid syntax", naru_base::human::go_quote(s)))
    };
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts[..] {
        [soft] => (number(soft)?, number(soft)?),
        [soft, ""] => (number(soft)?, number(soft)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.into(), hard, soft })
}

/// A limit for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Throttle {
    path: String,
    rate: i64,
}

/// A weight for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weight {
    path: String,
    weight: u16,
}

fn device_path(value: &str) -> Result<(&str, &str), String> {
    let (path, rest) = value
        .split_once(':')
        .filter(|(p, r)| !p.is_empty() && !r.is_empty())
        .ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    Ok((path, rest))
}

/// Reads `/dev/sda:1mb`.
///
/// # Errors
/// With docker's words.
pub fn parse_rate(value: &str) -> Result<Throttle, String> {
    let (path, rate) = device_path(value)?;
    let rate = size::parse_bytes(rate).map_err(|_| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(Throttle { path: path.into(), rate })
}

/// Reads `/dev/sda:1000`.
///
/// # Errors
/// With docker's words.
pub fn parse_iops(value: &str) -> Result<Throttle, String> {
    let (path, rate) = device_path(value)?;
    let rate = rate.parse::<u32>().map_err(|_| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(Throttle { path: path.into(), rate: rate.into() })
}

/// Reads `/dev/sda:500`.
///
/// # Errors
/// With docker's words.
pub fn parse_weight(value: &str) -> Result<Weight, String> {
    let (path, weight) = device_path(value)?;
    let weight = weight.parse::<u16>().map_err(|_| format!("invalid weight for device: {value}"))?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {value}"));
    }
    Ok(Weight { path: path.into(), weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let show = |v| {
            let d = parse_device(v).unwrap().unwrap();
            format!("{} {} {}", d.path_on_host, d.path_in_container, d.cgroup_permissions)
        };
        assert_eq!(show("/dev/null"), "/dev/null /dev/null rwm");
        assert_eq!(show("/dev/a:/dev/b"), "/dev/a /dev/b rwm");
        assert_eq!(show("/dev/a:r"), "/dev/a /dev/a r");
        assert_eq!(show("/dev/a:/dev/b:rw"), "/dev/a /dev/b rw");
        assert_eq!(parse_device("vendor.com/class=x").unwrap(), None);
        assert!(
            parse_device("/dev/a:/b:rr").is_err() && parse_device("/dev/a:b").is_err() && parse_device("").is_err()
        );
    }

    #[test]
    fn limits() {
        assert_eq!(parse_ulimit("nofile=1:2").unwrap(), Ulimit { name: "nofile".into(), hard: 2, soft: 1 });
        assert_eq!(parse_ulimit("core=-1").unwrap().hard, -1);
        assert!(parse_ulimit("nofile=2:1").is_err() && parse_ulimit("x=1").is_err() && parse_ulimit("nofile").is_err());
        assert_eq!(parse_rate("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert!(
            parse_rate("sda:1").is_err() && parse_iops("/dev/sda:1k").is_err() && parse_weight("/dev/sda:5").is_err()
        );
        assert!(check_cgroup_rule("c 1:* rwm").is_ok() && check_cgroup_rule("c 1:3").is_err());
    }

    #[test]
    fn gpus() {
        assert_eq!(parse_gpus("all").unwrap().count, -1);
        assert_eq!(parse_gpus("2").unwrap().count, 2);
        let r = parse_gpus("\"device=0,1\",driver=nvidia,\"capabilities=utility,compute\"").unwrap();
        assert_eq!((r.count, r.device_ids), (0, Some(vec!["0".into(), "1".into()])));
        assert_eq!(r.capabilities, [["gpu", "utility", "compute"]]);
        assert!(parse_gpus("x").is_err() && parse_gpus("foo=1").is_err());
    }
}
