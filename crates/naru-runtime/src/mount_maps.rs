//! Binds with id maps of their own (mount_setattr(2), MOUNT_ATTR_IDMAP).

use crate::StartError;
use crate::idmap::user_namespace;
use crate::mounts::PreparedMount;
use crate::options::MountMap;
use crate::plan::Mount;
use crate::report::errno_text;
use naru_sys::mount_attr::{MountChange, mount_setattr};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Maps the ids of those of `prepared` that `maps` names, while they are attached nowhere.
pub(crate) fn apply(
    maps: &BTreeMap<usize, MountMap>,
    mounts: &[Mount],
    prepared: &[PreparedMount],
) -> Result<(), StartError> {
    for (index, map) in maps {
        let (Some(mount), Some(tree)) = (mounts.get(*index), prepared.get(*index).and_then(PreparedMount::detached))
        else {
            return Err(StartError::invalid(format!("id map of mount #{index}, which is no bind")));
        };
        let namespace = user_namespace(&map.ids)?;
        let change =
            MountChange { id_map: Some(namespace.as_fd()), recursive: map.recursive, ..MountChange::default() };
        mount_setattr(tree.as_fd(), c"", &change).map_err(|errno| {
            let hint = if errno == Errno::INVAL { " (its file system has no id maps)" } else { "" };
            let target = mount.target.display();
            StartError::system(format!("map ids of the mount at \"{target}\": {}{hint}", errno_text(errno)))
        })?;
    }
    Ok(())
}
