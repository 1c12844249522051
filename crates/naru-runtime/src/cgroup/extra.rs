//! Files of a group that have no place among [`Resources`](crate::plan::Resources): an OCI configuration may name any.

use super::file;
use super::group::{Cgroup, Group};
use naru_base::{Error, Result};

impl Cgroup {
    /// Writes `value` into the file of `controller`: `v1` where it is on a v1 tree, `v2` where it is on the v2 tree. `cgroup.*` files are
    /// the v2 tree's own.
    ///
    /// # Errors
    /// A name that is no file of a group, a controller that isn't there (in that version), or write(2)'s.
    pub fn write_file(&self, controller: &str, v1: Option<&str>, v2: Option<&str>, value: &str) -> Result<()> {
        let has = |group: &&Group| {
            let own = group.hierarchy.unified && controller == "cgroup";
            own || group.hierarchy.controllers.iter().any(|known| known == controller)
        };
        let on = |unified: bool| self.groups.iter().filter(has).find(|group| group.hierarchy.unified == unified);
        let found = match (on(false).zip(v1), on(true).zip(v2)) {
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => {
                let name = v2.or(v1).unwrap_or(controller);
                return Err(Error::invalid(format!("cgroup file {name}: this host has no such controller for it")));
            }
        };
        let (group, name) = found;
        if name.contains('/') || !name.contains('.') || name.starts_with('.') {
            return Err(Error::invalid(format!("{name:?} is not a file of a cgroup")));
        }
        file::write(&group.dir.join(name), value)
    }
}
