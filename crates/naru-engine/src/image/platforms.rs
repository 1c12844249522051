//! Images for several platforms: what of them is here, and one platform's removal.

use crate::Engine;
use crate::types::{ImageRemoval, ManifestView, PlatformView};
use naru_base::{Digest, Error, Platform, Result};
use naru_store::{Image, ImageIndex, Member, Source};
use std::collections::HashMap;
use std::sync::Arc;

/// The ids of the containers of each image that has any.
type Users = HashMap<Digest, Vec<String>>;

fn index_view(of: &ImageIndex) -> ManifestView {
    let ImageIndex { descriptor: d, .. } = of;
    ManifestView { media_type: d.media_type.clone(), digest: d.digest.clone(), size: d.size }
}

impl Engine {
    /// The manifests that an image's name stands for, those that are not here, too: one for an image of a single platform.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn image_platforms(&self, name: &str) -> Result<Vec<PlatformView>> {
        let image = self.images.store.lookup(name)?;
        let users = self.users_by_image();
        match self.images.store.index_of(name, &image) {
            Some(of) => Ok(self.images.store.members(&of).iter().map(|m| self.member_view(m, &users)).collect()),
            None => self.own_platform(&image, &users),
        }
    }

    /// The index behind an image's name.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn image_index(&self, name: &str) -> Result<Option<ManifestView>> {
        let image = self.images.store.lookup(name)?;
        Ok(self.images.store.index_of(name, &image).map(|of| index_view(&of)))
    }

    /// For a list: of each image its platforms as [`Engine::image_platforms`] has them, and its index. For one that is gone meanwhile, none.
    ///
    /// # Errors
    /// When an image's manifest is damaged.
    pub fn all_platforms(&self, ids: &[Digest]) -> Result<Vec<(Vec<PlatformView>, Option<ManifestView>)>> {
        let catalogue = self.images.store.catalogue();
        let users = self.users_by_image();
        let platforms = |id: &Digest| {
            let Some(image) = catalogue.image(id) else { return Ok((Vec::new(), None)) };
            let Some(of) = catalogue.index_of(image) else { return Ok((self.own_platform(image, &users)?, None)) };
            let members = catalogue.members(of);
            Ok((members.iter().map(|m| self.member_view(m, &users)).collect(), Some(index_view(of))))
        };
        ids.iter().map(platforms).collect()
    }

    /// The only platform of an image that is from no index.
    fn own_platform(&self, image: &Image, users: &Users) -> Result<Vec<PlatformView>> {
        if image.source != Source::Layers {
            return Ok(Vec::new());
        }
        let (_, bytes, media_type) = self.images.store.manifest(image)?;
        let manifest = ManifestView { media_type, digest: naru_store::digest_of(&bytes), size: bytes.len() as u64 };
        Ok(vec![self.platform_view(manifest, Some(image.config.platform()), Some(image), users)])
    }

    fn member_view(&self, member: &Member, users: &Users) -> PlatformView {
        let d = &member.descriptor;
        let manifest = ManifestView { media_type: d.media_type.clone(), digest: d.digest.clone(), size: d.size };
        PlatformView {
            is_image: member.is_image(),
            attests: member.attests().map(str::to_owned),
            annotations: d.annotations.clone(),
            ..self.platform_view(manifest, member.platform(), member.image.as_deref(), users)
        }
    }

    fn platform_view(
        &self,
        manifest: ManifestView,
        platform: Option<Platform>,
        image: Option<&Image>,
        users: &Users,
    ) -> PlatformView {
        PlatformView {
            manifest,
            platform,
            is_image: true,
            attests: None,
            annotations: std::collections::BTreeMap::new(),
            available: image.is_some(),
            content: image.map_or(0, |i| self.images.store.content_size(i)),
            unpacked: image.map_or(0, Image::size),
            containers: image.and_then(|i| users.get(&i.id)).cloned().unwrap_or_default(),
        }
    }

    fn users_by_image(&self) -> Users {
        let mut users = Users::new();
        for container in self.containers.all() {
            users.entry(container.read(|r| r.image.clone())).or_default().push(container.id.to_string());
        }
        users
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
