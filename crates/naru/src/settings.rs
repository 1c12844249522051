//! The engine's settings: dockerd's flags and its configuration file, the flags first.

use naru_engine::CgroupDriver;
use naru_engine::DefaultIpv6;
use naru_engine::DiskBudget;
use naru_engine::ImagePolicy;
use naru_engine::LiveSettings;
use naru_engine::RegistryRule;
use naru_engine::types::{LogSettings, UserMode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where the configuration is read from when it is there and no other is named.
const DEFAULT_FILE: &str = "/etc/naru/daemon.json";
/// Where the engine listens unless told otherwise.
const DEFAULT_HOST: &str = "unix:///run/naru/naru.sock";

/// An image that was used within this time is not collected for the disk budget.
const DEFAULT_GRACE: Duration = Duration::from_secs(600);

/// What `naru daemon --help` prints.
pub(crate) const HELP: &str = "\
Usage:  naru daemon [OPTIONS]

The engine

Options:
      --block-registry list         Registry, or beginning of image names, that is never asked
      --cdi-spec-dir list           Folder of CDI specifications (default /etc/cdi and /var/run/cdi)
      --cgroup-driver string        Who makes cgroups: cgroupfs, or systemd (default: systemd where it is the init and there is only cgroup v2)
      --cgroup-parent string        Parent cgroup of containers that don't say (default \"naru\"), for systemd a slice (default \"system.slice\")
      --config-file string          Configuration file (default \"/etc/naru/daemon.json\")
      --data-root string            Folder of what lasts (default \"/var/lib/naru\")
  -D, --debug                       Tell more
      --disk-budget bytes           What images may take on disk; the least recently used ones that no container has are removed
      --disk-budget-grace duration  An image that was used within this time is kept (default 10m)
      --disk-budget-keep list       Image (name:tag, or the beginning of one and *) that is kept, as is one with the label naru.keep
      --exec-opt list               native.cgroupdriver=cgroupfs or systemd: as --cgroup-driver
      --exec-root string            Folder of what a reboot removes (default \"/run/naru\")
      --fixed-cidr-v6 string        IPv6 subnet of the default network (default: one of the engine's own)
      --help                        Print this
  -H, --host list                   Where to listen: unix://PATH, tcp://HOST:PORT, fd:// (default unix:///run/naru/naru.sock)
      --default-userns-mode string  User namespaces of containers that don't say: auto for one each, host for none (default auto)
      --icc                         Let containers on the default network talk to each other (default true)
      --image-policy string         What of device nodes and of set-id bits with file capabilities is taken out of images from
                                    elsewhere: devices=keep|strip|refuse,setuid=keep|strip|refuse (default: all is kept)
      --insecure-registry list      Registry (host[:port] or network) that is spoken to without TLS
      --ipv6                        Give containers on the default network IPv6 addresses
      --label list                  Label of the engine (KEY=VALUE), shown by info
      --log-driver string           Log driver of containers that don't say: json-file, local, none (default \"json-file\")
      --log-opt list                Option of that driver (KEY=VALUE)
      --max-concurrent-downloads n  Layers that one pull fetches at once (default 3)
      --max-concurrent-uploads n    Layers that one push sends at once (default 5)
      --max-download-attempts n     How often a transfer is tried (default 5)
      --metrics-addr ADDRESS:PORT   Where Prometheus finds metrics (no address: nowhere)
  -p, --pidfile string              File for the engine's process id (default: naru.pid in the exec root)
      --registry-certs string       Folder with certificates by registry (default \"/etc/docker/certs.d\")
      --registry-mirror list        Mirror of the hub (URL), or of image names that begin with a prefix (PREFIX=URL)
      --search-index string         Where images are searched for (default: the hub's index)
      --selinux-enabled             Containers have SELinux labels, where the host has SELinux
      --userns-ids FIRST-LAST       Ids of the host that containers may get in user namespaces, 65536 each (default: 1879048192-2147352575,
                                    without what /etc/subuid and /etc/subgid give to users)

On SIGHUP the configuration file is read again; debug, labels, registries and mirrors, limits of transfers and the disk budget then hold at
once. A file that is wrong is refused, and the old settings stay.
";

/// The engine's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub help: bool,
    pub hosts: Vec<String>,
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    /// What can be changed while the engine runs.
    pub live: LiveSettings,
    pub cdi_spec_dirs: Vec<PathBuf>,
    pub cgroup_driver: Option<CgroupDriver>,
    pub cgroup_parent: Option<String>,
    pub registry_certs: Option<PathBuf>,
    pub default_ipv6: DefaultIpv6,
    pub default_icc: bool,
    pub log: LogSettings,
    pub metrics_addr: Option<String>,
    pub search_index: Option<String>,
    pub image_policy: ImagePolicy,
    pub default_userns: UserMode,
    pub userns_ids: Option<(u32, u32)>,
    pub selinux: bool,
}

/// The configuration file: dockerd's names. What is not known here is refused, as dockerd does.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    hosts: Option<Vec<String>>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    debug: Option<bool>,
    cdi_spec_dirs: Option<Vec<PathBuf>>,
    cgroup_driver: Option<String>,
    cgroup_parent: Option<String>,
    exec_opts: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
    labels: Option<Vec<String>>,
    /// Containers always go on without the engine.
    live_restore: Option<bool>,
    max_concurrent_downloads: Option<u32>,
    max_concurrent_uploads: Option<u32>,
    max_download_attempts: Option<u32>,
    registry_mirrors: Option<Vec<String>>,
    /// Naru's own: mirrors and blocks by the beginning of an image's name.
    registries: Option<Vec<RegistryRule>>,
    registry_certs: Option<PathBuf>,
    ipv6: Option<bool>,
    icc: Option<bool>,
    fixed_cidr_v6: Option<String>,
    log_driver: Option<String>,
    log_opts: Option<BTreeMap<String, String>>,
    metrics_addr: Option<String>,
    search_index: Option<String>,
    disk_budget: Option<String>,
    disk_budget_grace: Option<String>,
    disk_budget_keep: Option<Vec<String>>,
    image_policy: Option<String>,
    default_userns_mode: Option<String>,
    userns_ids: Option<String>,
    selinux_enabled: Option<bool>,
}

impl File {
    fn read(named: Option<&str>) -> Result<Self, String> {
        let path = named.unwrap_or(DEFAULT_FILE);
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => Ok(Self::default()),
            Ok(text) => {
                serde_json::from_str(&text).map_err(|e| format!("unable to configure the engine with file {path}: {e}"))
            }
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("unable to configure the engine with file {path}: {e}")),
        }
    }
}

impl Settings {
    /// Reads the command line and the configuration file.
    ///
    /// # Errors
    /// For unknown flags and what the file has wrong; the text names it.
    pub(crate) fn read(args: &[OsString]) -> Result<Self, String> {
        let mut own = File::default();
        let (mut config_file, mut help) = (None, false);
        let mut words = args.iter().map(|a| a.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let (name, inline) = split(&word);
            let mut value = || inline.clone().or_else(|| words.next()).ok_or(format!("flag needs an argument: {name}"));
            match name.as_str() {
                "--help" => help = true,
                "-D" | "--debug" => own.debug = Some(inline.as_deref().is_none_or(|v| v != "false")),
                "--config-file" => config_file = Some(value()?),
                "--data-root" | "-g" | "--graph" => own.data_root = Some(value()?.into()),
                "--exec-root" => own.exec_root = Some(value()?.into()),
                "-p" | "--pidfile" => own.pidfile = Some(value()?.into()),
                "-H" | "--host" => own.hosts.get_or_insert_default().push(value()?),
                "--cdi-spec-dir" => own.cdi_spec_dirs.get_or_insert_default().push(value()?.into()),
                "--cgroup-driver" => own.cgroup_driver = Some(value()?),
                "--cgroup-parent" => own.cgroup_parent = Some(value()?),
                "--exec-opt" => own.exec_opts.get_or_insert_default().push(value()?),
                "--insecure-registry" => own.insecure_registries.get_or_insert_default().push(value()?),
                "--label" => own.labels.get_or_insert_default().push(value()?),
                "--max-concurrent-downloads" => own.max_concurrent_downloads = Some(number(&name, &value()?)?),
                "--max-concurrent-uploads" => own.max_concurrent_uploads = Some(number(&name, &value()?)?),
                "--max-download-attempts" => own.max_download_attempts = Some(number(&name, &value()?)?),
                "--registry-mirror" => {
                    let value = value()?;
                    match value.split_once('=').filter(|(prefix, _)| !prefix.contains("://")) {
                        None => own.registry_mirrors.get_or_insert_default().push(value),
                        Some((prefix, url)) => rule(&mut own.registries, prefix).mirrors.push(url.to_owned()),
                    }
                }
                "--block-registry" => rule(&mut own.registries, &value()?).blocked = true,
                "--registry-certs" => own.registry_certs = Some(value()?.into()),
                "--icc" => own.icc = Some(inline.as_deref().is_none_or(|v| v != "false")),
                "--ipv6" => own.ipv6 = Some(inline.as_deref().is_none_or(|v| v != "false")),
                "--fixed-cidr-v6" => own.fixed_cidr_v6 = Some(value()?),
                "--log-driver" => own.log_driver = Some(value()?),
                "--log-opt" => {
                    let value = value()?;
                    let (key, value) =
                        value.split_once('=').ok_or(format!("invalid log-opt {value:?}: KEY=VALUE is needed"))?;
                    own.log_opts.get_or_insert_default().insert(key.to_owned(), value.to_owned());
                }
                "--metrics-addr" => own.metrics_addr = Some(value()?),
                "--search-index" => own.search_index = Some(value()?),
                "--disk-budget" => own.disk_budget = Some(value()?),
                "--disk-budget-grace" => own.disk_budget_grace = Some(value()?),
                "--disk-budget-keep" => own.disk_budget_keep.get_or_insert_default().push(value()?),
                "--image-policy" => own.image_policy = Some(value()?),
                "--default-userns-mode" => own.default_userns_mode = Some(value()?),
                "--selinux-enabled" => own.selinux_enabled = Some(inline.as_deref().is_none_or(|v| v != "false")),
                "--userns-ids" => own.userns_ids = Some(value()?),
                _ if name.starts_with('-') => return Err(format!("unknown flag: {name}")),
                _ => return Err(format!("naru daemon accepts no arguments: {word}")),
            }
        }
        let mut file = File::read(config_file.as_deref())?;
        if file.live_restore == Some(false) {
            return Err("live-restore cannot be false: containers go on without the engine".to_owned());
        }
        let live = live(&mut own, &mut file)?;
        let exec_root = own.exec_root.or(file.exec_root).unwrap_or_else(|| naru_engine::DEFAULT_EXEC_ROOT.into());
        Ok(Self {
            help,
            hosts: own.hosts.or(file.hosts).unwrap_or_else(|| vec![DEFAULT_HOST.to_owned()]),
            data_root: own.data_root.or(file.data_root).unwrap_or_else(|| naru_engine::DEFAULT_DATA_ROOT.into()),
            pidfile: own.pidfile.or(file.pidfile).unwrap_or_else(|| exec_root.join("naru.pid")),
            exec_root,
            live,
            cgroup_driver: cgroup_driver(
                own.cgroup_driver.or(file.cgroup_driver),
                own.exec_opts.iter().chain(&file.exec_opts).flatten(),
            )?,
            cgroup_parent: cgroup_parent(own.cgroup_parent.or(file.cgroup_parent))?,
            cdi_spec_dirs: own.cdi_spec_dirs.or(file.cdi_spec_dirs).unwrap_or_else(default_cdi_spec_dirs),
            registry_certs: own.registry_certs.or(file.registry_certs),
            default_ipv6: DefaultIpv6 {
                enabled: own.ipv6.or(file.ipv6).unwrap_or_default(),
                subnet: own.fixed_cidr_v6.or(file.fixed_cidr_v6).filter(|s| !s.is_empty()),
            },
            default_icc: own.icc.or(file.icc).unwrap_or(true),
            log: log(own.log_driver.or(file.log_driver), own.log_opts, file.log_opts)?,
            metrics_addr: own.metrics_addr.or(file.metrics_addr),
            search_index: own.search_index.or(file.search_index),
            image_policy: own
                .image_policy
                .or(file.image_policy)
                .map(|text| text.parse::<ImagePolicy>().map_err(|e| e.message().to_owned()))
                .transpose()?
                .unwrap_or_default(),
            default_userns: user_mode(own.default_userns_mode.or(file.default_userns_mode).as_deref())?,
            selinux: own.selinux_enabled.or(file.selinux_enabled).unwrap_or_default(),
            userns_ids: own
                .userns_ids
                .or(file.userns_ids)
                .map(|ids| naru_engine::parse_ids(&ids).map_err(|e| e.message().to_owned()))
                .transpose()?,
        })
    }

    /// The keys of `other` that differ, without those that can be changed while the engine runs.
    pub(crate) fn fixed_changes(&self, other: &Self) -> Vec<&'static str> {
        [
            ("hosts", self.hosts != other.hosts),
            ("data-root", self.data_root != other.data_root),
            ("exec-root", self.exec_root != other.exec_root),
            ("pidfile", self.pidfile != other.pidfile),
            ("cdi-spec-dirs", self.cdi_spec_dirs != other.cdi_spec_dirs),
            ("cgroup-driver", self.cgroup_driver != other.cgroup_driver),
            ("cgroup-parent", self.cgroup_parent != other.cgroup_parent),
            ("registry-certs", self.registry_certs != other.registry_certs),
            ("ipv6", self.default_ipv6.enabled != other.default_ipv6.enabled),
            ("fixed-cidr-v6", self.default_ipv6.subnet != other.default_ipv6.subnet),
            ("log-driver", self.log.driver != other.log.driver),
            ("log-opts", self.log.options != other.log.options),
            ("metrics-addr", self.metrics_addr != other.metrics_addr),
            ("search-index", self.search_index != other.search_index),
            ("image-policy", self.image_policy != other.image_policy),
            ("default-userns-mode", self.default_userns != other.default_userns),
            ("userns-ids", self.userns_ids != other.userns_ids),
            ("selinux-enabled", self.selinux != other.selinux),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// What can be changed while the engine runs.
fn live(own: &mut File, file: &mut File) -> Result<LiveSettings, String> {
    fn first<T>(own: &mut Option<T>, file: &mut Option<T>) -> Option<T> {
        own.take().or_else(|| file.take())
    }
    let default = LiveSettings::default();
    let count = |key: &str, own: &mut Option<u32>, file: &mut Option<u32>, default: u32| match first(own, file) {
        Some(0) => Err(format!("invalid {key}: 0: it has to be 1 or more")),
        found => Ok(found.unwrap_or(default)),
    };
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let downloads = count(
        "max-concurrent-downloads",
        &mut own.max_concurrent_downloads,
        &mut file.max_concurrent_downloads,
        number(default.max_downloads),
    )?;
    let uploads = count(
        "max-concurrent-uploads",
        &mut own.max_concurrent_uploads,
        &mut file.max_concurrent_uploads,
        number(default.max_uploads),
    )?;
    let attempts = count(
        "max-download-attempts",
        &mut own.max_download_attempts,
        &mut file.max_download_attempts,
        default.max_attempts,
    )?;
    Ok(LiveSettings {
        debug: first(&mut own.debug, &mut file.debug).unwrap_or_default(),
        labels: labels(first(&mut own.labels, &mut file.labels).unwrap_or_default())?,
        insecure_registries: first(&mut own.insecure_registries, &mut file.insecure_registries).unwrap_or_default(),
        registry_mirrors: first(&mut own.registry_mirrors, &mut file.registry_mirrors).unwrap_or_default(),
        registry_rules: first(&mut own.registries, &mut file.registries).unwrap_or_default(),
        max_downloads: usize::try_from(downloads).unwrap_or(usize::MAX),
        max_uploads: usize::try_from(uploads).unwrap_or(usize::MAX),
        max_attempts: attempts,
        disk_budget: budget(
            first(&mut own.disk_budget, &mut file.disk_budget).as_deref(),
            first(&mut own.disk_budget_grace, &mut file.disk_budget_grace).as_deref(),
            first(&mut own.disk_budget_keep, &mut file.disk_budget_keep),
        )?,
    })
}

/// Labels of the engine; docker's words for what is none, and for a key with two values.
fn labels(labels: Vec<String>) -> Result<Vec<String>, String> {
    let mut values = BTreeMap::new();
    for label in &labels {
        let (key, value) = label.split_once('=').ok_or(format!("bad attribute format: {label}"))?;
        match values.insert(key, value) {
            Some(before) if before != value => {
                return Err(format!("conflict labels for {key}={before} and {key}={value}"));
            }
            _ => {}
        }
    }
    Ok(labels)
}

fn number(flag: &str, text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("invalid argument {text:?} for {flag:?}: a number is needed"))
}

/// The log driver of containers that don't say; refused here rather than at the first container.
fn log(
    driver: Option<String>,
    own: Option<BTreeMap<String, String>>,
    file: Option<BTreeMap<String, String>>,
) -> Result<LogSettings, String> {
    let mut options = file.unwrap_or_default();
    options.extend(own.unwrap_or_default());
    let settings = LogSettings { driver: driver.unwrap_or_default(), options };
    naru_engine::check_log(&settings).map_err(|e| format!("failed to set log opts: {e}"))?;
    Ok(settings)
}

/// The mode of containers that don't say.
fn user_mode(text: Option<&str>) -> Result<UserMode, String> {
    match text {
        None | Some("auto") => Ok(UserMode::Auto),
        Some("host") => Ok(UserMode::Host),
        Some(other) => Err(format!("invalid default user namespace mode: {other}; use auto or host")),
    }
}

/// The disk budget out of its three settings.
fn budget(bytes: Option<&str>, grace: Option<&str>, keep: Option<Vec<String>>) -> Result<Option<DiskBudget>, String> {
    let Some(text) = bytes else { return Ok(None) };
    let bytes = naru_base::size::parse_bytes(text).map_err(|e| format!("disk-budget: {e}"))?;
    let bytes = u64::try_from(bytes).map_err(|_| format!("disk-budget: invalid size: {text}"))?;
    let grace = match grace {
        None => DEFAULT_GRACE,
        Some(text) => {
            let nanos = naru_base::duration::parse(text).map_err(|e| format!("disk-budget-grace: {e}"))?;
            Duration::from_nanos(u64::try_from(nanos).map_err(|_| format!("disk-budget-grace: {text} is negative"))?)
        }
    };
    Ok(Some(DiskBudget { bytes, grace, keep: keep.unwrap_or_default() }))
}

/// The rule for `prefix` among those of the command line.
fn rule<'a>(rules: &'a mut Option<Vec<RegistryRule>>, prefix: &str) -> &'a mut RegistryRule {
    let rules = rules.get_or_insert_default();
    let at = rules.iter().position(|r| r.prefix == prefix).unwrap_or_else(|| {
        rules.push(RegistryRule { prefix: prefix.to_owned(), ..RegistryRule::default() });
        rules.len() - 1
    });
    &mut rules[at]
}

/// Who makes cgroups, out of its own setting and dockerd's `--exec-opt`, the first of which holds.
fn cgroup_driver<'a>(
    own: Option<String>,
    options: impl Iterator<Item = &'a String>,
) -> Result<Option<CgroupDriver>, String> {
    let mut driver = own
        .map(|name| {
            driver_by_name(&name)
                .ok_or_else(|| format!("unknown cgroup driver {name:?}: there are cgroupfs and systemd"))
        })
        .transpose()?;
    for option in options {
        let Some(("native.cgroupdriver", name)) = option.split_once('=') else {
            return Err(format!("invalid exec-opt: {option}: there is native.cgroupdriver=cgroupfs or systemd"));
        };
        let named = driver_by_name(name).ok_or_else(|| {
            format!("native.cgroupdriver option {name} not supported: there are cgroupfs and systemd")
        })?;
        driver.get_or_insert(named);
    }
    Ok(driver)
}

fn driver_by_name(name: &str) -> Option<CgroupDriver> {
    [CgroupDriver::Cgroupfs, CgroupDriver::Systemd].into_iter().find(|driver| driver.as_str() == name)
}

fn cgroup_parent(path: Option<String>) -> Result<Option<String>, String> {
    let path = path.map(|path| path.trim_matches('/').to_owned()).filter(|path| !path.is_empty());
    match path {
        Some(path) if path.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            Err(format!("invalid cgroup parent {path:?}: it must not leave the cgroup tree"))
        }
        path => Ok(path),
    }
}

