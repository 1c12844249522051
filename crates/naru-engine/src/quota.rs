//! Limits on what a folder may hold: project quotas of its file system (ext4, xfs; mounted with `prjquota` or `pquota`).
//!
//! A limited folder has a project of its own, which everything below it inherits. Projects are chosen at random among those that the file system
//! knows no file and no limit of, so engines that share a file system (dockerd, too) stay out of each other's way; nothing of it is in a record:
//! the folder itself has its number.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::Root;
use naru_sys::quota::{self, Project};
use rustix::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

/// As many projects are tried before it is given up.
const TRIES: u32 = 64;
/// Projects below this are left to people, who number theirs from 1, as dockerd does.
const FIRST: u32 = 1 << 20;
/// Nobody else of this engine chooses meanwhile.
static CHOOSING: Mutex<()> = Mutex::new(());

/// Whether the file system of `folder` keeps folders below their limits.
pub(crate) fn is_supported(folder: &Path) -> bool {
    Root::open_host(folder).is_ok_and(|folder| quota::enforces_projects(&folder))
}

/// Keeps the folder `name` in `parent`, which has as good as nothing yet, below `bytes`: also one that has been, if its limit is another now.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn limit(parent: &Root, name: &str, bytes: u64) -> Result<()> {
    let what = || format!("cannot limit {name} to {bytes} bytes");
    let folder = parent.open_dir(name).system(what())?;
    if let Some(id) = own_project(parent, &folder) {
        return quota::set_limit(&folder, id, bytes).system(what());
    }
    let id = {
        let _choosing = crate::lock(&CHOOSING);
        let id = choose(&folder).map_err(|e| e.context(what()))?;
        // From here on it is somebody's.
        quota::set_limit(&folder, id, bytes).system(what())?;
        id
    };
    let given = give(parent, &folder, id);
    if given.is_err() {
        let _ = quota::set_limit(&folder, id, 0);
    }
    given.system(what())
}

/// What is put in the place of the limited folder `name` later has its limit: the folder `other` beside it.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn share(parent: &Root, name: &str, other: &str) -> Result<()> {
    let what = || format!("cannot limit {other} as {name}");
    let folder = parent.open_dir(name).system(what())?;
    let Some(id) = own_project(parent, &folder) else { return Ok(()) };
    give(parent, &parent.open_dir(other).system(what())?, id).system(what())
}

/// The folder `name` in `parent` is going to be removed: its project is nobody's.
pub(crate) fn lift(parent: &Root, name: &str) {
    let Ok(folder) = parent.open_dir(name) else { return };
    let Some(id) = own_project(parent, &folder) else { return };
    if let Err(error) = quota::set_limit(&folder, id, 0) {
        tracing::warn!("cannot lift the limit of project {id}: {error}");
    }
}

/// The project that [`limit`] gave to a folder: not one that comes from above.
fn own_project(parent: &Root, folder: impl AsFd) -> Option<u32> {
    let own = quota::project(folder).ok().filter(|p| p.id != 0 && p.inherited)?;
    let above = quota::project(parent).ok()?;
    (above.id != own.id).then_some(own.id)
}

fn give(parent: &Root, folder: impl AsFd, id: u32) -> rustix::io::Result<()> {
    // Nothing is moved between projects in a folder that hands on one of its own (EXDEV): this one no longer does.
    let above = quota::project(parent)?;
    if above.inherited {
        quota::set_project(parent, Project { inherited: false, ..above })?;
    }
    quota::set_project(folder, Project { id, inherited: true })
}

fn choose(folder: impl AsFd) -> Result<u32> {
    for _ in 0..TRIES {
        let mut bytes = [0; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).system("no random number")?;
        let id = (u32::from_ne_bytes(bytes) >> 1) | FIRST;
        if quota::is_free(&folder, id).system("cannot read the file system's quotas")? {
            return Ok(id);
        }
    }
    Err(Error::system("the file system has no project left"))
}
