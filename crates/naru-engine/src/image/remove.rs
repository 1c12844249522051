//! Removing images: names first, then what nobody uses.

use crate::Engine;
use crate::container::Container;
use crate::steps::Steps;
use crate::types::{Filters, ImageRemoval, ProgressSink};
use naru_base::{Digest, Error, Reference, Result};
use std::sync::Arc;

impl Engine {
    /// Removes a name, and the image with its last one.
    ///
    /// # Errors
    /// docker's texts: used by a container, several names, children.
    pub async fn remove_image(&self, name: &str, force: bool, prune_parents: bool) -> Result<Vec<ImageRemoval>> {
        let image = self.images.store.lookup(name)?;
        let references = self.images.store.references(&image.id);
        let family = self.family(&image.id);
        let mut users = self.users_of(&image.id);
        users.extend(family.iter().flat_map(|member| self.users_of(&member.id)));
        let by_name = named(&references, name);
        let mut removed = Vec::new();
        let mut untag = |reference: &Reference| -> Result<()> {
            self.images.store.untag(reference)?;
            self.image_event("untag", &image.id, image.id.as_str());
            removed.push(ImageRemoval::Untagged(reference.familiar()));
            Ok(())
        };
        let tags = || references.iter().filter(|r| r.digest().is_none());
        match by_name {
            Some(given) => {
                let last = tags().all(|t| t == given);
                if last
                    && !force
                    && let Some(user) = users.first()
                {
                    return Err(Error::conflict(format!(
                        "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced \
                         image {}",
                        user.id.short(),
                        image.id.short()
                    )));
                }
                untag(given)?;
                if tags().any(|t| t != given) {
                    return Ok(removed);
                }
            }
            None => {
                self.check_removable(&image.id, force, &users)?;
                let repositories: std::collections::BTreeSet<String> = tags().map(Reference::familiar_name).collect();
                if repositories.len() > 1 && !force {
                    return Err(Error::conflict(format!(
                        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                        image.id.short()
                    )));
                }
                for tag in tags() {
                    untag(tag)?;
                }
            }
        }
        // A container keeps its image: it stays without a name.
        if !users.is_empty() || !self.images.store.children(&image.id).is_empty() {
            return Ok(removed);
        }
        for digest in references.iter().filter(|r| r.digest().is_some() && Some(*r) != by_name) {
            untag(digest)?;
        }
        self.delete_with_parents(&image.id, prune_parents, &mut removed)?;
        self.delete_family(&family, &mut removed)?;
        Ok(removed)
    }

    pub(super) fn check_removable(&self, id: &Digest, force: bool, users: &[Arc<Container>]) -> Result<()> {
        let short = id.short();
        if let Some(user) = users.iter().find(|u| u.status().is_running()) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
                user.id.short()
            )));
        }
        if let Some(user) = users.first().filter(|_| !force) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
                user.id.short()
            )));
        }
        if !self.images.store.children(id).is_empty() {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
            )));
        }
        Ok(())
    }

    pub(super) fn users_of(&self, id: &Digest) -> Vec<Arc<Container>> {
        self.containers.all().into_iter().filter(|c| c.read(|r| r.image == *id)).collect()
    }

    /// Deletes an image, and its parents that have neither name nor use. One that was given a name meanwhile stays.
    pub(super) fn delete_with_parents(
        &self,
        id: &Digest,
        parents: bool,
        removed: &mut Vec<ImageRemoval>,
    ) -> Result<u64> {
        let mut next = Some(id.clone());
        let mut bytes = 0;
        while let Some(id) = next {
            let image = self.images.store.image(&id)?;
            if !self.images.store.references(&id).is_empty() {
                break;
            }
            self.image_event("delete", &id, id.as_str());
            let Some(gone) = self.images.store.delete_unnamed(&id)? else { break };
            bytes += gone.bytes;
            removed.push(ImageRemoval::Deleted(id));
            next = image.parent.clone().filter(|p| {
                parents
                    && self.images.store.image(p).is_ok()
                    && self.images.store.references(p).is_empty()
                    && self.images.store.children(p).is_empty()
                    && self.users_of(p).is_empty()
            });
        }
        self.images.sweep_init_layers();
        Ok(bytes)
    }

    /// Removes images without a name, or with `dangling=false` all that no container uses, and what broken-off pulls left; returns them and
    /// the bytes freed.
    ///
    /// # Errors
    /// For filters that docker doesn't know here.
    pub async fn prune_images(
        self: &Arc<Self>,
        filters: &Filters,
        progress: Option<ProgressSink>,
    ) -> Result<(Vec<ImageRemoval>, u64)> {
        let (engine, filters) = (Arc::clone(self), filters.clone());
        super::blocking(move || engine.prune_images_now(&filters, progress)).await
    }

    fn prune_images_now(&self, filters: &Filters, progress: Option<ProgressSink>) -> Result<(Vec<ImageRemoval>, u64)> {
        let filter = crate::prune::Filter::parse_with(filters, &["dangling"])?;
        let only_dangling = !filters.get("dangling").is_some_and(|v| v.iter().any(|v| v == "false" || v == "0"));
        let (mut removed, mut bytes) = (Vec::new(), 0);
        let all = self.images(true, &Filters::new())?;
        let (mut steps, mut count) = (Steps::begin(progress, "images", all.len()), 0);
        for summary in all {
            steps.step();
            let is_candidate = summary.tags.is_empty() || !only_dangling;
            let busy = summary.containers > 0 || summary.has_children || self.images.is_host(&summary.id);
            if !is_candidate || busy || !filter.accepts(summary.created, &summary.labels) {
                continue;
            }
            let family = self.family(&summary.id);
            for reference in self.images.store.references(&summary.id) {
                self.images.store.untag(&reference)?;
                removed.push(ImageRemoval::Untagged(reference.familiar()));
            }
            bytes += self.delete_with_parents(&summary.id, true, &mut removed)?;
            bytes += self.delete_family(&family, &mut removed)?;
            count += 1;
        }
        // What broken-off pulls left has neither labels nor a time.
        if filters.keys().all(|key| key == "dangling") {
            bytes += self.images.store.forget_downloads()?;
        }
        steps.end(count, bytes);
        self.prune_event("image", bytes);
        Ok((removed, bytes))
    }

    /// Removes an image with all its names; the bytes that were freed.
    pub(crate) fn collect_image(&self, id: &Digest) -> Result<u64> {
        let family = self.family(id);
        for reference in self.images.store.references(id) {
            self.images.store.untag(&reference)?;
            self.image_event("untag", id, id.as_str());
        }
        let bytes = self.delete_with_parents(id, true, &mut Vec::new())?;
        Ok(bytes + self.delete_family(&family, &mut Vec::new())?)
    }
}

/// The one of an image's names that was given; `None` when it was an id.
fn named<'a>(references: &'a [Reference], given: &str) -> Option<&'a Reference> {
    let wanted = Reference::parse(given).ok()?.with_default_tag();
    references.iter().find(|r| **r == wanted)
}
