//! Images as they are shown: lists, details, history.

use super::run_config;
use crate::Engine;
use crate::types::{Filters, HistoryView, ImageSummary, ImageView, ManifestView, UnixNanos};
use naru_base::{Digest, Error, Platform, Reference, Result};
use naru_store::Image;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Keys that docker knows.
const KEYS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

impl Engine {
    /// Images as the filters say, newest first. Those that only serve as others' parents are left out unless `all`.
    ///
    /// # Errors
    /// For filters that docker doesn't know, and references to images that aren't there.
    pub fn images(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        if let Some(key) = filters.keys().find(|k| !KEYS.contains(&k.as_str())) {
            return Err(Error::invalid(format!("invalid filter '{key}'")));
        }
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let created = |key: &str| -> Result<Option<UnixNanos>> {
            values(key).first().map(|n| self.images.store.lookup(n).map(|i| created_at(&i))).transpose()
        };
        let (before, since) = (created("before")?, created("since")?);
        let dangling = values("dangling").first().map(|v| matches!(v.as_str(), "true" | "1"));
        let prune = crate::prune::Filter::parse_with(filters, &["before", "dangling", "reference", "since"])?;
        let mut names = self.images.store.all_references();
        let users = self.image_users();
        let parents = self.images.store.parents();
        let families = self.images.store.families();
        let followers: HashSet<&Digest> = families.values().flatten().map(|i| &i.id).collect();
        let mut found = Vec::new();
        for image in self.images.store.images() {
            if followers.contains(&image.id) {
                continue;
            }
            let references = names.remove(&image.id).unwrap_or_default();
            let mut summary = self.summary(&image, &references, &users, parents.contains(&image.id))?;
            if let Some(family) = families.get(&image.id) {
                let mut seen = HashSet::new();
                let layers = family.iter().chain([&image]).flat_map(|i| &i.layers);
                summary.size = layers.filter(|l| seen.insert(&l.chain_id)).map(|l| l.size).sum();
                summary.containers += family.iter().filter_map(|i| users.get(&i.id)).sum::<usize>();
            }
            let patterns = values("reference");
            if !patterns.is_empty() {
                let fits = |name: &String| patterns.iter().any(|p| reference_fits(p, name));
                summary.tags.retain(fits);
                summary.digests.retain(fits);
                if summary.tags.is_empty() && summary.digests.is_empty() {
                    continue;
                }
            }
            let is_dangling = summary.tags.is_empty();
            let hidden = !all && is_dangling && summary.has_children;
            let wrong_age = before.is_some_and(|t| summary.created >= t) || since.is_some_and(|t| summary.created <= t);
            let labelled = prune.accepts(summary.created, &summary.labels);
            if !hidden && !wrong_age && labelled && dangling.is_none_or(|d| d == is_dangling) {
                found.push(summary);
            }
        }
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.tags.cmp(&b.tags)));
        Ok(found)
    }

    /// How many containers use each image.
    pub(crate) fn image_users(&self) -> HashMap<Digest, usize> {
        let mut users = HashMap::new();
        for container in self.containers.all() {
            *users.entry(container.read(|r| r.image.clone())).or_default() += 1;
        }
        users
    }

    pub(crate) fn summary(
        &self,
        image: &Image,
        references: &[Reference],
        users: &HashMap<Digest, usize>,
        has_children: bool,
    ) -> Result<ImageSummary> {
        let (digests, tags): (Vec<_>, Vec<_>) = references.iter().partition(|r| r.digest().is_some());
        Ok(ImageSummary {
            id: image.id.clone(),
            parent: image.parent.clone(),
            tags: tags.into_iter().map(Reference::familiar).collect(),
            digests: digests.into_iter().map(Reference::familiar).collect(),
            created: created_at(image),
            size: image.size(),
            labels: run_config(image)?.labels,
            containers: users.get(&image.id).copied().unwrap_or_default(),
            has_children,
        })
    }

    /// One image, whole.
    ///
    /// # Errors
    /// When there is none of that name, or not for this platform.
    pub fn image(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView> {
        let (image, named) = self.image_for(name, platform)?;
        let references = self.images.store.references(&named.id);
        let bytes = self.images.store.config_bytes(&image)?;
        let has_children = !self.images.store.children(&image.id).is_empty();
        Ok(ImageView {
            summary: self.summary(&image, &references, &self.image_users(), has_children)?,
            config: serde_json::from_slice(&bytes).map_err(|e| {
                Error::system(format!("the configuration of image {} is damaged: {e}", image.id.short()))
            })?,
            diff_ids: image.config.rootfs.diff_ids.clone(),
            layer_dirs: self.images.store.lower_dirs(&image).unwrap_or_default(),
            last_tagged: image.last_tagged.as_deref().and_then(nanos).unwrap_or_default(),
            manifest: image.manifest.as_ref().map(|m| ManifestView {
                media_type: m.media_type.clone(),
                digest: m.digest.clone(),
                size: m.size,
            }),
        })
    }

    /// The steps that made an image, newest first.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn image_history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryView>> {
        let (image, _) = self.image_for(name, platform)?;
        let mut sizes = image.layers.iter().map(|l| l.size);
        let mut steps: Vec<HistoryView> = image
            .config
            .history
            .iter()
            .map(|h| HistoryView {
                id: None,
                created: h.created.as_deref().and_then(nanos).unwrap_or_default(),
                created_by: h.created_by.clone(),
                tags: Vec::new(),
                size: if h.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
                comment: h.comment.clone(),
            })
            .collect();
        steps.reverse();
        let mut holder = Some(Arc::clone(&image));
        for step in &mut steps {
            let Some(own) = holder else { break };
            step.id = Some(own.id.clone());
            let tags = self.images.store.references(&own.id);
            step.tags = tags.iter().filter(|r| r.digest().is_none()).map(Reference::familiar).collect();
            holder = own.parent.as_ref().and_then(|p| self.images.store.image(p).ok());
        }
        Ok(steps)
    }

    /// Images that `ancestor` filters mean, with everything made from them here.
    pub(crate) fn ancestors(&self, names: &[String]) -> Vec<Digest> {
        let mut found: Vec<Digest> = names.iter().filter_map(|n| self.images.find(n).ok()).collect();
        let mut at = 0;
        while at < found.len() {
            for child in self.images.store.children(&found[at]) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
            at += 1;
        }
        found
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// When there is no such image, or the name can't be one.
    pub async fn tag(&self, name: &str, target: Reference) -> Result<()> {
        let image = self.images.store.lookup(name)?;
        let target = target.with_default_tag();
        match self.images.store.index_of(name, &image) {
            Some(of) => self.images.store.tag_index(&image.id, &target, &of)?,
            None => drop(self.images.store.tag(&image.id, &target)?),
        }
        self.image_event("tag", &image.id, &target.familiar());
        Ok(())
    }

    pub(crate) fn image_event(&self, action: &str, id: &Digest, name: &str) {
        self.tell_of_image(action, id, id.as_str(), name);
    }

    /// What happens between a registry and an image is told of its reference (docker's way).
    pub(crate) fn transfer_event(&self, action: &str, id: &Digest, reference: &Reference) {
        self.tell_of_image(action, id, &reference.familiar(), &reference.familiar_name());
    }

    fn tell_of_image(&self, action: &str, id: &Digest, subject: &str, name: &str) {
        let mut attributes = match self.images.store.image(id).and_then(|i| run_config(&i)) {
            Ok(config) => config.labels,
            Err(_) => std::collections::BTreeMap::new(),
        };
        attributes.insert("name".into(), name.to_owned());
        self.events.publish("image", action, subject, attributes);
    }
}

