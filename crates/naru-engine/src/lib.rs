//! The engine: containers, images, execs and events; the use cases of everything that the API serves.
//!
//! It knows no HTTP, no docker JSON and no terminal. Its own vocabulary is in [`types`]. It is cut by resource, each part owning its state;
//! what spans them is in the modules named after the use case.

mod apparmor;
mod budget;
mod cdi;
mod cgroups;
mod channel_io;
mod check;
mod clock;
mod container;
mod counts;
mod detach_keys;
mod disk;
mod events;
mod exec;
mod exposed;
mod firewall;
mod id_ranges;
mod image;
mod info;
mod live;
mod log_config;
mod monitor_link;
mod networks;
mod ports;
mod prune;
mod quota;
mod reconcile;
mod root_view;
mod selinux;
mod spawner;
mod steps;
pub mod types;
mod user_spaces;
mod volume_mount;
mod volume_use;
mod volumes;

pub use budget::DiskBudget;
pub use cdi::DEFAULT_SPEC_DIRS as DEFAULT_CDI_SPEC_DIRS;
pub use cgroups::CgroupDriver;
pub use check::{CheckReport, Problem};
pub use container::{
    ArchiveStat, AttachTicket, CONTAINER_FILTERS, Fact, StatsSample, UnpackOptions, What, Why, WhyLine,
};
pub use counts::Counts;
pub use disk::{DiskUsage, DiskUsageOf};
pub use exec::ExecTicket;
pub use exposed::{Exposed, ExposedAt};
pub use id_ranges::parse_ids;
pub use live::LiveSettings;
pub use log_config::check_log;
pub use naru_registry::Rule as RegistryRule;
pub use naru_store::ImagePolicy;
pub use naru_sys::memory::give_back as give_memory_back;
pub use volume_use::VOLUME_FILTERS;

use container::{RECORD_FILE, RECORD_VERSION, Record, SeccompFilters, Table};
use events::Events;
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::{Durability, Records, Root, durable};
use naru_net::Instance;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::watch;

/// The log drivers that there are.
pub fn log_drivers() -> Vec<&'static str> {
    naru_log::names().collect()
}

/// Where an engine keeps what lasts, unless told otherwise.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/naru";
/// Where it keeps what a reboot removes.
pub const DEFAULT_EXEC_ROOT: &str = "/run/naru";

/// How an engine is to be.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// What lasts.
    pub data_root: PathBuf,
    /// What a reboot removes.
    pub exec_root: PathBuf,
    /// What can be changed while it runs.
    pub live: LiveSettings,
    /// Who makes the containers' groups; `None` for whoever should on this host.
    pub cgroup_driver: Option<CgroupDriver>,
    /// The cgroup of all containers that don't say, without `/` at its ends, or for systemd a slice; `None` for the driver's default.
    pub cgroup_parent: Option<String>,
    /// Where CDI specifications are, the most important place last.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Folder with certificates by registry; `None` for docker's.
    pub registry_certs: Option<PathBuf>,
    /// Where images are searched for; `None` for the hub's index.
    pub index: Option<String>,
    /// Whether containers that don't say get a user namespace of their own ([`types::UserMode::Auto`]) or not.
    pub default_userns: types::UserMode,
    /// First and last of the host's ids that containers may get; `None` for the default.
    pub userns_ids: Option<(u32, u32)>,
    /// Whether the default network has IPv6.
    pub default_ipv6: DefaultIpv6,
    /// Whether containers on the default network may talk to each other.
    pub default_icc: bool,
    /// Containers have SELinux labels, where the host has them.
    pub selinux: bool,
    /// Log driver of containers that don't say, and its options.
    pub log: types::LogSettings,
    /// What may be in layers from elsewhere.
    pub image_policy: ImagePolicy,
}

/// IPv6 on the default network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultIpv6 {
    /// Its containers have IPv6 addresses.
    pub enabled: bool,
    /// Of this subnet; of one of the engine's own choice for `None`.
    pub subnet: Option<String>,
}

impl EngineConfig {
    /// The folder of one container.
    pub(crate) fn container_dir(&self, id: &Id) -> PathBuf {
        self.data_root.join("containers").join(id.as_str())
    }

    /// What is being removed.
    pub(crate) fn trash_dir(&self) -> PathBuf {
        self.data_root.join("trash")
    }

