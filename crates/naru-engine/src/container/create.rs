//! Making a container: its name, image, merged configuration and mounts decided, its folders made, its record written.

use super::state::State;
use super::{Container, Record, merge};
use crate::types::{ContainerConfig, CreateRequest, Created, HostSettings, NamespaceMode, NetworkMode};
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Platform, Result, name};
use naru_fs::Durability;
use naru_runtime::capabilities;
use naru_sys::fault;
use std::sync::Arc;

/// How often a made-up name is tried before the short id serves.
const NAME_TRIES: u32 = 6;
/// The longest host name (sethostname(2)).
const HOSTNAME_LIMIT: usize = 64;

impl Engine {
    /// Makes a container, which is not started.
    ///
    /// # Errors
    /// With docker's texts: no such image, a taken or bad name, no command, settings that contradict each other.
    pub async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<Created> {
        let engine = Arc::clone(self);
        // To its end, also when the client goes away: a name would stay taken by nobody.
        tokio::spawn(async move { engine.create_whole(request).await }).await.system("the creation broke off")?
    }

    async fn create_whole(self: &Arc<Self>, request: CreateRequest) -> Result<Created> {
        let mut warnings = Vec::new();
        let image = self.images.find_for(&request.config.image, request.platform.as_ref())?;
        let facts = self.images.facts(&image)?;
        if request.platform.is_none() && Platform::host().rank(&facts.platform).is_none() {
            warnings.push(format!(
                "The requested image's platform ({}) does not match the detected host platform ({}) and no specific platform was requested",
                facts.platform,
                Platform::host()
            ));
        }
        let id = Id::random()?;
        let mut config = merge::with_image(request.config, &facts.config)?;
        self.check(&config, &request.host, &mut warnings)?;
        self.check_cgroup_parent(&request.host.cgroup_parent)?;
        self.check_links(&request.host.links)?;
        let networks = self.resolve_networks(&request.host.network, request.endpoints)?;
        if config.hostname.is_empty() {
            config.hostname = match &request.host.network {
                NetworkMode::Host => crate::info::hostname(),
                NetworkMode::Container(other) => self.containers.find(other)?.read(|r| r.config.hostname.clone()),
                _ => id.short().to_owned(),
            };
        }
        let mut command = merge::command(&config).into_iter();
        let path = command.next().unwrap_or_default();
        let limited = request.host.layer_limit > 0;
        let name = self.choose_name(request.name.as_deref(), &id)?;
        let made = async {
            // From here on a prune leaves its layers. One that was faster has taken the image.
            self.images.hold(&id, &image);
            self.images.facts(&image)?;
            let mounts = self.resolve_mounts(&id, &config, &request.host)?;
            self.volumes.reserve(&id, mounts.iter().map(|m| m.view.name.clone()).collect());
            let (user_namespace, warning) = self.decide_user(&request.host, &mounts, &image)?;
            warnings.extend(warning);
            let (process_label, mount_label) = self.selinux_labels(&request.host)?;
            let record = Record {
                process_label,
                mount_label,
                id: id.clone(),
                name: name.clone(),
                created: clock::now(),
                image,
                platform: facts.platform,
                config,
                host: request.host,
                document: request.document,
                path,
                args: command.collect(),
                mounts,
                networks,
                user_namespace,
                state: State::default(),
            };
            self.make_folders(&record)?;
            let container = Arc::new(Container::new(record));
            if container.read(|r| r.mounts.iter().any(|m| m.view.kind == "volume")) {
                let (engine, filled) = (Arc::clone(self), Arc::clone(&container));
                crate::image::blocking(move || engine.fill_volumes(&filled)).await?;
            }
            fault::point();
            container.save(&self.records, Durability::Synced)?;
            fault::point();
            Ok::<_, Error>(container)
        }
        .await;
        if let Ok(container) = &made {
            self.containers.insert(Arc::clone(container));
        }
        match made {
            Ok(container) => {
                self.volumes.keep(&id);
                self.image_use.touch(&container.read(|r| r.image.clone()));
                self.container_event(&container, "create", &[]);
                Ok(Created { id, warnings })
            }
            Err(error) => {
                self.containers.release(&name, &id);
                self.images.store.release(id.as_str());
                // The folders hold nothing of value; a failure to remove them is cleaned at the next start.
                if limited && let Ok(folder) = self.records.folder(id.as_str()) {
                    crate::quota::lift(&naru_fs::Root::from_fd(folder), "fs");
                }
                let _ = self.records.remove(id.as_str());
                self.remove_anonymous(&self.volumes.give_up(&id));
                Err(error)
            }
        }
    }

