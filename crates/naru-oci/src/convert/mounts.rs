//! Mounts and their options (config.md, "Mounts"; config-linux.md, "Mount options"; mount(8)).

use super::namespaces::ranges;
use crate::spec::Mount;
use naru_base::{Error, Result};
use naru_runtime::MountMap;
use naru_runtime::plan::{self, IdMap, MountFlags, MountSource, Propagation};
use naru_sys::mount_attr::MountAttr;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Set(MountAttr),
    Clear(MountAttr),
    /// One of the settings of access times, which exclude each other.
    Atime(MountAttr),
    Propagation(Propagation),
    Bind(bool),
    /// A flag of the file system as a whole, which the kernel takes by name.
    Filesystem,
    CopyUp,
    IdMap(bool),
    /// Says what is so anyway.
    Nothing,
}

/// Words of the specification; those that begin with `r` and are as good without it are in [`recursive`].
const WORDS: &[(&str, Word)] = &[
    ("ro", Word::Set(MountAttr::RDONLY)),
    ("rw", Word::Clear(MountAttr::RDONLY)),
    ("nosuid", Word::Set(MountAttr::NOSUID)),
    ("suid", Word::Clear(MountAttr::NOSUID)),
    ("nodev", Word::Set(MountAttr::NODEV)),
    ("dev", Word::Clear(MountAttr::NODEV)),
    ("noexec", Word::Set(MountAttr::NOEXEC)),
    ("exec", Word::Clear(MountAttr::NOEXEC)),
    ("nosymfollow", Word::Set(MountAttr::NOSYMFOLLOW)),
    ("symfollow", Word::Clear(MountAttr::NOSYMFOLLOW)),
    ("nodiratime", Word::Set(MountAttr::NODIRATIME)),
    ("diratime", Word::Clear(MountAttr::NODIRATIME)),
    ("noatime", Word::Atime(MountAttr::NOATIME)),
    ("strictatime", Word::Atime(MountAttr::STRICTATIME)),
    ("relatime", Word::Atime(MountAttr::empty())),
    ("atime", Word::Atime(MountAttr::empty())),
    ("nostrictatime", Word::Atime(MountAttr::empty())),
    ("norelatime", Word::Atime(MountAttr::STRICTATIME)),
    ("private", Word::Propagation(Propagation::Private)),
    ("rprivate", Word::Propagation(Propagation::Rprivate)),
    ("shared", Word::Propagation(Propagation::Shared)),
    ("rshared", Word::Propagation(Propagation::Rshared)),
    ("slave", Word::Propagation(Propagation::Slave)),
    ("rslave", Word::Propagation(Propagation::Rslave)),
    ("unbindable", Word::Propagation(Propagation::Unbindable)),
    ("runbindable", Word::Propagation(Propagation::Runbindable)),
    ("bind", Word::Bind(false)),
    ("rbind", Word::Bind(true)),
    ("sync", Word::Filesystem),
    ("async", Word::Filesystem),
    ("dirsync", Word::Filesystem),
    ("mand", Word::Filesystem),
    ("nomand", Word::Filesystem),
    ("lazytime", Word::Filesystem),
    ("nolazytime", Word::Filesystem),
    ("tmpcopyup", Word::CopyUp),
    ("idmap", Word::IdMap(false)),
    ("ridmap", Word::IdMap(true)),
    ("defaults", Word::Nothing),
    ("remount", Word::Nothing),
    ("silent", Word::Nothing),
    ("loud", Word::Nothing),
    ("iversion", Word::Nothing),
    ("noiversion", Word::Nothing),
    ("acl", Word::Nothing),
    ("noacl", Word::Nothing),
    ("nofail", Word::Nothing),
];

/// The words that `features` lists.
pub(crate) fn option_names() -> Vec<String> {
    let plain = WORDS.iter().map(|(name, _)| (*name).to_owned());
    let recursive = WORDS.iter().filter(|(_, word)| is_attribute(*word)).map(|(name, _)| format!("r{name}"));
    let mut names: Vec<String> = plain.chain(recursive).collect();
    names.sort();
    names
}

