//! `Binds`, `Mounts` and `Tmpfs`.

use crate::dto::host_config::{HostConfig, Mount, TmpfsOptions};
use naru_base::{Error, Result};
use naru_engine::types::{MountKind, MountRequest};
use naru_runtime::plan::Propagation;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All mounts, in the caller's order: binds, mounts, tmpfs.
///
/// # Errors
/// With docker's texts, also for two on one path.
pub(crate) fn mounts(host: &HostConfig) -> Result<Vec<MountRequest>> {
    let mut all = Vec::new();
    for bind in host.binds.iter().flatten() {
        all.push(parse_bind(bind, &host.volume_driver)?);
    }
    for mount in host.mounts.iter().flatten() {
        all.push(decode(mount).map_err(|why| wrap(&mount.r#type, &why))?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        all.push(tmpfs(target, options)?);
    }
    for (at, mount) in all.iter().enumerate() {
        if all[..at].iter().any(|m| trimmed(&m.target) == trimmed(&mount.target)) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", trimmed(&mount.target))));
        }
    }
    Ok(all)
}

fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

fn wrap(kind: &str, why: &str) -> Error {
    Error::invalid(format!("invalid mount config for type {kind:?}: {why}"))
}

/// The options text of a bind.
#[derive(Debug, Default)]
struct Mode {
    readonly: bool,
    no_copy: bool,
    propagation: Option<Propagation>,
}

/// Reads it; each kind of option may come once.
fn parse_mode(text: &str) -> Option<Mode> {
    let mut mode = Mode::default();
    if text.is_empty() {
        return Some(mode);
    }
    let (mut writing, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    let mut propagations = 0;
    for word in text.split(',') {
        match word {
            "ro" => {
                mode.readonly = true;
                writing += 1;
            }
            "rw" => writing += 1,
            "z" | "Z" => label += 1,
            "nocopy" => {
                mode.no_copy = true;
                copy += 1;
            }
            "consistent" | "cached" | "delegated" => consistency += 1,
            other => {
                mode.propagation = Some(propagation(other)?);
                propagations += 1;
            }
        }
    }
    [writing, label, copy, consistency, propagations].iter().all(|&n| n <= 1).then_some(mode)
}

fn propagation(text: &str) -> Option<Propagation> {
    Some(match text {
        "rprivate" => Propagation::Rprivate,
        "private" => Propagation::Private,
        "rshared" => Propagation::Rshared,
        "shared" => Propagation::Shared,
        "rslave" => Propagation::Rslave,
        "slave" => Propagation::Slave,
        _ => return None,
    })
}

/// `[source:]target[:options]`.
fn parse_bind(text: &str, volume_driver: &str) -> Result<MountRequest> {
    let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(bad()),
        [target] => ("", target, ""),
        [_, mode] if !mode.is_empty() && parse_mode(mode).is_some() => return Err(bad()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(bad()),
    };
    let options = parse_mode(mode).ok_or_else(|| Error::invalid(format!("invalid mode: {mode}")))?;
    let absolute = source.starts_with('/');
    let kind = if absolute { "bind" } else { "volume" };
    check_target(target).map_err(|why| Error::invalid(format!("{}: {}", bad(), wrap(kind, &why))))?;
    // The long form says the same of it.
    let extra = |field: &str| {
        Err(Error::invalid(format!("{}: {}", bad(), wrap(kind, &format!("field {field} must not be specified")))))
    };
    let kind = if absolute {
        if options.no_copy {
            return extra("VolumeOptions");
        }
        MountKind::Bind {
            source: clean(source),
            create_source: true,
            recursive: true,
            propagation: options.propagation.unwrap_or_default(),
            writable_below: false,
        }
    } else {
        if options.propagation.is_some() {
            return extra("BindOptions");
        }
        MountKind::Volume {
            name: volume_name(source),
            no_copy: options.no_copy,
            subpath: String::new(),
            labels: BTreeMap::new(),
            driver: volume_driver.to_owned(),
            options: BTreeMap::new(),
        }
    };
    Ok(MountRequest { target: target.to_owned(), kind, readonly: options.readonly, mode: mode.to_owned() })
}

/// What a volume may be called is its driver's matter.
fn volume_name(source: &str) -> Option<String> {
    (!source.is_empty()).then(|| source.to_owned())
}

/// Without `.`, `//` and `..`, as Go's `filepath.Clean` does it; nothing is looked up.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn check_target(target: &str) -> std::result::Result<(), String> {
    if target.is_empty() {
        return Err("field Target must not be empty".into());
    }
    if clean(target).as_os_str() == "/" && target.starts_with('/') {
        return Err("invalid specification: destination can't be '/'".into());
    }
    absolute(target)
}

fn absolute(path: &str) -> std::result::Result<(), String> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(format!("invalid mount path: '{path}' mount path must be absolute"))
    }
}

