//! Confinement by SELinux: the labels of a container's processes and of its files, as docker gives them.
//!
//! The host's policy says which type containers have (`lxc_contexts`); two categories of its own keep each from the others' files. Labels
//! are decided once, when a container is made.

use crate::Engine;
use crate::container::Record;
use crate::types::{HostSettings, NamespaceMode};
use naru_base::{Error, Result};
use naru_fs::{Root, xattr};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// There while SELinux is on.
const STATE: &str = "/sys/fs/selinux/enforce";
const FOLDER: &str = "/etc/selinux";
const ATTRIBUTE: &str = "security.selinux";
/// Categories of a policy: c0 to c1023.
const CATEGORIES: u16 = 1024;
/// The level of the files of containers that SELinux does not confine.
const UNCONFINED_LEVEL: &str = "s0:c1022,c1023";
/// What no container may take for itself by `z` or `Z`, as docker has it.
const HOST_FOLDERS: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// What the engine knows of SELinux on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selinux {
    /// The kernel doesn't have it, or it is off.
    Absent,
    /// The engine is not to use it.
    Unused,
    /// Containers have labels; those of the policy, if it has any for containers.
    Active(Option<Contexts>),
}

/// Labels for containers before their categories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contexts {
    process: Context,
    file: Context,
}

/// `user:role:type:level`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: String,
}

impl Context {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { user, role, kind, level: parts.next().unwrap_or_default() })
    }

    fn text(&self) -> String {
        let Self { user, role, kind, level } = self;
        let colon = if level.is_empty() { "" } else { ":" };
        format!("{user}:{role}:{kind}{colon}{level}")
    }
}

impl Selinux {
    /// Looks at the host; `wanted` is the engine's setting.
    pub(crate) fn set_up(wanted: bool) -> Self {
        let there = Path::new(STATE).exists();
        if wanted && !there {
            tracing::warn!("--selinux-enabled: SELinux is not active on this host");
        }
        match (there, wanted) {
            (false, _) => Self::Absent,
            (true, false) => Self::Unused,
            (true, true) => {
                let contexts = read_contexts(Path::new(FOLDER));
                if contexts.is_none() {
                    tracing::warn!("SELinux: the host's policy names no labels for containers (contexts/lxc_contexts)");
                }
                Self::Active(contexts)
            }
        }
    }

    /// Whether containers have labels.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }

    /// A sentence for each label that was asked for and can't be had.
    pub(crate) fn warnings(&self, host: &HostSettings) -> Vec<String> {
        let why = match self {
            Self::Absent => "SELinux is not active on this host",
            Self::Unused => "the engine runs without --selinux-enabled",
            Self::Active(Some(_)) => return Vec::new(),
            Self::Active(None) => "the host's SELinux policy names no labels for containers",
        };
        let labels = host.selinux.iter().filter(|label| !is_switch(label));
        labels.map(|label| format!("{why}: the label {label} has no effect")).collect()
    }
}

/// Options that are no part of a label. `nested` is Podman's.
fn is_switch(option: &str) -> bool {
    matches!(option, "disable" | "nested")
}

/// The labels that the policy of this host has for containers.
fn read_contexts(folder: &Path) -> Option<Contexts> {
    let config = std::fs::read_to_string(folder.join("config")).ok()?;
    let policy = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))?.trim().to_owned();
    parse_contexts(&std::fs::read_to_string(folder.join(policy).join("contexts/lxc_contexts")).ok()?)
}

/// Lines of `name = "label"`.
fn parse_contexts(text: &str) -> Option<Contexts> {
    let value = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
        Context::parse(value.trim().trim_matches('"'))
    };
    Some(Contexts { process: value("process")?, file: value("file")? })
}