fn is_attribute(word: Word) -> bool {
    matches!(word, Word::Set(_) | Word::Clear(_) | Word::Atime(_))
}

/// Mounts, and the id maps of those that have one, by number.
pub(super) type Converted = (Vec<plan::Mount>, BTreeMap<usize, MountMap>);

/// # Errors
/// An impossible destination, a source that isn't there, or id maps that make no sense.
pub(super) fn convert(mounts: &[Mount], bundle: &Path, user: Option<&IdMap>) -> Result<Converted> {
    let (mut all, mut maps) = (Vec::new(), BTreeMap::new());
    for (index, mount) in mounts.iter().enumerate() {
        let options = Options::read(&mount.options);
        maps.extend(id_map(mount, &options, user)?.map(|map| (index, map)));
        all.push(convert_one(mount, bundle, options)?);
    }
    Ok((all, maps))
}

/// The options of one mount, read.
#[derive(Default)]
struct Options {
    flags: MountFlags,
    bind: Option<bool>,
    id_map: Option<bool>,
    filesystem: Vec<String>,
    data: Vec<String>,
}

impl Options {
    fn read(options: &[String]) -> Self {
        let mut read = Self::default();
        for option in options {
            let find = |name: &str| WORDS.iter().find(|(known, _)| *known == name).map(|(_, word)| *word);
            let recursive = || option.strip_prefix('r').and_then(find).filter(|word| is_attribute(*word));
            match (find(option), recursive()) {
                (Some(word), _) => read.plain(word, option),
                (None, Some(word)) => {
                    let flags = &mut read.flags;
                    apply(word, &mut flags.set_recursive, &mut flags.clear_recursive);
                }
                (None, None) => read.data.push(option.clone()),
            }
        }
        read
    }

    fn plain(&mut self, word: Word, option: &str) {
        let flags = &mut self.flags;
        match word {
            Word::Set(_) | Word::Clear(_) | Word::Atime(_) => apply(word, &mut flags.set, &mut flags.clear),
            Word::Propagation(kind) => flags.propagation = Some(kind),
            Word::Bind(recursive) => self.bind = Some(recursive),
            Word::Filesystem => self.filesystem.push(option.to_owned()),
            Word::CopyUp => flags.copy_up = true,
            Word::IdMap(recursive) => self.id_map = Some(recursive),
            Word::Nothing => {}
        }
    }
}

/// The last word about an attribute counts.
fn apply(word: Word, set: &mut u64, clear: &mut u64) {
    match word {
        Word::Set(attribute) => {
            *set |= attribute.bits();
            *clear &= !attribute.bits();
        }
        Word::Clear(attribute) => {
            *set &= !attribute.bits();
            *clear |= attribute.bits();
        }
        Word::Atime(attribute) => {
            // The whole field is cleared, whatever is set in it.
            *clear |= MountAttr::ATIME_FIELD.bits();
            *set = *set & !MountAttr::ATIME_FIELD.bits() | attribute.bits();
        }
        _ => {}
    }
}

fn convert_one(mount: &Mount, bundle: &Path, options: Options) -> Result<plan::Mount> {
    let target = match &mount.destination {
        path if path.as_os_str().is_empty() => return Err(Error::invalid("config.json: a mount has no destination")),
        // What runc does with old configurations.
        path => Path::new("/").join(path),
    };
    let source = match mount.r#type.as_str() {
        "cgroup" | "cgroup2" if options.bind.is_none() => MountSource::Cgroup,
        _ if is_bind(mount, &options) => bind(mount, bundle, &options)?,
        "" => return Err(Error::invalid(format!("config.json: the mount at {} has no type", target.display()))),
        kind => {
            let data = options.filesystem.iter().chain(&options.data).cloned().collect();
            let name = mount.source.clone().unwrap_or_else(|| kind.to_owned());
            MountSource::Filesystem { kind: kind.to_owned(), name, data }
        }
    };
    // Whose files are whose is said here, not chosen by the runtime.
    Ok(plan::Mount { target, source, flags: MountFlags { unmapped: true, ..options.flags } })
}