/// A mount in the long form.
fn decode(mount: &Mount) -> std::result::Result<MountRequest, String> {
    let extra =
        |given: bool, name: &str| if given { Err(format!("field {name} must not be specified")) } else { Ok(()) };
    if mount.r#type.is_empty() {
        return Err("mount type unknown".into());
    }
    check_target(&mount.target)?;
    let kind = match mount.r#type.as_str() {
        "bind" => {
            extra(mount.volume_options.is_some(), "VolumeOptions")?;
            extra(mount.tmpfs_options.is_some(), "TmpfsOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            bind(mount)?
        }
        "volume" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.tmpfs_options.is_some(), "TmpfsOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            volume(mount)?
        }
        "tmpfs" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.volume_options.is_some(), "VolumeOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            extra(!mount.source.is_empty(), "Source")?;
            MountKind::Tmpfs { options: tmpfs_options(mount.tmpfs_options.as_ref(), mount.read_only)? }
        }
        "image" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.volume_options.is_some(), "VolumeOptions")?;
            extra(mount.tmpfs_options.is_some(), "TmpfsOptions")?;
            image(mount)?
        }
        _ => return Err("mount type unknown".into()),
    };
    Ok(MountRequest { target: mount.target.clone(), kind, readonly: mount.read_only, mode: String::new() })
}

fn bind(mount: &Mount) -> std::result::Result<MountKind, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    absolute(&mount.source)?;
    let options = mount.bind_options.clone().unwrap_or_default();
    let mode = options.propagation.as_str();
    let propagation = match mode {
        "" => Propagation::default(),
        mode => propagation(mode).ok_or_else(|| format!("invalid propagation mode: {mode}"))?,
    };
    if options.read_only_force_recursive && options.read_only_non_recursive {
        return Err("ReadOnlyForceRecursive conflicts with ReadOnlyNonRecursive".into());
    }
    Ok(MountKind::Bind {
        source: clean(&mount.source),
        create_source: options.create_mountpoint,
        recursive: !options.non_recursive,
        propagation,
        writable_below: options.read_only_non_recursive,
    })
}

fn volume(mount: &Mount) -> std::result::Result<MountKind, String> {
    if mount.source.is_empty() && mount.read_only {
        return Err("must not set ReadOnly mode when using anonymous volumes".into());
    }
    let options = mount.volume_options.clone().unwrap_or_default();
    check_subpath(&options.subpath)?;
    let driver = options.driver_config.unwrap_or_default();
    Ok(MountKind::Volume {
        name: volume_name(&mount.source),
        no_copy: options.no_copy,
        subpath: options.subpath,
        labels: options.labels.unwrap_or_default(),
        driver: driver.name,
        options: driver.options.unwrap_or_default(),
    })
}

fn check_subpath(subpath: &str) -> std::result::Result<(), String> {
    let inside = !subpath.starts_with('/') && subpath.split('/').all(|p| p != "..");
    if inside { Ok(()) } else { Err("subpath must be a relative path within the volume".into()) }
}

fn image(mount: &Mount) -> std::result::Result<MountKind, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    let subpath = mount.image_options.as_ref().map_or("", |o| o.subpath.as_str());
    check_subpath(subpath)?;
    Ok(MountKind::Image { name: mount.source.clone(), subpath: subpath.to_owned() })
}

