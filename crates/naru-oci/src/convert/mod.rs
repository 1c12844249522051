//! From a bundle to a plan: what config.json asks for, in the runtime's words. What can't be had is refused here, by name, before
//! anything exists.

mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;

use crate::OCI_VERSION;
use crate::container::{Request, listen_fds};
use crate::listener;
use crate::spec::{Config, Hooks};
use crate::state::{State, Status};
use naru_base::{Error, Result};
use naru_runtime::plan::{CgroupPlan, Descriptors, PLAN_VERSION, Plan, Rootfs};
use naru_runtime::{StartOptions, StateText};
use std::path::Path;

pub(crate) use mounts::option_names as mount_option_names;
pub(crate) use process::{merge_capabilities, options as process_options, plan as process_plan};
pub(crate) use resources::{CgroupFiles, limits};

/// The file of a bundle.
pub(crate) const CONFIG: &str = "config.json";

/// A bundle, ready to be made.
#[derive(Debug)]
pub(crate) struct Converted {
    /// Without process ids.
    pub state: State,
    pub plan: Plan,
    pub descriptors: Descriptors,
    pub options: StartOptions,
    /// Limits that a plan has no word for.
    pub files: CgroupFiles,
    pub warnings: Vec<String>,
}

/// Reads a JSON document; `null` counts as absent, as Go's tools write it.
///
/// # Errors
/// It is no such document; the text names `what`.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &[u8]) -> Result<T> {
    if let Ok(parsed) = serde_json::from_slice(text) {
        return Ok(parsed);
    }
    let invalid = |e: serde_json::Error| Error::invalid(format!("{what}: {e}"));
    let mut value = serde_json::from_slice(text).map_err(invalid)?;
    without_nulls(&mut value);
    // From text again: an error of it has a line and a column.
    serde_json::from_value(value).map_err(|e| serde_json::from_slice::<T>(text).err().unwrap_or(e)).map_err(invalid)
}