/// The labels of a container: of its processes and of its files. `options` are the user's, `level` is its own.
fn labels(contexts: &Contexts, options: &[String], level: String) -> Result<(String, String)> {
    let (mut process, mut file) = (contexts.process.clone(), contexts.file.clone());
    if options.iter().any(|option| option == "disable") {
        file.level = UNCONFINED_LEVEL.to_owned();
        return Ok((String::new(), file.text()));
    }
    process.level.clone_from(&level);
    file.level = level;
    for option in options.iter().filter(|option| !is_switch(option)) {
        let bad = || {
            Error::invalid(format!(
                "bad label option {option:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
            ))
        };
        let (key, value) = option.split_once(':').ok_or_else(bad)?;
        match key {
            "user" => value.clone_into(&mut process.user),
            "role" => value.clone_into(&mut process.role),
            "type" => value.clone_into(&mut process.kind),
            "filetype" => value.clone_into(&mut file.kind),
            "level" => {
                value.clone_into(&mut process.level);
                value.clone_into(&mut file.level);
            }
            _ => return Err(bad()),
        }
    }
    Ok((process.text(), file.text()))
}

/// Two different categories out of `bits`.
fn random_level(bits: u64) -> String {
    let first = (bits % u64::from(CATEGORIES)) as u16;
    let other = ((bits >> 32) % u64::from(CATEGORIES - 1)) as u16;
    let second = if other >= first { other + 1 } else { other };
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

impl Engine {
    /// The labels of a container that is being made, both empty where it has none.
    ///
    /// # Errors
    /// An option that is none.
    pub(crate) fn selinux_labels(&self, host: &HostSettings) -> Result<(String, String)> {
        let Selinux::Active(Some(contexts)) = &self.selinux else { return Ok(Default::default()) };
        let mut options = host.selinux.clone();
        if options.is_empty() {
            options = self.labels_of_namespaces(host)?;
        }
        let taken: Vec<String> = self.containers.all().iter().map(|c| c.read(|r| r.process_label.clone())).collect();
        loop {
            let mut bits = [0_u8; 8];
            rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
                .map_err(|e| Error::system(format!("random categories: {e}")))?;
            let level = random_level(u64::from_ne_bytes(bits));
            let free = !taken.iter().any(|label| Context::parse(label).is_some_and(|label| label.level == level));
            // There are half a million pairs; with as many containers two may share one.
            if (free && level != UNCONFINED_LEVEL) || taken.len() > usize::from(CATEGORIES) * 100 {
                return labels(contexts, &options, level);
            }
        }
    }

    /// What docker takes for whoever says nothing: no confinement with the host's namespaces, another container's label with its.
    fn labels_of_namespaces(&self, host: &HostSettings) -> Result<Vec<String>> {
        if host.privileged || host.ipc == NamespaceMode::Host || host.pid == NamespaceMode::Host {
            return Ok(vec!["disable".to_owned()]);
        }
        let mut found: Option<String> = None;
        for mode in [&host.ipc, &host.pid] {
            let NamespaceMode::Container(other) = mode else { continue };
            let label = self.containers.find(other)?.read(|r| r.process_label.clone());
            if found.as_ref().is_some_and(|first| *first != label) {
                return Err(Error::invalid("--ipc and --pid containers SELinux labels aren't the same"));
            }
            found = Some(label);
        }
        let Some(label) = found else { return Ok(Vec::new()) };
        let Some(Context { user, role, kind, level }) = Context::parse(&label) else {
            return Ok(vec!["disable".to_owned()]);
        };
        Ok(vec![format!("user:{user}"), format!("role:{role}"), format!("type:{kind}"), format!("level:{level}")])
    }

    /// Labels what a container is given from outside: its own files, volumes, and binds that say `z` (for all containers) or `Z` (for
    /// this one).
    ///
    /// # Errors
    /// A label can't be set, or must not be.
    pub(crate) fn relabel(&self, record: &Record) -> Result<()> {
        let Some(own) = Context::parse(&record.mount_label) else { return Ok(()) };
        let shared = Context { level: "s0".to_owned(), ..own.clone() };
        for mount in record.mounts.iter().filter(|mount| !mount.source.as_os_str().is_empty()) {
            let mut words = mount.view.mode.split(',').filter(|word| matches!(*word, "z" | "Z"));
            match words.next() {
                Some("Z") => set(&mount.source, &own.text())?,
                Some(_) => set(&mount.source, &shared.text())?,
                None if mount.view.kind == "volume" => set(&mount.source, &shared.text())?,
                None => {}
            }
        }
        let files = self.files(&record.id, 0);
        for file in [files.resolv_conf, files.hostname, files.hosts] {
            if file.exists() {
                set(&file, &shared.text())?;
            }
        }
        Ok(())
    }
}

/// Labels `path` and all below it. A file system without labels is none to be set.
fn set(path: &Path, label: &str) -> Result<()> {
    let fail = |why: String| Error::system(format!("error setting label on mount source '{}': {why}", path.display()));
    let real = std::fs::canonicalize(path).map_err(|e| fail(e.to_string()))?;
    if HOST_FOLDERS.iter().any(|folder| real == Path::new(folder)) {
        return Err(Error::invalid(format!("SELinux relabeling of {} is not allowed", real.display())));
    }
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else { return Ok(()) };
    let folder = Root::open_host(parent).map_err(|e| fail(e.to_string()))?;
    let top = folder.open_dir("/").map_err(|e| fail(e.to_string()))?;
    match xattr::set_at(&top, name, ATTRIBUTE, label.as_bytes()) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(fail(e.to_string())),
    }
    if !std::fs::symlink_metadata(&real).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let root = Root::open_host(&real).map_err(|e| fail(e.to_string()))?;
    set_below(&root, label).map_err(|e| fail(e.to_string()))
}