    fn instance(&self) -> Instance {
        Instance::for_root(&self.data_root, Path::new(DEFAULT_DATA_ROOT))
    }
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    pub(crate) id: String,
    pub(crate) boot_id: String,
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) config: EngineConfig,
    live: RwLock<Arc<LiveSettings>>,
    budget_keeper: Mutex<Option<tokio::task::AbortHandle>>,
    pub(crate) containers: Table,
    pub(crate) records: Records<Record>,
    pub(crate) execs: exec::Execs,
    pub(crate) images: image::Images,
    pub(crate) networks: networks::Networks,
    pub(crate) ports: ports::Ports,
    pub(crate) volumes: volumes::Volumes,
    pub(crate) image_use: budget::ImageUse,
    pub(crate) events: Events,
    pub(crate) counters: counts::Counters,
    pub(crate) filters: SeccompFilters,
    pub(crate) spawner: spawner::Spawner,
    pub(crate) user_spaces: user_spaces::UserSpaces,
    pub(crate) apparmor: apparmor::AppArmor,
    pub(crate) selinux: selinux::Selinux,
    /// Running containers whose monitors have not been met yet.
    to_meet: Mutex<Vec<Arc<container::Container>>>,
    /// Whether everything has been taken up that an earlier engine left.
    settled: watch::Sender<bool>,
}

impl Engine {
    /// Reads what is on disk. `spawner` is the engine's end of the spawner's socket. Nothing runs yet: [`Engine::reconcile`] comes next, and
    /// when clients are served [`Engine::finish_reconcile`].
    ///
    /// # Errors
    /// When the folders can't be made or read, or another engine holds them.
    pub fn open(config: EngineConfig, spawner: OwnedFd) -> Result<Arc<Self>> {
        let cgroup_driver = CgroupDriver::choose(&config)?;
        for folder in [&config.data_root, &config.exec_root, &config.trash_dir(), &config.exec_root.join("containers")]
        {
            make_private(folder)?;
        }
        for folder in [&config.data_root, &config.exec_root] {
            // Also one that was there: nobody else has anything to list in it.
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
                .map_err(|e| Error::system(format!("cannot set the mode of the folder {}: {e}", folder.display())))?;
        }
        let records = Records::open(config.data_root.join("containers"), RECORD_FILE, RECORD_VERSION)
            .system("cannot open the containers' records")?;
        if let Ok(folder) = Root::open_host(config.data_root.join("containers")) {
            naru_fs::spread_folders(&folder);
        }
        let containers = Table::default();
        for (id, record) in records.load_all().system("cannot list the containers' records")? {
            match record {
                Ok(Some(record)) => containers.insert(Arc::new(container::Container::new(record))),
                Ok(None) => {}
                Err(error) => tracing::warn!(container = id, "its record can't be read: {error}"),
            }
        }
        let registry = config.live.registry(config.registry_certs.as_ref(), config.index.as_ref());
        let images = image::Images::open(&config.data_root, config.image_policy, registry)?;
        let name_servers = info::host_resolver().ipv4_servers();
        let id = engine_id(&config.data_root)?;
        let networks = networks::Networks::open(networks::NetworksConfig {
            data_root: &config.data_root,
            exec_root: &config.exec_root,
            instance: config.instance(),
            engine_id: id.clone(),
            name_servers,
            default_ipv6: &config.default_ipv6,
            default_icc: config.default_icc,
        })?;
        Ok(Arc::new(Self {
            id,
            boot_id: info::boot_id(),
            cgroup_driver,
            networks,
            ports: ports::Ports::default(),
            volumes: volumes::Volumes::open(config.data_root.join("volumes"))?,
            image_use: budget::ImageUse::open(&config.data_root),
            containers,
            records,
            execs: exec::Execs::default(),
            images,
            events: Events::new(),
            counters: counts::Counters::default(),
            filters: SeccompFilters::default(),
            spawner: spawner::Spawner::new(spawner),
            user_spaces: user_spaces::UserSpaces::new(&config),
            apparmor: apparmor::AppArmor::set_up(&config.exec_root),
            selinux: selinux::Selinux::set_up(config.selinux),
            live: RwLock::new(Arc::new(config.live.clone())),
            budget_keeper: Mutex::default(),
            to_meet: Mutex::default(),
            settled: watch::Sender::new(false),
            config,
        }))
    }

    /// Events from now on.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<types::Event> {
        self.events.subscribe()
    }

    /// Kept events of that time; an `until` of 0 is no limit.
    pub fn past_events(&self, since: types::UnixNanos, until: types::UnixNanos) -> Vec<types::Event> {
        self.events.past(since, until)
    }
}

fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .map_err(|e| Error::system(format!("cannot make the folder {}: {e}", folder.display())))
}

/// The engine's own id, made once: a version 4 UUID (RFC 9562).
fn engine_id(data_root: &Path) -> Result<String> {
    const FILE: &str = "engine-id.json";
    let folder = Root::open_host(data_root).system("cannot open the data root")?;
    if let Some(id) = durable::read_json::<String>(&folder, FILE).system("cannot read the engine's id")? {
        return Ok(id);
    }
    let random = Id::random()?;
    let hex = random.as_str();
    let id = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30]);
    durable::write_json(&folder, FILE, &id, Durability::Synced).system("cannot write the engine's id")?;
    Ok(id)
}

/// Locks, also after a panic elsewhere: what is behind these locks is consistent between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
