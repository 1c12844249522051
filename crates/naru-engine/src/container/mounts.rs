//! The mounts of a new container: each source decided, checked and, for volumes, made.

use super::ResolvedMount;
use crate::Engine;
use crate::types::{ContainerConfig, HostSettings, MountKind, MountRequest, MountView};
use naru_base::{Error, Id, Result};
use naru_runtime::plan::Propagation;
use std::path::{Component, Path, PathBuf};

impl Engine {
    /// Decides every mount: the caller's, those of `volumes_from`, and an anonymous volume for each of the image's volume paths
    /// that nothing else covers. Sorted so that a parent comes before what is below it. The volumes are reserved for `id`, also after an error.
    pub(crate) fn resolve_mounts(
        &self,
        id: &Id,
        config: &ContainerConfig,
        host: &HostSettings,
    ) -> Result<Vec<ResolvedMount>> {
        let mut mounts: Vec<ResolvedMount> = Vec::new();
        self.resolve_all(id, config, host, &mut mounts)?;
        mounts.sort_by_key(|m| Path::new(&m.view.target).components().count());
        Ok(mounts)
    }

    fn resolve_all(
        &self,
        id: &Id,
        config: &ContainerConfig,
        host: &HostSettings,
        mounts: &mut Vec<ResolvedMount>,
    ) -> Result<()> {
        for request in &host.mounts {
            let target = clean_target(&request.target)?;
            if mounts.iter().any(|m| m.view.target == target) {
                return Err(Error::invalid(format!("Duplicate mount point: {target}")));
            }
            mounts.push(self.resolve(id, request, &target)?);
        }
        for source in &host.volumes_from {
            let (name, mode) = source.split_once(':').unwrap_or((source, ""));
            if name.is_empty() {
                return Err(Error::invalid("volumes-from specification cannot be an empty string"));
            }
            let readonly = lent_readonly(mode)?;
            // Not found is what a client takes for the image.
            let donor = self.containers.find(name).map_err(|e| e.with_class(naru_base::Class::InvalidParameter))?;
            for mut mount in donor.read(|r| r.mounts.clone()) {
                let same = mounts.iter().position(|m| m.view.target == mount.view.target);
                if mount.view.kind == "tmpfs" || same.is_some_and(|at| !mounts[at].borrowed) {
                    continue;
                }
                mount.view.writable &= !readonly;
                mount.view.mode.clear();
                mount.anonymous = false;
                mount.borrowed = true;
                // Of two donors the later one's.
                match same {
                    Some(at) => mounts[at] = mount,
                    None => mounts.push(mount),
                }
            }
        }
        for path in &config.volumes {
            // An image may leave out the first slash.
            let target = clean_target(&format!("/{path}"))?;
            if !mounts.iter().any(|m| m.view.target == target) {
                let kind = MountKind::Volume {
                    name: None,
                    no_copy: false,
                    subpath: String::new(),
                    labels: std::collections::BTreeMap::new(),
                    driver: String::new(),
                    options: std::collections::BTreeMap::new(),
                };
                let request = MountRequest { target: target.clone(), kind, readonly: false, mode: String::new() };
                let mut mount = self.resolve(id, &request, &target)?;
                mount.view.mode.clear();
                mounts.push(mount);
            }
        }
        Ok(())
    }

