//! Devices by the Container Device Interface: a vendor's file says what a container needs to use one, and its name is enough to ask for it.
//!
//! Files are read at each start: drivers write them whenever their devices change. A later folder overrides an earlier one; two files of one
//! folder that have the same device make it unusable.

mod edits;
mod spec;
mod yaml;

pub(crate) use edits::Injection;

use crate::types::DeviceRequest;
use naru_base::{Error, Result};
use spec::Spec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where specifications are unless told otherwise, the most important place last.
pub const DEFAULT_SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Whose devices `--gpus` means, the first that there are.
const GPU_KINDS: [(&str, &str); 3] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu"), ("intel", "intel.com/gpu")];

/// All devices that the files know.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    specs: Vec<(PathBuf, Spec)>,
    /// By full name: which specification and which of its devices; `None` where two contradict each other.
    devices: BTreeMap<String, Option<(usize, usize)>>,
    /// Files that can't be used, and why.
    broken: Vec<String>,
}

impl Registry {
    /// What the files in `dirs` say.
    pub(crate) fn read(dirs: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for dir in dirs {
            let mut own = BTreeMap::new();
            for path in files(dir) {
                match Spec::read(&path) {
                    Ok(spec) => registry.add(path, spec, &mut own),
                    Err(why) => registry.broken.push(format!("{}: {why}", path.display())),
                }
            }
            registry.devices.extend(own);
        }
        registry
    }

    fn add(&mut self, path: PathBuf, spec: Spec, own: &mut BTreeMap<String, Option<(usize, usize)>>) {
        for (index, device) in spec.devices.iter().enumerate() {
            let name = format!("{}={}", spec.kind, device.name);
            let found = Some((self.specs.len(), index));
            own.entry(name).and_modify(|known| *known = None).or_insert(found);
        }
        self.specs.push((path, spec));
    }