/// Labels all entries. Whatever they are replaced by meanwhile, only what is below the root is reached.
fn set_below(root: &Root, label: &str) -> naru_fs::Result<()> {
    let mut todo = vec![PathBuf::from("/")];
    while let Some(folder) = todo.pop() {
        let open = root.open_dir(&folder)?;
        for name in root.list(&folder)? {
            let path = folder.join(&name);
            match xattr::set_at(&open, &name, ATTRIBUTE, label.as_bytes()) {
                Ok(()) => {}
                // Gone meanwhile, or in a file system that is mounted there and has none.
                Err(Errno::NOENT | Errno::OPNOTSUPP) => continue,
                Err(e) => return Err(naru_fs::Error::new("set the SELinux label", &path, e)),
            }
            if root.lstat(&path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                todo.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let text = "# of containers\nprocess = \"system_u:system_r:container_t:s0\"\n\
            content = \"system_u:object_r:virt_var_lib_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n";
        parse_contexts(text).unwrap()
    }

    fn of(options: &[&str]) -> Result<(String, String)> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        labels(&contexts(), &options, "s0:c1,c2".to_owned())
    }

    #[test]
    fn labels_are_the_policys_with_options() {
        let pair = |process: &str, file: &str| (process.to_owned(), file.to_owned());
        assert_eq!(
            of(&["nested"]).unwrap(),
            pair("system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2")
        );
        assert_eq!(
            of(&["type:a_t", "level:s0:c7", "user:u", "role:r", "filetype:b_t"]).unwrap(),
            pair("u:r:a_t:s0:c7", "system_u:object_r:b_t:s0:c7")
        );
        assert_eq!(of(&["disable"]).unwrap(), pair("", "system_u:object_r:container_file_t:s0:c1022,c1023"));
        for bad in ["nonsense", "kind:x"] {
            assert!(of(&[bad]).unwrap_err().message().starts_with(&format!("bad label option {bad:?}")));
        }
        assert_eq!(parse_contexts("process = \"a:b:c\"\n"), None);
    }

    #[test]
    fn categories_differ() {
        assert_eq!(random_level(0), "s0:c0,c1");
        assert_eq!(random_level(1023 | (1022 << 32)), "s0:c1022,c1023");
        assert_eq!(random_level(5 | (4 << 32)), "s0:c4,c5");
        assert_eq!(random_level(5 | (5 << 32)), "s0:c5,c6");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let host = HostSettings { selinux: vec!["type:x".into(), "disable".into()], ..HostSettings::default() };
        assert_eq!(
            Selinux::Absent.warnings(&host),
            ["SELinux is not active on this host: the label type:x has no effect"]
        );
        assert_eq!(Selinux::Unused.warnings(&host).len(), 1);
        assert!(Selinux::Active(Some(contexts())).warnings(&host).is_empty());
    }

    #[test]
    fn the_hosts_folders_are_refused() {
        for path in ["/", "/usr", "/usr/../etc", "/var/lib"] {
            assert!(set(Path::new(path), "u:r:t:s0").unwrap_err().message().contains("is not allowed"));
        }
    }
}
