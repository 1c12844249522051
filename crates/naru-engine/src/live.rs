//! Settings that can be changed while the engine runs (dockerd calls them reloadable): the client of registries, limits of transfers, the
//! disk budget, labels.

use crate::budget::DiskBudget;
use crate::{Engine, RegistryRule, info};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// docker's number of layers that one pull fetches at once.
const DOWNLOADS: usize = 3;
/// docker's number of layers that one push sends at once.
const UPLOADS: usize = 5;
/// docker's number of tries for one layer.
const ATTEMPTS: u32 = 5;

/// They hold for what begins after they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Tells more. What is told is its caller's; this is what `info` shows.
    pub debug: bool,
    /// `KEY=VALUE`, shown by `info`.
    pub labels: Vec<String>,
    /// Registries spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the hub.
    pub registry_mirrors: Vec<String>,
    /// Mirrors and blocks by the beginning of an image's name.
    pub registry_rules: Vec<RegistryRule>,
    /// How many layers one pull fetches at once.
    pub max_downloads: usize,
    /// How many layers one push sends at once.
    pub max_uploads: usize,
    /// How often a transfer is tried.
    pub max_attempts: u32,
    /// How much images may take; `None` for all that they need.
    pub disk_budget: Option<DiskBudget>,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            debug: false,
            labels: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registry_rules: Vec::new(),
            max_downloads: DOWNLOADS,
            max_uploads: UPLOADS,
            max_attempts: ATTEMPTS,
            disk_budget: None,
        }
    }
}

impl LiveSettings {
    /// A client of registries as these settings want it; `certs` is the folder with certificates by registry, `index` where is searched.
    pub(crate) fn registry(&self, certs: Option<&PathBuf>, index: Option<&String>) -> naru_registry::Client {
        let mut config = naru_registry::Config {
            mirrors: self.registry_mirrors.clone(),
            insecure: self.insecure_registries.clone(),
            rules: self.registry_rules.clone(),
            proxies: naru_registry::Proxies::from_env(),
            ..naru_registry::Config::default()
        };
        config.retry.attempts = self.max_attempts;
        config.insecure.extend(self.registry_rules.iter().filter(|r| r.insecure).map(|r| r.registry().to_owned()));
        if let Some(folder) = certs {
            config.certs_dir.clone_from(folder);
        }
        if let Some(index) = index {
            config.index.clone_from(index);
        }
        naru_registry::Client::new(config)
    }

    /// Whether a client of registries would be another one.
    fn changes_registry(&self, other: &Self) -> bool {
        let parts = |s: &Self| {
            (s.registry_mirrors.clone(), s.insecure_registries.clone(), s.registry_rules.clone(), s.max_attempts)
        };
        parts(self) != parts(other)
    }

    /// What the event tells of them, under docker's names.
    fn attributes(&self) -> BTreeMap<String, String> {
        let list = |items: &[String]| serde_json::Value::from(items).to_string();
        let rules: Vec<String> = self.registry_rules.iter().map(|rule| rule.prefix.clone()).collect();
        let budget = self.disk_budget.as_ref().map_or_else(String::new, |budget| budget.bytes.to_string());
        [
            ("name", info::hostname()),
            ("debug", self.debug.to_string()),
            ("labels", list(&self.labels)),
            ("insecure-registries", list(&self.insecure_registries)),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("registries", list(&rules)),
            ("max-concurrent-downloads", self.max_downloads.to_string()),
            ("max-concurrent-uploads", self.max_uploads.to_string()),
            ("max-download-attempts", self.max_attempts.to_string()),
            ("disk-budget", budget),
            ("live-restore", "true".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

impl Engine {
    /// The settings that hold now.
    pub(crate) fn live(&self) -> Arc<LiveSettings> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other settings hold from now on; what is under way goes on with those it began with.
    pub fn reload(self: &Arc<Self>, settings: LiveSettings) {
        let settings = Arc::new(settings);
        let before = {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *live, Arc::clone(&settings))
        };
        if settings.changes_registry(&before) {
            let client = settings.registry(self.config.registry_certs.as_ref(), self.config.index.as_ref());
            self.images.set_registry(client);
        }
        if settings.disk_budget != before.disk_budget {
            self.keep_budget();
        }
        self.events.publish("daemon", "reload", &self.id, settings.attributes());
    }
}