fn created_at(image: &Image) -> UnixNanos {
    image.config.created.as_deref().and_then(nanos).unwrap_or_default()
}

fn nanos(text: &str) -> Option<UnixNanos> {
    let time: jiff::Timestamp = text.parse().ok()?;
    UnixNanos::try_from(time.as_nanosecond()).ok()
}

/// docker's `reference` filter: a shell pattern against the familiar name, with and without the tag.
fn reference_fits(pattern: &str, name: &str) -> bool {
    let bare = name.split_once('@').map_or(name, |(n, _)| n);
    let repository = match bare.rsplit_once(':') {
        Some((n, tag)) if !tag.contains('/') => n,
        _ => bare,
    };
    glob(pattern.as_bytes(), name.as_bytes()) || glob(pattern.as_bytes(), repository.as_bytes())
}

/// `*` and `?` don't cross a slash (Go's path.Match).
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let end = text.iter().position(|&b| b == b'/').unwrap_or(text.len());
            (0..=end).any(|n| glob(rest, &text[n..]))
        }
        (Some((b'?', rest)), Some((c, more))) => *c != b'/' && glob(rest, more),
        (Some((p, rest)), Some((c, more))) => p == c && glob(rest, more),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_fit_patterns() {
        for (pattern, name) in
            [("deb*", "debian:12"), ("debian", "debian:12"), ("*:12", "debian:12"), ("*/app", "me/app:1")]
        {
            assert!(reference_fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("deb", "debian:12"), ("*", "me/app:1"), ("debian:13", "debian:12")] {
            assert!(!reference_fits(pattern, name), "{pattern} {name}");
        }
    }
}