/// docker's `ConvertTmpfsOptions`.
fn tmpfs_options(options: Option<&TmpfsOptions>, readonly: bool) -> std::result::Result<Vec<String>, String> {
    let mut all = Vec::new();
    if readonly {
        all.push("ro".to_owned());
    }
    let Some(options) = options else { return Ok(all) };
    if options.size_bytes < 0 {
        return Err(format!("invalid tmpfs size: {}", options.size_bytes));
    }
    if options.mode != 0 {
        all.push(format!("mode={:o}", options.mode & 0o7777));
    }
    if options.size_bytes > 0 {
        all.push(format!("size={}", options.size_bytes));
    }
    for pair in options.options.iter().flatten() {
        let option = match &pair[..] {
            [flag] => flag.clone(),
            [key, value] => format!("{key}={value}"),
            _ => return Err("invalid option array length".into()),
        };
        if !is_tmpfs_option(&option) {
            return Err(format!("invalid tmpfs option {option:?}"));
        }
        all.push(option);
    }
    Ok(all)
}

/// `--tmpfs target:options`.
fn tmpfs(target: &str, options: &str) -> Result<MountRequest> {
    check_target(target).map_err(Error::invalid)?;
    let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(ToOwned::to_owned).collect();
    if let Some(bad) = options.iter().find(|o| !is_tmpfs_option(o)) {
        return Err(Error::invalid(format!("invalid tmpfs option {bad:?}")));
    }
    let readonly = options.iter().any(|o| o == "ro");
    Ok(MountRequest { target: target.to_owned(), kind: MountKind::Tmpfs { options }, readonly, mode: String::new() })
}

