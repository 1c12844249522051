//! A container's whole file tree, read from outside: through its first process while it runs, and otherwise by a detached overlay that only
//! this process sees and that is gone when it lets go.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::Root;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::path::PathBuf;

/// The root of a running container.
///
/// # Errors
/// When the process has just ended.
pub(crate) fn of_process(pid: i32) -> Result<Root> {
    Root::open_host(format!("/proc/{pid}/root")).system("cannot open the container's root")
}

/// The layers, top first, as one tree; nothing in it can be changed.
///
/// # Errors
/// When the kernel refuses the overlay.
pub(crate) fn of_layers(layers: &[PathBuf]) -> Result<Root> {
    match layers {
        [] => Err(Error::system("a file tree without layers")),
        [one] => Root::open_host(one).system("cannot open a layer"),
        _ => overlay(layers),
    }
}

fn overlay(layers: &[PathBuf]) -> Result<Root> {
    let what = "cannot make a view of the container's files";
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).system(what)?;
    for (key, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"), ("xino", "off")] {
        // An older kernel may not know one of them; then it doesn't do it either.
        let _ = fsconfig_set_string(&context, key, value);
    }
    for layer in layers {
        fsconfig_set_string(&context, "lowerdir+", layer.as_path()).system(what)?;
    }
    fsconfig_set_flag(&context, "ro").system(what)?;
    fsconfig_create(&context).system(what)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).system(what)?;
    Ok(Root::from_fd(mount))
}
