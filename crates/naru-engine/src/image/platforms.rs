//! Images for several platforms: what of them is here, and one platform's removal.

use crate::Engine;
use crate::types::{ImageRemoval, ManifestView, PlatformView};
use naru_base::{Digest, Error, Platform, Result};
use naru_store::{Image, Member, Source};
use std::sync::Arc;

impl Engine {
    /// The manifests that an image's name stands for, those that are not here, too: one for an image of a single platform.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn image_platforms(&self, name: &str) -> Result<Vec<PlatformView>> {
        let image = self.images.store.lookup(name)?;
        if let Some(of) = self.images.store.index_of(name, &image) {
            return Ok(self.images.store.members(&of).iter().map(|member| self.member_view(member)).collect());
        }
        if image.source != Source::Layers {
            return Ok(Vec::new());
        }
        let (_, bytes, media_type) = self.images.store.manifest(&image)?;
        let manifest = ManifestView { media_type, digest: naru_store::digest_of(&bytes), size: bytes.len() as u64 };
        Ok(vec![self.platform_view(manifest, Some(image.config.platform()), Some(&image))])
    }

    /// The index behind an image's name.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn image_index(&self, name: &str) -> Result<Option<ManifestView>> {
        let image = self.images.store.lookup(name)?;
        let of = self.images.store.index_of(name, &image);
        Ok(of.map(|of| ManifestView {
            media_type: of.descriptor.media_type.clone(),
            digest: of.descriptor.digest.clone(),
            size: of.descriptor.size,
        }))
    }

    fn member_view(&self, member: &Member) -> PlatformView {
        let d = &member.descriptor;
        let manifest = ManifestView { media_type: d.media_type.clone(), digest: d.digest.clone(), size: d.size };
        PlatformView {
            is_image: member.is_image(),
            attests: member.attests().map(str::to_owned),
            annotations: d.annotations.clone(),
            ..self.platform_view(manifest, member.platform(), member.image.as_deref())
        }
    }

    fn platform_view(&self, manifest: ManifestView, platform: Option<Platform>, image: Option<&Image>) -> PlatformView {
        let users = |image: &Image| self.users_of(&image.id).iter().map(|c| c.id.to_string()).collect();
        PlatformView {
            manifest,
            platform,
            is_image: true,
            attests: None,
            annotations: std::collections::BTreeMap::new(),
            available: image.is_some(),
            content: image.map_or(0, |i| self.images.store.content_size(i)),
            unpacked: image.map_or(0, Image::size),
            containers: image.map(users).unwrap_or_default(),
        }
    }

    /// The image that a name means, or that it means for a platform.
    pub(super) fn image_for(&self, name: &str, platform: Option<&Platform>) -> Result<(Arc<Image>, Arc<Image>)> {
        let named = self.images.store.lookup(name)?;
        let image = match platform {
            Some(wanted) => self.images.store.for_platform(name, &named, wanted)?,
            None => Arc::clone(&named),
        };
        Ok((image, named))
    }

    /// The other images of the indices that this one carries the names of: they go with it.
    pub(super) fn family(&self, id: &Digest) -> Vec<Arc<Image>> {
        self.images.store.families().remove(id).unwrap_or_default()
    }

    /// Deletes those of a family that nothing holds any more; the bytes that were freed.
    pub(super) fn delete_family(&self, family: &[Arc<Image>], removed: &mut Vec<ImageRemoval>) -> Result<u64> {
        let mut bytes = 0;
        for member in family {
            let store = &self.images.store;
            let held = store.followers().contains(&member.id)
                || !store.references(&member.id).is_empty()
                || !store.children(&member.id).is_empty()
                || !self.users_of(&member.id).is_empty();
            if !held && store.image(&member.id).is_ok() {
                bytes += self.delete_with_parents(&member.id, true, removed)?;
            }
        }
        Ok(bytes)
    }

    /// Removes what is here of an image for these platforms; the name goes with the last one.
    ///
    /// # Errors
    /// docker's texts: not here for such a platform, used by a container.
    pub async fn remove_platforms(&self, name: &str, force: bool, platforms: &[Platform]) -> Result<Vec<ImageRemoval>> {
        let mut removed = Vec::new();
        let mut wanted: Vec<Arc<Image>> = Vec::new();
        for platform in platforms {
            let (image, _) = self.image_for(name, Some(platform))?;
            if platform.rank(&image.config.platform()) != Some(0) {
                return Err(Error::not_found(format!(
                    "image with reference {name} was found but does not provide the specified platform ({platform})"
                )));
            }
            if !wanted.iter().any(|known| known.id == image.id) {
                wanted.push(image);
            }
        }
        let here = match self.images.store.index_of(name, &*self.images.store.lookup(name)?) {
            Some(of) => self.images.store.members(&of).iter().filter(|m| m.image.is_some()).count(),
            None => 1,
        };
        if wanted.len() >= here {
            return self.remove_image(name, force, true).await;
        }
        for image in &wanted {
            self.check_removable(&image.id, force, &self.users_of(&image.id))?;
        }
        for image in &wanted {
            self.image_event("delete", &image.id, image.id.as_str());
            self.images.store.delete(&image.id)?;
            removed.push(ImageRemoval::Deleted(image.id.clone()));
        }
        self.images.sweep_init_layers();
        Ok(removed)
    }
}