    fn resolve(&self, id: &Id, request: &MountRequest, target: &str) -> Result<ResolvedMount> {
        let mut view = MountView {
            kind: String::new(),
            name: String::new(),
            source: String::new(),
            target: target.to_owned(),
            driver: String::new(),
            mode: request.mode.clone(),
            writable: !request.readonly,
            propagation: String::new(),
        };
        let mut anonymous = false;
        let source = match &request.kind {
            MountKind::Bind { source, create_source, propagation, .. } => {
                check_bind_source(source, *create_source)?;
                view.kind = "bind".into();
                view.propagation = propagation_text(*propagation).into();
                source.clone()
            }
            MountKind::Volume { name, labels, driver, options, subpath, .. } => {
                let (volume, made) = self.volumes.ensure_for(Some(id), name.as_deref(), labels, driver, options)?;
                if made {
                    self.volume_event("create", &volume.name);
                }
                if !subpath.is_empty() && !volume.is_elsewhere() {
                    self.volumes.check_subpath(&volume, subpath)?;
                }
                anonymous = name.is_none();
                view.kind = "volume".into();
                view.name.clone_from(&volume.name);
                view.driver = "local".into();
                // docker shows `z` for a volume that is asked for without options.
                if view.mode.is_empty() {
                    view.mode = "z".into();
                }
                volume.mountpoint
            }
            MountKind::Tmpfs { .. } => {
                view.kind = "tmpfs".into();
                PathBuf::new()
            }
            MountKind::Image { name, .. } => {
                view.kind = "image".into();
                view.source.clone_from(name);
                view.writable = false;
                self.images.find(name)?;
                PathBuf::new()
            }
        };
        if !source.as_os_str().is_empty() {
            view.source = source.to_string_lossy().into_owned();
        }
        Ok(ResolvedMount { view, kind: request.kind.clone(), source, anonymous, borrowed: false })
    }
}

/// Whether a container that takes another's mounts with `mode` has them read-only. It may say that, and what docker takes beside it.
fn lent_readonly(mode: &str) -> Result<bool> {
    let mut seen = [0; 3];
    for word in mode.split(',').filter(|_| !mode.is_empty()) {
        let group = match word {
            "ro" | "rw" => 0,
            "z" | "Z" => 1,
            "consistent" | "cached" | "delegated" => 2,
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        };
        seen[group] += 1;
    }
    if seen.iter().any(|&n| n > 1) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    Ok(mode.split(',').any(|word| word == "ro"))
}

/// The target, absolute and without `.`, `..` or doubled slashes.
fn clean_target(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let mut out = PathBuf::from("/");
    for part in Path::new(target).components() {
        match part {
            Component::Normal(p) => out.push(p),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    if out == Path::new("/") {
        return Err(Error::invalid(format!("invalid specification: destination can't be '/' in {target:?}")));
    }
    Ok(out.to_string_lossy().into_owned())
}

fn check_bind_source(source: &Path, create: bool) -> Result<()> {
    if !source.is_absolute() {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
            source.display()
        )));
    }
    match rustix::fs::stat(source) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::NOENT) if create => std::fs::create_dir_all(source)
            .map_err(|e| Error::system(format!("error while creating mount source path '{}': {e}", source.display()))),
        Err(rustix::io::Errno::NOENT) => Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            source.display()
        ))),
        Err(e) => Err(Error::invalid(format!("invalid mount config for type \"bind\": {}: {e}", source.display()))),
    }
}

/// docker's word for a propagation.
pub(crate) fn propagation_text(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Rprivate => "rprivate",
        Propagation::Private => "private",
        Propagation::Rshared => "rshared",
        Propagation::Shared => "shared",
        Propagation::Rslave => "rslave",
        Propagation::Slave => "slave",
        Propagation::Runbindable => "runbindable",
        Propagation::Unbindable => "unbindable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_has_a_mode() {
        assert_eq!(["", "rw", "z,rw", "cached"].map(|m| lent_readonly(m).unwrap()), [false; 4]);
        assert_eq!(["ro", "ro,z", "Z,ro"].map(|m| lent_readonly(m).unwrap()), [true; 3]);
        for bad in ["nocopy", "shared", "ro,rw", "ro:z", "z,Z", "ro,"] {
            assert_eq!(lent_readonly(bad).unwrap_err().message(), format!("invalid mode: {bad}"));
        }
    }

    #[test]
    fn targets_are_cleaned() {
        assert_eq!(clean_target("/a//b/./c/../d/").unwrap(), "/a/b/d");
        for bad in ["a", "", "/", "/a/..", "/../.."] {
            assert!(clean_target(bad).is_err(), "{bad}");
        }
    }
}
