//! Devices of the host, looked up there.

use crate::dto::host_config::HostConfig;
use naru_base::{Error, Result};
use naru_engine::types::DeviceRequest;
use naru_runtime::plan::{Device, DeviceRule};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Most devices in one folder that is given as a device.
const FOLDER_LIMIT: usize = 1024;

/// The nodes and the rules that open them, those of `device_cgroup_rules` last.
///
/// # Errors
/// When a device isn't there, and for malformed rules; with docker's texts.
pub(crate) fn devices(host: &HostConfig) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for mapping in host.devices.iter().flatten() {
        let inside =
            if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
        let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
        if !is_access(access) {
            return Err(Error::invalid(format!("invalid device mode: {access}")));
        }
        let found = look_up(Path::new(&mapping.path_on_host), Path::new(inside)).map_err(|why| {
            Error::invalid(format!(
                "error gathering device information while adding custom device {:?}: {why}",
                mapping.path_on_host
            ))
        })?;
        rules.extend(found.iter().map(|d| DeviceRule {
            allow: true,
            kind: d.kind,
            major: Some(d.major),
            minor: Some(d.minor),
            access: access.to_owned(),
        }));
        nodes.extend(found);
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(
            parse_rule(rule).ok_or_else(|| Error::invalid(format!("invalid device cgroup rule format: '{rule}'")))?,
        );
    }
    Ok((nodes, rules))
}

/// What is asked for by a name or a capability; whether this host has it shows at the start.
///
/// # Errors
/// With docker's texts: nobody provides such devices, or the request contradicts itself.
pub(crate) fn requests(host: &HostConfig) -> Result<Vec<DeviceRequest>> {
    host.device_requests.iter().flatten().map(request).collect()
}

fn request(asked: &crate::dto::host_config::DeviceRequest) -> Result<DeviceRequest> {
    let ids = asked.device_ids.clone().unwrap_or_default();
    let capabilities = asked.capabilities.clone().unwrap_or_default();
    if asked.driver == "cdi" {
        if asked.count > 0 {
            return Err(Error::invalid(format!("invalid count in CDI device request: {}", asked.count)));
        }
        if asked.options.as_ref().is_some_and(|o| !o.is_empty()) {
            return Err(Error::invalid("invalid options in CDI device request: there are none"));
        }
        return Ok(DeviceRequest::Cdi { names: ids });
    }
    let gpu = capabilities.iter().any(|all| all.iter().any(|one| one == "gpu"));
    if !gpu || !matches!(asked.driver.as_str(), "" | "nvidia" | "amd" | "intel") {
        let names: Vec<String> = capabilities.iter().map(|all| format!("[{}]", all.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            asked.driver,
            names.join(" ")
        )));
    }
    if asked.count != 0 && !ids.is_empty() {
        return Err(Error::invalid("cannot set both Count and DeviceIDs on device request"));
    }
    Ok(DeviceRequest::Gpus { driver: asked.driver.clone(), count: asked.count, ids, capabilities })
}

fn is_access(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b"rwm".contains(&b))
}

/// A device, or every device in a folder.
fn look_up(path: &Path, inside: &Path) -> std::result::Result<Vec<Device>, String> {
    let metadata = std::fs::metadata(path).map_err(|e| io_text(&e))?;
    if !metadata.is_dir() {
        return node(&metadata, inside).map(|d| vec![d]).ok_or_else(|| "not a device node".into());
    }
    let mut found = Vec::new();
    folder(path, inside, &mut found).map_err(|e| io_text(&e))?;
    if found.is_empty() { Err("not a device node".into()) } else { Ok(found) }
}

fn folder(path: &Path, inside: &Path, found: &mut Vec<Device>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let target: PathBuf = inside.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // As docker has it: pseudo-terminals and the like are not copied.
            if !["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"].iter().any(|n| entry.file_name() == *n) {
                folder(&entry.path(), &target, found)?;
            }
        } else if let Some(device) = node(&entry.metadata()?, &target) {
            found.push(device);
        }
        if found.len() > FOLDER_LIMIT {
            return Err(std::io::Error::other("too many devices"));
        }
    }
    Ok(())
}

fn node(metadata: &std::fs::Metadata, inside: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        t if t.is_fifo() => 'p',
        _ => return None,
    };
    Some(Device {
        path: inside.to_owned(),
        kind,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Major and minor number of a block device.
///
/// # Errors
/// When it is none.
pub(crate) fn block_device(path: &str) -> Result<(u32, u32)> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::invalid(format!("cannot look at device {path}: {}", io_text(&e))))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path} is no block device")));
    }
    Ok((rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())))
}

fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        _ => error.to_string(),
    }
}

/// `c 1:3 rwm`, `a *:* rwm`.
fn parse_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let number = |t: &str| match t {
        "*" => Some(None),
        t if t.bytes().all(|b| b.is_ascii_digit()) => t.parse().ok().map(Some),
        _ => None,
    };
    let (major, minor) = numbers.split_once(':')?;
    if !matches!(kind, "a" | "b" | "c") || !is_access(access) || words.next().is_some() {
        return None;
    }
    Some(DeviceRule {
        allow: true,
        kind: kind.chars().next()?,
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::host_config::DeviceMapping;

    fn one(path: &str) -> HostConfig {
        let mapping =
            DeviceMapping { path_on_host: path.into(), path_in_container: "/dev/x".into(), ..DeviceMapping::default() };
        HostConfig { devices: Some(vec![mapping]), ..HostConfig::default() }
    }

    #[test]
    fn devices_are_looked_up() {
        let (nodes, rules) = devices(&one("/dev/null")).unwrap();
        assert_eq!((nodes[0].kind, nodes[0].major, nodes[0].minor), ('c', 1, 3));
        assert_eq!(nodes[0].path, Path::new("/dev/x"));
        assert_eq!(rules[0].access, "rwm");
        assert_eq!(
            devices(&one("/dev/nope")).unwrap_err().message(),
            "error gathering device information while adding custom device \"/dev/nope\": no such file or directory"
        );
        assert!(devices(&one("/etc/passwd")).unwrap_err().message().ends_with("not a device node"));
    }

    #[test]
    fn rules_have_one_form() {
        let rule = parse_rule("c 1:* rw").unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor, rule.access.as_str()), ('c', Some(1), None, "rw"));
        for bad in
            ["", "bla", "c 1 rwm", "d 1:3 rwm", "c 1:3", "c 1:3 rwmx", "c 1:3 x", "c a:3 r", "c 1:3 r x", "c :3 r x"]
        {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn requests_for_devices() {
        let read = |json: &str| {
            let host: HostConfig = crate::decode::tolerant::from_slice(json.as_bytes()).unwrap();
            requests(&host)
        };
        assert_eq!(
            read(r#"{"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["v.com/c=x"]}]}"#).unwrap(),
            [DeviceRequest::Cdi { names: vec!["v.com/c=x".into()] }]
        );
        let all = read(r#"{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]}"#).unwrap();
        assert!(matches!(&all[0], DeviceRequest::Gpus { count: -1, .. }), "{all:?}");
        assert_eq!(
            read(r#"{"DeviceRequests":[{"Capabilities":[["tpu"]]}]}"#).unwrap_err().message(),
            "could not select device driver \"\" with capabilities: [[tpu]]"
        );
        assert!(read(r#"{"DeviceRequests":[{"Count":1,"DeviceIDs":["0"],"Capabilities":[["gpu"]]}]}"#).is_err());
        assert!(read(r#"{"DeviceRequests":[{"Driver":"cdi","Count":1}]}"#).is_err());
    }
}