fn without_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Reads and converts the bundle of `request`, whose group `systemd` makes or not.
///
/// # Errors
/// What is missing or wrong in it, or not supported.
pub(crate) fn bundle(request: &Request, systemd: bool) -> Result<Converted> {
    let path = request.bundle.join(CONFIG);
    let text = std::fs::read(&path).map_err(|e| Error::invalid(format!("read {}: {e}", path.display())))?;
    let config: Config = parse(&path.display().to_string(), &text)?;
    check_version(&config.oci_version)?;
    let linux = config.linux.clone().unwrap_or_default();
    linux::refuse(&linux)?;
    let mut warnings = Vec::new();
    let rootfs = rootfs(&request.bundle, &config)?;
    let (namespaces, descriptors, mut options) = namespaces::convert(&linux)?;
    let resources = linux.resources.clone().unwrap_or_default();
    let (seccomp, listener) = linux::seccomp(&linux)?;
    let spec_process = config.process.clone().ok_or_else(|| Error::invalid("config.json: process must be set"))?;
    let mut process = process::plan(&spec_process, seccomp.as_ref(), &mut warnings)?;
    let sockets = listen_fds();
    if sockets > 0 {
        process.env.extend([format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".to_owned()]);
    }
    linux::check_names(&config, &namespaces)?;
    linux::check_sysctls(&linux.sysctl, &namespaces)?;
    let (mounts, mount_maps) = mounts::convert(&config.mounts, &request.bundle, namespaces.user.as_ref())?;
    let scope = systemd.then(|| linux::scope(&linux.cgroups_path, &request.id)).transpose()?;
    let plan = Plan {
        version: PLAN_VERSION,
        id: request.id.clone(),
        rootfs: Rootfs::Directory { path: rootfs.clone() },
        readonly_rootfs: config.root.as_ref().is_some_and(|root| root.readonly),
        rootfs_propagation: linux::root_propagation(&linux.rootfs_propagation)?,
        mounts,
        devices: linux::devices(&linux.devices)?,
        masked_paths: linux.masked_paths.clone(),
        readonly_paths: linux.readonly_paths.clone(),
        hostname: Some(config.hostname.clone()).filter(|name| !name.is_empty()),
        domainname: Some(config.domainname.clone()).filter(|name| !name.is_empty()),
        sysctls: linux.sysctl.clone(),
        cgroup: CgroupPlan {
            path: match &scope {
                Some(scope) => scope.path(),
                None => linux::cgroup_path(&linux.cgroups_path, &request.id)?,
            },
            resources: limits(&resources)?,
            scope,
        },
        namespaces,
        process,
        init: false,
        mount_label: Some(linux.mount_label.clone()).filter(|label| !label.is_empty()),
    };
    options.root_unmapped = true;
    options.mount_maps = mount_maps;
    options.process = process::options(&spec_process, linux.personality.as_ref(), request)?;
    let hooks = config.hooks.clone().unwrap_or_default();
    check_hooks(&hooks)?;
    let state = State {
        oci_version: OCI_VERSION.to_owned(),
        bundle: request.bundle.clone(),
        rootfs,
        annotations: config.annotations.clone(),
        cgroup_path: plan.cgroup.path.clone(),
        scope: plan.cgroup.scope.clone(),
        namespaces: plan.namespaces.clone(),
        process: spec_process,
        planned: plan.process.clone(),
        seccomp,
        listener,
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
        ..State::new(&request.id)?
    };
    options.process.listener = listener::receiver(&state, Status::Created);
    options.root_in_place =
        !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() || !hooks.create_container.is_empty();
    options.hooks = runtime_hooks(hooks, &state);
    let files = CgroupFiles::new(&resources)?;
    Ok(Converted { state, plan, descriptors, options, files, warnings })
}

fn runtime_hooks(hooks: Hooks, state: &State) -> naru_runtime::Hooks {
    let told = state.clone();
    let text: StateText = Box::new(move |pid, status| told.document(pid, status).to_string());
    naru_runtime::Hooks {
        prestart: hooks.prestart,
        create_runtime: hooks.create_runtime,
        create_container: hooks.create_container,
        start_container: hooks.start_container,
        state: Some(text),
    }
}

fn check_hooks(hooks: &Hooks) -> Result<()> {
    let all = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    for hook in all.into_iter().flatten() {
        if !hook.path.starts_with('/') {
            return Err(Error::invalid(format!("hook path {:?} is not absolute", hook.path)));
        }
        if hook.timeout == Some(0) {
            return Err(Error::invalid(format!("hook {}: timeout must be greater than zero", hook.path)));
        }
    }
    Ok(())
}

/// Any 1.x (config.md, "Specification version").
fn check_version(version: &str) -> Result<()> {
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Error::invalid(format!("config.json: ociVersion {version:?} is not supported: 1.x is")))
}

fn rootfs(bundle: &Path, config: &Config) -> Result<std::path::PathBuf> {
    let root = config.root.as_ref().filter(|root| !root.path.as_os_str().is_empty());
    let root = root.ok_or_else(|| Error::invalid("config.json: root.path must be set"))?;
    let path = bundle.join(&root.path);
    let path = std::fs::canonicalize(&path).map_err(|e| Error::invalid(format!("rootfs {}: {e}", path.display())))?;
    if !path.is_dir() {
        return Err(Error::invalid(format!("rootfs {}: not a directory", path.display())));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_absent_unknown_properties_ignored_and_errors_have_a_place() {
        let config: Config =
            parse("c", br#"{"ociVersion":"1.0.2","future":{"x":1},"mounts":null,"process":{"args":null}}"#).unwrap();
        assert!(config.mounts.is_empty() && config.process.unwrap().args.is_empty());
        let error = parse::<Config>("c", b"{\n\"mounts\": 3}").unwrap_err();
        assert!(error.message().starts_with("c: ") && error.message().contains("line 2"), "{error}");
    }

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.2.1", "1.0.2-dev"] {
            check_version(good).unwrap();
        }
        for bad in ["", "2.0.0", "0.5", "11.0.0"] {
            assert!(check_version(bad).is_err(), "{bad:?}");
        }
    }
}