    fn choose_name(&self, asked: Option<&str>, id: &Id) -> Result<String> {
        if let Some(asked) = asked {
            let bare = name::container(asked)?;
            self.containers.reserve(bare, id)?;
            return Ok(bare.to_owned());
        }
        for attempt in 0..NAME_TRIES {
            let mut bits = [0u8; 8];
            let _ = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty());
            let candidate = name::generate(u64::from_ne_bytes(bits), attempt);
            if !self.containers.is_taken(&candidate) && self.containers.reserve(&candidate, id).is_ok() {
                return Ok(candidate);
            }
        }
        self.containers.reserve(id.short(), id)?;
        Ok(id.short().to_owned())
    }

    /// Refuses what contradicts itself, before anything is made.
    fn check(&self, config: &ContainerConfig, host: &HostSettings, warnings: &mut Vec<String>) -> Result<()> {
        if config.hostname.len() > HOSTNAME_LIMIT {
            return Err(Error::invalid(format!(
                "invalid hostname: {:?}: at most {HOSTNAME_LIMIT} bytes",
                config.hostname
            )));
        }
        if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        if let Some(signal) = &config.stop_signal {
            naru_base::signal::parse(signal)?;
        }
        capabilities::effective_set(&host.cap_add, &host.cap_drop, host.privileged)?;
        privilege_warnings(host, warnings);
        warnings.extend(self.apparmor.warning(host));
        warnings.extend(self.selinux.warnings(host));
        let policy = host.restart.name.as_str();
        if !matches!(policy, "" | "no" | "always" | "unless-stopped" | "on-failure") {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
        if host.auto_remove && !matches!(policy, "" | "no") {
            return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
        }
        // On ext4 the kernel would let the overlay, which the engine mounts, go beyond.
        if host.layer_limit > 0
            && !(crate::disk::is_xfs(&self.config.data_root) && crate::quota::is_supported(&self.config.data_root))
        {
            return Err(Error::invalid(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ));
        }
        crate::log_config::check_log(&host.log)?;
        super::health::check(config)?;
        self.check_namespaces(config, host)?;
        Ok(())
    }

    fn check_namespaces(&self, config: &ContainerConfig, host: &HostSettings) -> Result<()> {
        if host.uts == NamespaceMode::Host && !config.hostname.is_empty() {
            return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
        }
        if let NetworkMode::Container(other) = &host.network {
            let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
            if !config.hostname.is_empty() {
                return conflict("hostname and the network mode");
            }
            if !host.dns.is_empty() {
                return conflict("dns and the network mode");
            }
            if !host.extra_hosts.is_empty() {
                return conflict("custom host-to-IP mapping and the network mode");
            }
            if !host.port_bindings.is_empty() || host.publish_all {
                return conflict("port publishing and the container type network mode");
            }
            self.find_donor(other)?;
        }
        for mode in [&host.ipc, &host.pid, &host.uts] {
            if let NamespaceMode::Container(other) = mode {
                self.find_donor(other)?;
            }
        }
        Ok(())
    }

    /// A container whose namespace another wants. That there is none is no "not found": docker's client would look for an image then.
    fn find_donor(&self, name: &str) -> Result<()> {
        self.containers.find(name).map(drop).map_err(|error| Error::invalid(error.message()))
    }

    /// The container's own folder with its writable layer.
    fn make_folders(&self, record: &Record) -> Result<()> {
        use naru_base::error::Context as _;
        let folder = self.records.folder(record.id.as_str()).system("cannot make the folder of the container")?;
        let root = naru_fs::Root::from_fd(folder);
        let mode = self.images.root_mode(&record.image);
        for (name, mode) in [("fs", 0o710), ("fs/upper", mode), ("fs/work", 0o700)] {
            let made = root.create_dir_all(name, mode.into()).system("cannot make the writable layer")?;
            rustix::fs::fchmod(&made, mode.into()).system("cannot make the writable layer")?;
            if name == "fs" && record.host.layer_limit > 0 {
                crate::quota::limit(&root, name, record.host.layer_limit)?;
            }
        }
        Ok(())
    }
}

/// What this host can't give as asked for.
fn privilege_warnings(host: &HostSettings, warnings: &mut Vec<String>) {
    let all = host.privileged || host.cap_add.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let missing = capabilities::names(capabilities::ALL & !capabilities::available());
    if all && !missing.is_empty() {
        warnings.push(format!(
            "This host does not have the capabilities {}: the container runs without",
            missing.join(", ")
        ));
    }
}
