//! A tmpfs that begins with what the root has in its place (`tmpcopyup`).

use crate::StartError;
use crate::mounts::PreparedMount;
use crate::plan::Mount;
use naru_fs::{Root, copy};
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown};
use std::path::Path;

/// Fills those of `mounts` that ask for it, before the child exists, out of `root`, which is attached nowhere yet.
pub(crate) fn fill(mounts: &[Mount], prepared: &[PreparedMount], root: &Root) -> Result<(), StartError> {
    for (mount, prepared) in mounts.iter().zip(prepared).filter(|(mount, _)| mount.flags.copy_up) {
        let Some(tree) = prepared.detached() else { continue };
        let fail = |e: naru_fs::Error| StartError::system(format!("tmpcopyup of {}: {e}", mount.target.display()));
        let Ok(source) = root.sub(&mount.target) else { continue };
        let tree = rustix::io::fcntl_dupfd_cloexec(tree, 3).map_err(|e| StartError::system(e.to_string()))?;
        copy_folder(&source, &Root::from_fd(tree), Path::new("/")).map_err(fail)?;
    }
    Ok(())
}

/// Folders, files and links with their owners and modes; other kinds stay behind.
fn copy_folder(from: &Root, to: &Root, path: &Path) -> naru_fs::Result<()> {
    take_after(&from.stat(path)?, to, path)?;
    for name in from.list(path)? {
        let path = path.join(name);
        let stat = from.lstat(&path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                to.create_dir_all(&path, Mode::RWXU)?;
                copy_folder(from, to, &path)?;
            }
            FileType::RegularFile => {
                let source = from.open(&path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
                let target = to.create_file(&path, Mode::RUSR | Mode::WUSR)?;
                copy::file(&source, &target)?;
                take_after(&stat, to, &path)?;
            }
            FileType::Symlink => to.symlink(from.read_link(&path)?, &path)?,
            _ => {}
        }
    }
    Ok(())
}

fn take_after(stat: &Stat, to: &Root, path: &Path) -> naru_fs::Result<()> {
    let target = to.open(path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(&target, Some(owner.0), Some(owner.1)).map_err(|e| naru_fs::Error::new("chown", path, e))?;
    fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(|e| naru_fs::Error::new("chmod", path, e))
}