fn is_bind(mount: &Mount, options: &Options) -> bool {
    mount.r#type == "bind" || options.bind.is_some()
}

fn bind(mount: &Mount, bundle: &Path, options: &Options) -> Result<MountSource> {
    let target = mount.destination.display();
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    let source =
        source.ok_or_else(|| Error::invalid(format!("config.json: the bind mount at {target} has no source")))?;
    let path = bundle.join(source);
    if let Err(e) = std::fs::metadata(&path) {
        return Err(Error::invalid(format!("bind mount source {} for {target}: {e}", path.display())));
    }
    let propagation = options.flags.propagation.unwrap_or(Propagation::Rprivate);
    Ok(MountSource::Bind { path, subpath: PathBuf::new(), recursive: options.bind == Some(true), propagation })
}

/// The map of a bind: its own mappings, or else the container's.
fn id_map(mount: &Mount, options: &Options, user: Option<&IdMap>) -> Result<Option<MountMap>> {
    let invalid = |why: &str| Error::invalid(format!("mount at {}: {why}", mount.destination.display()));
    let recursive = options.id_map == Some(true);
    let ids = match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty(), user) {
        (true, true, _) if options.id_map.is_none() => return Ok(None),
        (true, true, Some(map)) => map.clone(),
        (true, true, None) => return Err(invalid("idmap without mappings needs a user namespace")),
        (false, false, _) => IdMap { uids: ranges(&mount.uid_mappings), gids: ranges(&mount.gid_mappings) },
        _ => return Err(invalid("both uidMappings and gidMappings must be given")),
    };
    if !is_bind(mount, options) {
        return Err(invalid("id-mapped mounts are only supported for bind-mounts"));
    }
    Ok(Some(MountMap { ids, recursive }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(options: &[&str]) -> MountFlags {
        Options::read(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()).flags
    }

    #[test]
    fn the_last_word_counts() {
        let both = flags(&["ro", "nosuid", "rw"]);
        assert_eq!((both.set, both.clear), (MountAttr::NOSUID.bits(), MountAttr::RDONLY.bits()));
        let atime = flags(&["noatime", "relatime"]);
        assert_eq!((atime.set, atime.clear), (0, MountAttr::ATIME_FIELD.bits()));
        let recursive = flags(&["rro", "rnosuid"]);
        assert_eq!(recursive.set_recursive, (MountAttr::RDONLY | MountAttr::NOSUID).bits());
        assert_eq!(flags(&["rslave"]).propagation, Some(Propagation::Rslave));
    }

    #[test]
    fn what_is_no_word_is_the_file_systems() {
        let options: Vec<String> = ["size=1k", "nosuid", "mode=755", "rubbish", "dirsync"].map(str::to_owned).into();
        let read = Options::read(&options);
        assert_eq!(
            (read.data, read.filesystem),
            (vec!["size=1k".into(), "mode=755".into(), "rubbish".into()], vec!["dirsync".into()])
        );
    }

    #[test]
    fn sources_must_be_there() {
        let mount = |source: Option<&str>| Mount {
            destination: "/x".into(),
            source: source.map(str::to_owned),
            r#type: "bind".into(),
            options: vec!["rbind".into()],
            ..Mount::default()
        };
        let (one, _) = convert(&[mount(Some("/etc"))], Path::new("/"), None).unwrap();
        assert!(matches!(&one[0].source, MountSource::Bind { recursive: true, .. }));
        for (source, text) in [(None, "has no source"), (Some("nope"), "/tmp/nope")] {
            let error = convert(&[mount(source)], Path::new("/tmp"), None).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }
}