fn is_tmpfs_option(option: &str) -> bool {
    match option.split_once('=') {
        Some((key, value)) => {
            matches!(key, "size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol") && !value.is_empty()
        }
        None => matches!(
            option,
            "defaults"
                | "ro"
                | "rw"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "exec"
                | "noexec"
                | "sync"
                | "async"
                | "dirsync"
                | "remount"
                | "mand"
                | "nomand"
                | "atime"
                | "noatime"
                | "diratime"
                | "nodiratime"
                | "relatime"
                | "norelatime"
                | "strictatime"
                | "nostrictatime"
                | "bind"
                | "rbind"
                | "private"
                | "rprivate"
                | "shared"
                | "rshared"
                | "slave"
                | "rslave"
                | "unbindable"
                | "runbindable"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::host_config::{BindOptions, VolumeOptions};
    use proptest::prelude::*;

    fn text(result: Result<MountRequest>) -> String {
        result.unwrap_err().message().to_owned()
    }

    #[test]
    fn binds_of_docker() {
        let bind = |t: &str| parse_bind(t, "").unwrap();
        let got = bind("/a/../b/:/x:ro,z,rslave");
        assert_eq!((got.target.as_str(), got.readonly, got.mode.as_str()), ("/x", true, "ro,z,rslave"));
        assert_eq!(
            got.kind,
            MountKind::Bind {
                source: "/b".into(),
                create_source: true,
                recursive: true,
                propagation: Propagation::Rslave,
                writable_below: false,
            }
        );
        let MountKind::Volume { name, no_copy, .. } = bind("vol:/x:nocopy").kind else { panic!() };
        assert_eq!((name.as_deref(), no_copy), (Some("vol"), true));
        let MountKind::Volume { name, .. } = bind("/x").kind else { panic!() };
        assert_eq!(name, None);
    }

    #[test]
    fn malformed_binds_are_refused_in_dockers_words() {
        let bad = |t: &str| text(parse_bind(t, ""));
        assert_eq!(
            bad("a:b"),
            "invalid volume specification: 'a:b': invalid mount config for type \"volume\": invalid mount path: 'b' mount path must be absolute"
        );
        assert_eq!(bad("/a:/b:zz"), "invalid mode: zz");
        assert_eq!(bad("/a:/b:zz:e"), "invalid volume specification: '/a:/b:zz:e'");
        assert_eq!(bad("/a:ro"), "invalid volume specification: '/a:ro'");
        assert_eq!(bad(":/b"), "invalid volume specification: ':/b'");
        assert_eq!(bad("/a:/b:ro,rw"), "invalid mode: ro,rw");
        assert!(bad("/a:/").ends_with("destination can't be '/'"));
        assert_eq!(
            bad("/a:/b:nocopy"),
            "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified"
        );
        assert_eq!(
            bad("a:/b:shared"),
            "invalid volume specification: 'a:/b:shared': invalid mount config for type \"volume\": field BindOptions must not be specified"
        );
    }

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { r#type: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
    }

    fn refused(mount: Mount) -> String {
        let host = HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() };
        mounts(&host).unwrap_err().message().to_owned()
    }

    #[test]
    fn long_forms_are_checked() {
        assert_eq!(refused(mount("foo", "/a", "/b")), "invalid mount config for type \"foo\": mount type unknown");
        assert_eq!(
            refused(mount("bind", "nope", "/b")),
            "invalid mount config for type \"bind\": invalid mount path: 'nope' mount path must be absolute"
        );
        assert_eq!(
            refused(mount("bind", "", "/b")),
            "invalid mount config for type \"bind\": field Source must not be empty"
        );
        assert_eq!(
            refused(mount("volume", "v", "")),
            "invalid mount config for type \"volume\": field Target must not be empty"
        );
        assert_eq!(
            refused(mount("tmpfs", "/a", "/b")),
            "invalid mount config for type \"tmpfs\": field Source must not be specified"
        );
        let mut anonymous = mount("volume", "", "/b");
        anonymous.read_only = true;
        assert!(refused(anonymous).ends_with("must not set ReadOnly mode when using anonymous volumes"));
        let mut escape = mount("volume", "v", "/b");
        escape.volume_options = Some(VolumeOptions { subpath: "a/../../b".into(), ..VolumeOptions::default() });
        assert!(refused(escape).ends_with("subpath must be a relative path within the volume"));
        let mut shared = mount("bind", "/a", "/b");
        shared.bind_options = Some(BindOptions { propagation: "x".into(), ..BindOptions::default() });
        assert!(refused(shared).ends_with("invalid propagation mode: x"));
    }

    #[test]
    fn tmpfs_of_both_forms() {
        let mut long = mount("tmpfs", "", "/t");
        long.tmpfs_options = Some(TmpfsOptions { size_bytes: 1024, mode: 0o1777, options: None });
        let short = BTreeMap::from([("/u".to_owned(), "rw,size=64k".to_owned())]);
        let host = HostConfig { mounts: Some(vec![long]), tmpfs: Some(short), ..HostConfig::default() };
        let got = mounts(&host).unwrap();
        assert_eq!(got[0].kind, MountKind::Tmpfs { options: vec!["mode=1777".into(), "size=1024".into()] });
        assert_eq!(got[1].kind, MountKind::Tmpfs { options: vec!["rw".into(), "size=64k".into()] });
        assert_eq!(text(tmpfs("/a", "foo=1")), "invalid tmpfs option \"foo=1\"");
        assert_eq!(text(tmpfs("a", "")), "invalid mount path: 'a' mount path must be absolute");
    }

    #[test]
    fn a_path_is_mounted_on_once() {
        let host = HostConfig { binds: Some(vec!["/a:/b".into(), "/c:/b/".into()]), ..HostConfig::default() };
        assert_eq!(mounts(&host).unwrap_err().message(), "Duplicate mount point: /b");
    }

    proptest! {
        #[test]
        fn a_bind_that_passes_is_absolute_and_no_root(text in "[a-z/.:,]{0,24}") {
            if let Ok(got) = parse_bind(&text, "") {
                prop_assert!(got.target.starts_with('/'));
                prop_assert!(clean(&got.target).as_os_str() != "/");
                if let MountKind::Bind { source, .. } = got.kind {
                    prop_assert!(source.is_absolute() && source.components().all(|c| c != std::path::Component::ParentDir));
                }
            }
        }
    }
}