    /// Full names of all devices.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|(_, found)| found.is_some()).map(|(name, _)| name.as_str())
    }

    /// What `requests` do to a container.
    ///
    /// # Errors
    /// With docker's words: nobody has such devices.
    pub(crate) fn injection(&self, requests: &[DeviceRequest]) -> Result<Injection> {
        let mut names: Vec<String> = Vec::new();
        for request in requests {
            let wanted = match request {
                DeviceRequest::Cdi { names } => names.clone(),
                DeviceRequest::Gpus { .. } => self.gpus(request)?,
            };
            // Once is enough.
            for name in wanted {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let missing: Vec<&str> =
            names.iter().filter(|n| self.devices.get(*n).copied().flatten().is_none()).map(String::as_str).collect();
        if !missing.is_empty() {
            let broken = self.broken.iter().map(|why| format!("; {why}")).collect::<String>();
            let text = format!("CDI device injection failed: unresolvable CDI devices {}{broken}", missing.join(", "));
            return Err(Error::invalid(text));
        }
        let mut injection = Injection::default();
        let mut used = Vec::new();
        for (spec, device) in names.iter().filter_map(|name| self.devices.get(name).copied().flatten()) {
            let Some((path, spec_of)) = self.specs.get(spec) else { continue };
            let fail = |why: String| Error::invalid(format!("CDI device injection failed: {}: {why}", path.display()));
            // What holds for all devices of a file comes first, once.
            if !used.contains(&spec) {
                used.push(spec);
                injection.annotate(spec_of.annotations.as_ref());
                if let Some(edits) = &spec_of.container_edits {
                    injection.add(edits).map_err(fail)?;
                }
            }
            if let Some(device) = spec_of.devices.get(device) {
                injection.annotate(device.annotations.as_ref());
                if let Some(edits) = &device.container_edits {
                    injection.add(edits).map_err(fail)?;
                }
            }
        }
        Ok(injection)
    }

    /// `--gpus`: by the devices of a vendor of them.
    fn gpus(&self, request: &DeviceRequest) -> Result<Vec<String>> {
        let DeviceRequest::Gpus { driver, count, ids, capabilities } = request else { return Ok(Vec::new()) };
        let of_kind = |kind: &str| -> Vec<String> {
            let prefix = format!("{kind}=");
            let plain = |name: &&str| name.strip_prefix(&prefix).is_some_and(|device| device != "all");
            self.names().filter(plain).map(str::to_owned).collect()
        };
        let kinds = GPU_KINDS.iter().filter(|(name, _)| driver.is_empty() || driver == name);
        let Some((kind, devices)) = kinds.map(|(_, kind)| (*kind, of_kind(kind))).find(|(_, found)| !found.is_empty())
        else {
            let all: Vec<String> = capabilities.iter().map(|all| format!("[{}]", all.join(" "))).collect();
            let (driver, all) = (driver, all.join(" "));
            return Err(Error::invalid(format!(
                "could not select device driver {driver:?} with capabilities: [{all}]"
            )));
        };
        if !ids.is_empty() {
            return Ok(ids.iter().map(|id| format!("{kind}={id}")).collect());
        }
        let all = format!("{kind}=all");
        match usize::try_from(*count) {
            Err(_) if self.devices.contains_key(&all) => Ok(vec![all]),
            Err(_) => Ok(devices),
            Ok(count) if count > devices.len() => {
                Err(Error::invalid(format!("{count} GPUs are asked for, and there are {} of {kind}", devices.len())))
            }
            Ok(count) => Ok(devices.into_iter().take(count).collect()),
        }
    }
}

/// The specifications in a folder, which need not be there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let known =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml") && path.is_file();
    let mut found: Vec<PathBuf> = entries.filter(known).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(specs: &[(&str, &str)]) -> Registry {
        let mut registry = Registry::default();
        for (dir, text) in specs {
            let mut own = BTreeMap::new();
            registry.add(PathBuf::from(dir), Spec::parse(text, false).unwrap(), &mut own);
            registry.devices.extend(own);
        }
        registry
    }

    const GPUS: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits: {env: [ALL=1]}\ndevices:\n\
        - name: \"0\"\n  containerEdits: {env: [ZERO=1]}\n- name: \"1\"\n  containerEdits: {env: [ONE=1]}\n\
        - name: all\n  containerEdits: {env: [EACH=1]}\n";

    fn gpus(count: i64, ids: &[&str]) -> DeviceRequest {
        DeviceRequest::Gpus {
            driver: String::new(),
            count,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            capabilities: vec![vec!["gpu".into()]],
        }
    }

    fn cdi(name: &str) -> DeviceRequest {
        DeviceRequest::Cdi { names: vec![name.into()] }
    }

    #[test]
    fn the_files_edits_come_first_and_once() {
        let registry = registry(&[("/a", GPUS)]);
        let env = |requests: &[DeviceRequest]| registry.injection(requests).unwrap().env;
        assert_eq!(env(&[cdi("nvidia.com/gpu=1"), cdi("nvidia.com/gpu=0")]), ["ALL=1", "ONE=1", "ZERO=1"]);
        assert_eq!(env(&[cdi("nvidia.com/gpu=1"), cdi("nvidia.com/gpu=1")]), ["ALL=1", "ONE=1"]);
        assert_eq!(env(&[gpus(-1, &[])]), ["ALL=1", "EACH=1"]);
        assert_eq!(env(&[gpus(1, &[])]), ["ALL=1", "ZERO=1"]);
        assert_eq!(env(&[gpus(0, &["1"])]), ["ALL=1", "ONE=1"]);
        assert!(registry.injection(&[gpus(3, &[])]).unwrap_err().message().contains("there are 2"));
    }

    #[test]
    fn what_nobody_has_is_named() {
        let said = |requests: &[DeviceRequest]| registry(&[]).injection(requests).unwrap_err().message().to_owned();
        assert_eq!(said(&[cdi("v.com/c=x")]), "CDI device injection failed: unresolvable CDI devices v.com/c=x");
        assert_eq!(said(&[gpus(-1, &[])]), "could not select device driver \"\" with capabilities: [[gpu]]");
    }

    #[test]
    fn later_folders_override_and_equals_contradict() {
        let one = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: x, containerEdits: {env: [A=1]}}]";
        let two = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: x, containerEdits: {env: [A=2]}}]";
        assert_eq!(registry(&[("/a", one), ("/b", two)]).injection(&[cdi("v.com/c=x")]).unwrap().env, ["A=2"]);
        let (mut same, mut own) = (Registry::default(), BTreeMap::new());
        same.add("/a/1".into(), Spec::parse(one, false).unwrap(), &mut own);
        same.add("/a/2".into(), Spec::parse(two, false).unwrap(), &mut own);
        same.devices.extend(own);
        assert!(same.injection(&[cdi("v.com/c=x")]).is_err());
        assert_eq!(same.names().count(), 0);
    }
}
