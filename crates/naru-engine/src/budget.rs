//! The disk budget: when images take more than they may, those go that were not used for longest. What a container has, what is marked as
//! kept and what was used a moment ago stays.

use crate::Engine;
use crate::types::{Filters, ImageSummary, UnixNanos};
use naru_base::{Digest, Result, size};
use naru_fs::{Durability, Root, durable};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An image with this label is never collected.
const KEEP_LABEL: &str = "naru.keep";
/// When each image was last used, in the data root.
const FILE: &str = "image-use.json";
/// Between looks at the disk.
const EVERY: Duration = Duration::from_secs(10);

/// How much images may take, and what is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskBudget {
    /// Bytes of layers and blobs together.
    pub bytes: u64,
    /// An image that was used within this time is not collected.
    pub grace: Duration,
    /// Names of images that are kept: `name:tag`, or the beginning of one and `*`.
    pub keep: Vec<String>,
}

impl DiskBudget {
    fn keeps(&self, image: &ImageSummary) -> bool {
        let labelled = image.labels.get(KEEP_LABEL).is_some_and(|value| value != "false");
        let fits = |tag: &String, pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => tag.starts_with(beginning),
            None => tag == pattern || tag.strip_suffix(":latest") == Some(pattern),
        };
        labelled || image.tags.iter().any(|tag| self.keep.iter().any(|pattern| fits(tag, pattern)))
    }
}

/// When images were last used.
#[derive(Debug, Default)]
pub(crate) struct ImageUse {
    times: Mutex<BTreeMap<Digest, UnixNanos>>,
}

impl ImageUse {
    /// Reads what an earlier engine kept; without it, times are those of the images' tags.
    pub(crate) fn open(data_root: &Path) -> Self {
        let kept = Root::open_host(data_root).and_then(|root| durable::read_json(&root, FILE));
        Self { times: Mutex::new(kept.ok().flatten().unwrap_or_default()) }
    }

    /// It is used now.
    pub(crate) fn touch(&self, image: &Digest) {
        crate::lock(&self.times).insert(image.clone(), crate::clock::now());
    }

    fn of(&self, image: &Digest) -> UnixNanos {
        crate::lock(&self.times).get(image).copied().unwrap_or(0)
    }

    fn save(&self, data_root: &Path, known: &[Digest]) -> Result<()> {
        let mut times = crate::lock(&self.times);
        times.retain(|image, _| known.contains(image));
        let root = Root::open_host(data_root)?;
        Ok(durable::write_json(&root, FILE, &*times, Durability::Volatile)?)
    }
}

impl Engine {
    /// Looks after the budget that there is now from now on, and no more after another.
    pub(crate) fn keep_budget(self: &Arc<Self>) {
        let mut keeper = crate::lock(&self.budget_keeper);
        if let Some(before) = keeper.take() {
            before.abort();
        }
        if self.live().disk_budget.is_none() {
            return;
        }
        let engine = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            loop {
                let Some(strong) = engine.upgrade() else { return };
                if let Err(error) = crate::image::blocking(move || strong.apply_budget()).await {
                    tracing::warn!("cannot look after the disk budget: {error}");
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        *keeper = Some(task.abort_handle());
    }

    fn apply_budget(&self) -> Result<()> {
        let live = self.live();
        let Some(budget) = &live.disk_budget else { return Ok(()) };
        let mut images = self.images(true, &Filters::new())?;
        let known: Vec<Digest> = images.iter().map(|image| image.id.clone()).collect();
        self.image_use.save(&self.config.data_root, &known)?;
        let mut total = self.images.store.usage()?.total;
        if total <= budget.bytes {
            return Ok(());
        }
        let last_use = |image: &ImageSummary| {
            let tagged = self.images.store.image(&image.id).ok().and_then(|i| i.last_tagged.clone());
            let tagged = tagged.and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let tagged = tagged.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(0);
            self.image_use.of(&image.id).max(tagged)
        };
        let grace = i64::try_from(budget.grace.as_nanos()).unwrap_or(i64::MAX);
        let newest = crate::clock::now().saturating_sub(grace);
        images.retain(|image| !self.images.is_host(&image.id) && !budget.keeps(image) && last_use(image) <= newest);
        images.sort_by_key(last_use);
        for image in images {
            if total <= budget.bytes {
                return Ok(());
            }
            // Asked again for each: a container may have come meanwhile.
            if self.image_users().contains_key(&image.id) || !self.images.store.children(&image.id).is_empty() {
                continue;
            }
            let freed = self.collect_image(&image.id)?;
            let name = image.tags.first().map_or_else(|| image.id.short().to_owned(), Clone::clone);
            tracing::info!(image = name, "collected for the disk budget: {} freed", size::human_size(freed as f64));
            total = self.images.store.usage()?.total;
        }
        if total > budget.bytes {
            tracing::debug!("images take {total} bytes: what is left of them is used or kept");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept() {
        let budget = DiskBudget { keep: vec!["postgres:*".into(), "app".into()], ..DiskBudget::default() };
        let keeps = |tag: &str, label: Option<&str>| {
            budget.keeps(&ImageSummary {
                id: Digest::from_bytes(&[0; 32]),
                parent: None,
                tags: vec![tag.to_owned()],
                digests: Vec::new(),
                created: 0,
                size: 0,
                labels: label.map(|value| (KEEP_LABEL.to_owned(), value.to_owned())).into_iter().collect(),
                containers: 0,
                has_children: false,
            })
        };
        assert!(keeps("postgres:16", None) && keeps("app:latest", None) && keeps("x:1", Some("")));
        assert!(!keeps("app:2", None) && !keeps("x:1", None) && !keeps("x:1", Some("false")));
    }
}