fn default_cdi_spec_dirs() -> Vec<PathBuf> {
    naru_engine::DEFAULT_CDI_SPEC_DIRS.map(PathBuf::from).into()
}

/// `--name=value` and `-Hvalue` in two.
fn split(word: &str) -> (String, Option<String>) {
    if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
        return (name.to_owned(), Some(value.to_owned()));
    }
    match word.strip_prefix("-H") {
        Some(value) if !value.is_empty() => ("-H".to_owned(), Some(value.trim_start_matches('=').to_owned())),
        _ => (word.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Settings, String> {
        Settings::read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_dockerds() {
        let settings = read(&[
            "-H",
            "unix:///a",
            "--host=tcp://127.0.0.1:1",
            "-Hfd://",
            "--data-root",
            "/d",
            "--exec-root=/e",
            "-D",
        ])
        .unwrap();
        assert_eq!(settings.hosts, ["unix:///a", "tcp://127.0.0.1:1", "fd://"]);
        assert_eq!(settings.data_root, PathBuf::from("/d"));
        assert_eq!(settings.pidfile, PathBuf::from("/e/naru.pid"));
        assert!(settings.live.debug);
        assert_eq!(read(&[]).unwrap().hosts, [DEFAULT_HOST]);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_is_checked() {
        let path = std::env::temp_dir().join(format!("naru-settings-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"debug": true, "data-root": "/f", "registry-mirrors": ["http://m"]}"#).unwrap();
        let file = format!("--config-file={}", path.display());
        let settings = read(&[&file, "--data-root", "/d"]).unwrap();
        assert_eq!((settings.data_root, settings.live.debug), (PathBuf::from("/d"), true));
        std::fs::write(&path, r#"{"nonsense": 1}"#).unwrap();
        assert!(read(&[&file]).unwrap_err().contains("nonsense"));
        std::fs::remove_file(&path).unwrap();
        assert!(read(&[&file]).is_err());
    }

    #[test]
    fn a_disk_budget_is_bytes_and_what_is_kept() {
        let budget = read(&["--disk-budget", "20g", "--disk-budget-keep=a:*", "--disk-budget-keep", "b"]).unwrap();
        let budget = budget.live.disk_budget.unwrap();
        assert_eq!((budget.bytes, budget.grace), (20 << 30, DEFAULT_GRACE));
        assert_eq!(budget.keep, ["a:*", "b"]);
        assert_eq!(read(&["--disk-budget-keep", "b"]).unwrap().live.disk_budget, None);
        assert!(read(&["--disk-budget", "lots"]).unwrap_err().starts_with("disk-budget"));
        assert!(read(&["--disk-budget", "1g", "--disk-budget-grace", "x"]).is_err());
    }

    #[test]
    fn what_differs_is_named() {
        let before = read(&["--label", "a=1"]).unwrap();
        let after =
            read(&["--label=a=2", "--log-driver=local", "--data-root", "/x", "--max-concurrent-uploads=9"]).unwrap();
        assert_eq!(before.fixed_changes(&after), ["data-root", "log-driver"]);
        assert_eq!((after.live.max_uploads, after.live.max_downloads), (9, 3));
        assert_eq!(read(&["--label", "a"]).unwrap_err(), "bad attribute format: a");
        let conflict = read(&["--label", "a=1", "--label", "a=2"]).unwrap_err();
        assert_eq!(conflict, "conflict labels for a=1 and a=2");
        assert!(read(&["--max-concurrent-downloads", "0"]).unwrap_err().contains("max-concurrent-downloads"));
    }

    #[test]
    fn registries_have_rules() {
        let path = std::env::temp_dir().join(format!("naru-settings-rules-{}.json", std::process::id()));
        std::fs::write(
            &path,
            r#"{"registries": [{"prefix": "r.test/team", "mirrors": ["m.test/x"], "blocked": true}]}"#,
        )
        .unwrap();
        let file = format!("--config-file={}", path.display());
        let rules = read(&[&file]).unwrap().live.registry_rules;
        assert!(rules[0].blocked && rules[0].mirrors == ["m.test/x"]);
        let settings = read(&[
            &file,
            "--registry-mirror=http://hub",
            "--registry-mirror",
            "a.test=http://m",
            "--block-registry",
            "a.test",
        ])
        .unwrap();
        assert_eq!(settings.live.registry_mirrors, ["http://hub"]);
        let rule = &settings.live.registry_rules[0];
        assert!(
            settings.live.registry_rules.len() == 1
                && rule.blocked
                && rule.prefix == "a.test"
                && rule.mirrors == ["http://m"]
        );
        std::fs::write(&path, r#"{"registries": [{"prefix": "x", "nonsense": 1}]}"#).unwrap();
        assert!(read(&[&file]).unwrap_err().contains("nonsense"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn cgroups_have_one_driver_and_a_parent() {
        let settings = read(&["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent=/a/b/"]).unwrap();
        assert_eq!(settings.cgroup_parent.as_deref(), Some("a/b"));
        assert_eq!(read(&["--cgroup-parent", "/"]).unwrap().cgroup_parent, None);
        assert!(read(&["--cgroup-parent", "/a/../b"]).unwrap_err().contains("invalid cgroup parent"));
        assert_eq!(settings.cgroup_driver, Some(CgroupDriver::Cgroupfs));
        let systemd = read(&["--exec-opt", "native.cgroupdriver=systemd", "--cgroup-parent=my.slice"]).unwrap();
        assert_eq!(
            (systemd.cgroup_driver, systemd.cgroup_parent.as_deref()),
            (Some(CgroupDriver::Systemd), Some("my.slice"))
        );
        assert_eq!(read(&["--cgroup-driver=systemd"]).unwrap().cgroup_driver, Some(CgroupDriver::Systemd));
        assert_eq!(read(&[]).unwrap().cgroup_driver, None);
        assert!(read(&["--cgroup-driver", "x"]).unwrap_err().contains("\"x\""));
        let unknown = read(&["--exec-opt", "native.cgroupdriver=x"]).unwrap_err();
        assert_eq!(unknown, "native.cgroupdriver option x not supported: there are cgroupfs and systemd");
        assert!(read(&["--exec-opt", "x=y"]).unwrap_err().contains("x=y"));
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert_eq!(read(&["--nope"]).unwrap_err(), "unknown flag: --nope");
        assert!(read(&["--host"]).unwrap_err().contains("--host"));
        assert!(read(&["run"]).unwrap_err().contains("run"));
    }
}
