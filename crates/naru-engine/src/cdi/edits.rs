//! What a specification asks for, as parts of a plan.

use super::spec::{Edits, Hook, Mount, Node};
use naru_monitor::protocol::HookPlan;
use naru_runtime::plan::{self, DeviceRule, MountFlags, MountSource, Plan, Propagation};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Everything that the devices of a container need.
#[derive(Debug, Default)]
pub(crate) struct Injection {
    pub(super) env: Vec<String>,
    devices: Vec<plan::Device>,
    rules: Vec<DeviceRule>,
    mounts: Vec<plan::Mount>,
    groups: Vec<String>,
    hooks: HookPlan,
}

impl Injection {
    pub(super) fn annotate(&mut self, annotations: Option<&BTreeMap<String, String>>) {
        self.hooks.annotations.extend(annotations.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Adds what `edits` ask for.
    ///
    /// # Errors
    /// A device that isn't there, and what this engine can't do.
    pub(super) fn add(&mut self, edits: &Edits) -> Result<(), String> {
        for (asked, name) in [(&edits.net_devices, "netDevices"), (&edits.intel_rdt, "intelRdt")] {
            if asked.as_ref().is_some_and(|value| !value.is_null()) {
                return Err(format!("{name} are not supported"));
            }
        }
        self.env.extend(edits.env.iter().flatten().cloned());
        self.groups.extend(edits.additional_gids.iter().filter(|gid| **gid != 0).map(u32::to_string));
        for node in edits.device_nodes.iter().flatten() {
            let (device, access) = device(node)?;
            self.rules.push(DeviceRule {
                allow: true,
                kind: device.kind,
                major: Some(device.major),
                minor: Some(device.minor),
                access,
            });
            self.devices.push(device);
        }
        for asked in edits.mounts.iter().flatten() {
            self.mounts.push(mount(asked)?);
        }
        edits.hooks.iter().flatten().try_for_each(|hook| self.hook(hook))
    }

    fn hook(&mut self, hook: &Hook) -> Result<(), String> {
        if !hook.path.starts_with('/') {
            return Err(format!("hook path {:?} is not absolute", hook.path));
        }
        let list = match hook.hook_name.as_str() {
            "prestart" => &mut self.hooks.prestart,
            "createRuntime" => &mut self.hooks.create_runtime,
            "createContainer" => &mut self.hooks.create_container,
            "startContainer" => &mut self.hooks.start_container,
            other => return Err(format!("{other:?} hooks are not supported")),
        };
        list.push(naru_runtime::Hook {
            path: hook.path.clone(),
            args: hook.args.clone().unwrap_or_default(),
            env: hook.env.clone().unwrap_or_default(),
            timeout: hook.timeout,
        });
        Ok(())
    }

    /// Puts all of it into `plan`; what runs on the way to the container is handed back.
    pub(crate) fn apply(self, plan: &mut Plan) -> Option<HookPlan> {
        for entry in self.env {
            let name = entry.split('=').next().unwrap_or_default().to_owned();
            plan.process.env.retain(|other| other.split('=').next() != Some(&name));
            plan.process.env.push(entry);
        }
        for device in self.devices {
            plan.devices.retain(|other| other.path != device.path);
            plan.devices.push(device);
        }
        plan.cgroup.resources.devices.extend(self.rules);
        let mut mounts = self.mounts;
        mounts.sort_by_key(|mount| mount.target.components().count());
        plan.mounts.retain(|other| !mounts.iter().any(|mount| mount.target == other.target));
        plan.mounts.extend(mounts);
        plan.process.additional_groups.extend(self.groups);
        let hooks = self.hooks;
        (!hooks.is_empty()).then_some(hooks)
    }
}

/// A node, with what is not said looked up on the host; and the access to it.
fn device(node: &Node) -> Result<(plan::Device, String), String> {
    if !node.path.starts_with('/') {
        return Err(format!("device path {:?} is not absolute", node.path));
    }
    let host = node.host_path.as_deref().filter(|p| !p.is_empty()).unwrap_or(&node.path);
    let mut device = plan::Device {
        path: PathBuf::from(&node.path),
        kind: node.kind.as_deref().and_then(|kind| kind.chars().next()).unwrap_or('\0'),
        major: node.major.unwrap_or(0),
        minor: node.minor.unwrap_or(0),
        mode: node.file_mode.unwrap_or(0),
        uid: node.uid.unwrap_or(0),
        gid: node.gid.unwrap_or(0),
    };
    let whole = node.kind.is_some() && (node.major.is_some() || device.kind == 'p');
    if whole {
        // It may be made only later, and it need not be in the host's /dev at all.
        let hosts = || std::fs::metadata(host).ok().map(|found| found.mode() & 0o7777);
        device.mode = node.file_mode.or_else(hosts).unwrap_or(0o666);
    } else {
        let found = std::fs::metadata(host).map_err(|e| format!("failed to stat CDI host device {host:?}: {e}"))?;
        let kind = match found.file_type() {
            t if t.is_char_device() => 'c',
            t if t.is_block_device() => 'b',
            t if t.is_fifo() => 'p',
            _ => return Err(format!("CDI host device {host:?} is not a device node")),
        };
        if node.kind.is_some() && device.kind != kind {
            return Err(format!("CDI device {host:?}, host type mismatch (\"{}\", \"{kind}\")", device.kind));
        }
        device.kind = kind;
        if node.major.is_none() {
            (device.major, device.minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        }
        device.mode = node.file_mode.unwrap_or(found.mode() & 0o7777);
    }
    if !matches!(device.kind, 'c' | 'b' | 'p' | 'u') {
        return Err(format!("device {:?} has the unknown type {:?}", node.path, device.kind));
    }
    let access = node.permissions.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "rwm".to_owned());
    if !access.chars().all(|c| "rwm".contains(c)) {
        return Err(format!("device {:?} has the unknown permissions {access:?}", node.path));
    }
    Ok((device, access))
}

/// A mount, with its options as mount(8) has them.
fn mount(asked: &Mount) -> Result<plan::Mount, String> {
    let target = PathBuf::from(&asked.container_path);
    if !target.is_absolute() {
        return Err(format!("mount target {:?} is not absolute", asked.container_path));
    }
    let mut flags = MountFlags::default();
    let (mut recursive, mut propagation, mut bind, mut data) = (false, Propagation::Rprivate, false, Vec::new());
    for option in asked.options.iter().flatten() {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            "ro" => flags.readonly = true,
            "nosuid" => flags.nosuid = true,
            "nodev" => flags.nodev = true,
            "noexec" => flags.noexec = true,
            "private" => propagation = Propagation::Private,
            "rprivate" => propagation = Propagation::Rprivate,
            "shared" => propagation = Propagation::Shared,
            "rshared" => propagation = Propagation::Rshared,
            "slave" => propagation = Propagation::Slave,
            "rslave" => propagation = Propagation::Rslave,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" => {}
            other => data.push(other.to_owned()),
        }
    }
    let kind = asked.kind.as_deref().unwrap_or_default();
    let source = if bind || matches!(kind, "" | "bind" | "none") {
        if let Some(unknown) = data.first() {
            return Err(format!("the mount option {unknown:?} of {:?} is not supported", asked.container_path));
        }
        if !Path::new(&asked.host_path).is_absolute() {
            return Err(format!("mount source {:?} is not absolute", asked.host_path));
        }
        MountSource::Bind { path: PathBuf::from(&asked.host_path), subpath: PathBuf::new(), recursive, propagation }
    } else {
        MountSource::Filesystem { kind: kind.to_owned(), name: asked.host_path.clone(), data }
    };
    Ok(plan::Mount { target, source, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str) -> Node {
        Node { path: path.into(), ..Node::default() }
    }

    #[test]
    fn what_is_not_said_is_looked_up() {
        let (device_found, access) = device(&node("/dev/null")).unwrap();
        assert_eq!((device_found.kind, device_found.major, device_found.minor), ('c', 1, 3));
        assert_eq!(access, "rwm");
        let elsewhere = Node { host_path: Some("/dev/zero".into()), permissions: Some("r".into()), ..node("/dev/x") };
        let (elsewhere, access) = device(&elsewhere).unwrap();
        assert_eq!((elsewhere.path.to_str().unwrap(), elsewhere.minor, access.as_str()), ("/dev/x", 5, "r"));
        let whole = Node { kind: Some("c".into()), major: Some(9), minor: Some(8), ..node("/dev/none") };
        let (whole, _) = device(&whole).unwrap();
        assert_eq!((whole.major, whole.mode), (9, 0o666));
        assert!(device(&node("/dev/none")).unwrap_err().contains("failed to stat CDI host device"));
        assert!(
            device(&Node { kind: Some("b".into()), ..node("/dev/null") }).unwrap_err().contains("host type mismatch")
        );
        assert!(device(&node("dev/null")).is_err() && device(&node("/etc/passwd")).is_err());
    }

    #[test]
    fn mounts_have_their_options() {
        let asked = |kind: Option<&str>, options: &[&str]| Mount {
            host_path: "/usr/lib".into(),
            container_path: "/lib/x".into(),
            kind: kind.map(str::to_owned),
            options: Some(options.iter().map(|o| (*o).to_owned()).collect()),
        };
        let bound = mount(&asked(None, &["ro", "nosuid", "rbind", "rslave"])).unwrap();
        assert!(bound.flags.readonly && bound.flags.nosuid && !bound.flags.nodev);
        let MountSource::Bind { recursive, propagation, .. } = bound.source else { panic!("no bind") };
        assert!(recursive && propagation == Propagation::Rslave);
        let made = mount(&asked(Some("tmpfs"), &["size=1m"])).unwrap();
        assert!(matches!(made.source, MountSource::Filesystem { data, .. } if data == ["size=1m"]));
        assert!(mount(&asked(Some("bind"), &["size=1m"])).unwrap_err().contains("size=1m"));
    }

    #[test]
    fn hooks_that_nobody_runs_are_refused() {
        let mut injection = Injection::default();
        let hook = |name: &str| Hook { hook_name: name.into(), path: "/bin/true".into(), ..Hook::default() };
        assert!(injection.hook(&hook("createContainer")).is_ok());
        assert_eq!(injection.hooks.create_container.len(), 1);
        assert!(injection.hook(&hook("poststop")).unwrap_err().contains("not supported"));
        let relative = Hook { path: "true".into(), ..hook("createRuntime") };
        assert!(injection.hook(&relative).is_err());
    }
}
