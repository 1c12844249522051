//! The built-in image `host`: a copy-on-write view of this machine's own root file system. It needs no registry and no download.

use super::Images;
use naru_base::{Platform, Reference, Result};
use naru_store::spec::ImageConfig;
use std::path::{Path, PathBuf};

/// What a container of this image must not see: secrets of the machine. The engine's own folders are added to them.
const SECRETS: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/root",
    "/home",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/etc/docker",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/var/spool/cron",
    "/var/mail",
];

/// Paths that are masked in every container of the image `host`.
pub(crate) fn secrets(own: &[&Path]) -> Vec<PathBuf> {
    SECRETS.iter().map(PathBuf::from).chain(own.iter().map(|p| p.to_path_buf())).collect()
}

impl Images {
    /// Registers the image under its name, `host:latest`.
    pub(super) fn register_host(&self) -> Result<()> {
        let platform = Platform::host();
        let mut config = ImageConfig { architecture: platform.architecture, os: platform.os, ..ImageConfig::default() };
        config.config.cmd = Some(vec!["/bin/sh".into()]);
        config.config.env = Some(vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()]);
        let name = Reference::parse("host")?.with_default_tag();
        self.store.register_host(&name, Path::new("/"), config)?;
        Ok(())
    }
}
