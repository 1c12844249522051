//! Which containers a list shows.

use super::Container;
use crate::Engine;
use crate::types::{BriefView, ContainerView, Filters, ListOptions, Status};
use naru_base::{Error, Result};
use std::sync::Arc;

/// Keys that docker knows.
pub const CONTAINER_FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Engine {
    /// Containers as the options say, newest first.
    ///
    /// # Errors
    /// For filters that docker doesn't know, and references to containers that aren't there.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<ContainerView>> {
        let filter = Compiled::new(self, &options.filters)?;
        let every_state = options.all || options.limit > 0 || filter.names_a_state();
        let mut views = Vec::new();
        for container in self.newest_first(every_state) {
            if options.limit > 0 && views.len() == options.limit {
                break;
            }
            let view = self.listed(&container);
            if filter.accepts(&view) {
                views.push(view);
            }
        }
        if options.size {
            for view in &mut views {
                self.add_sizes(view);
            }
        }
        Ok(views)
    }

    /// The same without filters, and no more of each than a line needs.
    pub fn list_briefly(&self, all: bool, limit: usize) -> Vec<BriefView> {
        let found = self.newest_first(all || limit > 0);
        let most = if limit > 0 { limit } else { usize::MAX };
        found.iter().take(most).map(|container| container.brief()).collect()
    }

    fn newest_first(&self, every_state: bool) -> Vec<Arc<Container>> {
        let mut found: Vec<Arc<Container>> = self.containers.all();
        found.retain(|c| every_state || c.status().is_running());
        found.sort_by_cached_key(|c| std::cmp::Reverse(c.read(|r| r.created)));
        found
    }
}

/// Filters, checked and looked up once.
struct Compiled<'a> {
    filters: &'a Filters,
    names: Vec<regex_lite::Regex>,
    exited: Vec<i32>,
    before: Option<i64>,
    since: Option<i64>,
    ancestors: Option<Vec<naru_base::Digest>>,
    volumes: Vec<&'a str>,
}

impl<'a> Compiled<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        for key in filters.keys() {
            if !CONTAINER_FILTERS.contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
        }
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        for status in values("status") {
            if !["created", "restarting", "running", "removing", "paused", "exited", "dead"].contains(&status.as_str())
            {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        for health in values("health") {
            if !["starting", "healthy", "unhealthy", "none"].contains(&health.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'health={health}'")));
            }
        }
        let names = values("name").iter().map(|n| name_pattern(n)).collect::<Result<_>>()?;
        let exited = values("exited")
            .iter()
            .map(|e| e.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={e}'"))))
            .collect::<Result<_>>()?;
        let created = |key: &str| -> Result<Option<i64>> {
            values(key).first().map(|n| engine.containers.find(n).map(|c| c.read(|r| r.created))).transpose()
        };
        let ancestors = filters.contains_key("ancestor").then(|| engine.ancestors(values("ancestor")));
        let volumes = values("volume").iter().map(String::as_str).collect();
        Ok(Self { filters, names, exited, before: created("before")?, since: created("since")?, ancestors, volumes })
    }

    fn names_a_state(&self) -> bool {
        ["status", "exited", "before", "since"].iter().any(|k| self.filters.contains_key(*k))
    }

    fn values(&self, key: &str) -> Option<&[String]> {
        self.filters.get(key).map(Vec::as_slice)
    }

    /// Whether one value of `key` fits, or the key isn't there.
    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.values(key).is_none_or(|values| values.iter().any(|v| fits(v)))
    }

    fn accepts(&self, view: &ContainerView) -> bool {
        let named = |p: &regex_lite::Regex| p.is_match(&view.name) || p.is_match(&format!("/{}", view.name));
        let port = |p: &str| p.split_once('/').map_or_else(|| format!("{p}/tcp"), |_| p.to_owned());
        (self.names.is_empty() || self.names.iter().any(named))
            && self.any("id", |v| view.id.as_str().starts_with(v))
            && self.any("status", |v| view.status.as_str() == v)
            && self.any("health", |v| v == view.health.as_ref().map_or("none", |h| h.status.as_str()))
            && self.any("expose", |v| view.config.exposed_ports.contains(&port(v)))
            && self.any("publish", |v| view.ports.contains_key(&port(v)))
            && self.any("is-task", |v| v == "false")
            && self.any("network", |v| view.endpoints.iter().any(|(n, e)| n == v || e.network_id.starts_with(v)))
            && self.accepts_state(view)
            && self.values("label").is_none_or(|all| all.iter().all(|l| label_fits(&view.config.labels, l)))
            && (self.volumes.is_empty()
                || view
                    .mounts
                    .iter()
                    .any(|m| self.volumes.iter().any(|v| m.name == *v || m.target == *v || m.source == *v)))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&view.image_id))
    }

    fn accepts_state(&self, view: &ContainerView) -> bool {
        let ended = view.status == Status::Exited && view.started_at != 0;
        (self.exited.is_empty() || (ended && self.exited.contains(&view.exit_code)))
            && self.before.is_none_or(|t| view.created < t)
            && self.since.is_none_or(|t| view.created > t)
    }
}

/// docker's name filter is an unanchored regular expression; what is none is taken as it stands.
/// What a name has to fit: an expression, or just text where it is none.
pub(crate) fn name_pattern(text: &str) -> Result<regex_lite::Regex> {
    regex_lite::Regex::new(text)
        .or_else(|_| regex_lite::Regex::new(&regex_lite::escape(text)))
        .map_err(|e| Error::invalid(format!("invalid filter 'name={text}': {e}")))
}

/// `key` or `key=value`.
pub(crate) fn label_fits(labels: &std::collections::BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}
