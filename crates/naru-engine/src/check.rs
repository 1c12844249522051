//! `system check`: whether everything that is on the disk belongs to something, and is whole.

use crate::Engine;
use naru_base::Result;
use naru_base::error::Context as _;
use naru_fs::Root;
pub use naru_store::Problem;
use std::path::Path;
use std::sync::Arc;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// What is not as it should be.
    pub problems: Vec<Problem>,
    /// How much was looked at: a kind of thing, and how many.
    pub checked: Vec<(&'static str, usize)>,
}

impl Engine {
    /// Looks at everything that is kept on disk, and with `repair` puts right what can be. What is somebody's data is never removed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn check_disk(self: &Arc<Self>, repair: bool) -> Result<CheckReport> {
        let engine = Arc::clone(self);
        crate::image::blocking(move || {
            let (problems, checked) = engine.images.store.check(repair)?;
            let mut report = CheckReport {
                problems,
                checked: vec![("images", checked.images), ("layers", checked.layers), ("blobs", checked.blobs)],
            };
            engine.check_containers(repair, &mut report)?;
            engine.check_volumes(repair, &mut report);
            Ok(report)
        })
        .await
    }

    fn check_containers(&self, repair: bool, report: &mut CheckReport) -> Result<()> {
        let folder = self.config.data_root.join("containers");
        let root = Root::open_host(&folder).system("cannot open the containers' folder")?;
        for name in root.list("/").system("cannot list the containers' folder")? {
            let shown = name.to_string_lossy().into_owned();
            // One that is being made has a folder before it has a record, and a name before both.
            if self.owns(&shown) || self.containers.is_being_made(&shown) {
                continue;
            }
            if self.records.has(&shown) {
                let text = "its record can't be read: its files are left alone".to_owned();
                report.problems.push(Problem { kind: "container", subject: shown, problem: text, repaired: None });
                continue;
            }
            report.remove("container", shown, "a folder with a writable layer, and no container", repair, || {
                naru_fs::remove_tree(&root, &name)
            });
        }
        report.checked.push(("containers", self.containers.all().len()));
        for container in self.containers.all() {
            let record = container.read(Clone::clone);
            if let Err(error) = self.images.lower_dirs(&record.image) {
                let text = format!("its image's layers are not all there: {error}");
                let subject = record.name;
                report.problems.push(Problem { kind: "container", subject, problem: text, repaired: None });
            } else if !self.files(&record.id, 0).upper.is_dir() {
                let text = "its writable layer is missing: remove it".to_owned();
                let subject = record.name;
                report.problems.push(Problem { kind: "container", subject, problem: text, repaired: None });
            }
        }
        let run = self.config.exec_root.join("containers");
        self.check_ownerless(&run, "run folder", "of no container", repair, report);
        let trash = self.config.trash_dir();
        for name in names(&trash) {
            let Ok(root) = Root::open_host(&trash) else { continue };
            if !crate::disk::is_stale(&root, &name) {
                continue;
            }
            report.remove("trash", name.clone(), "files of what was removed", repair, || {
                naru_fs::remove_tree(&root, &name)
            });
        }
        Ok(())
    }

    fn check_ownerless(
        &self,
        folder: &Path,
        kind: &'static str,
        problem: &str,
        repair: bool,
        report: &mut CheckReport,
    ) {
        let Ok(root) = Root::open_host(folder) else { return };
        for name in names(folder) {
            if !self.owns(&name) && crate::disk::is_stale(&root, &name) {
                report.remove(kind, name.clone(), problem, repair, || naru_fs::remove_tree(&root, &name));
            }
        }
    }

    fn owns(&self, id: &str) -> bool {
        naru_base::Id::parse(id).is_ok_and(|id| self.containers.by_id(&id).is_some())
    }

    fn check_volumes(&self, repair: bool, report: &mut CheckReport) {
        report.checked.push(("volumes", self.volumes.list().len()));
        report.problems.extend(self.volumes.check(repair));
        for container in self.containers.all() {
            let record = container.read(Clone::clone);
            for mount in record.mounts.iter().filter(|m| m.view.kind == "volume") {
                if self.volumes.get(&mount.view.name).is_err() {
                    let problem = format!("volume {} is missing", mount.view.name);
                    let subject = record.name.clone();
                    report.problems.push(Problem { kind: "container", subject, problem, repaired: None });
                }
            }
        }
    }
}

impl CheckReport {
    fn remove(
        &mut self,
        kind: &'static str,
        subject: String,
        problem: &str,
        repair: bool,
        remove: impl FnOnce() -> naru_fs::Result<()>,
    ) {
        let repaired = match repair.then(remove) {
            None => None,
            Some(Ok(())) => Some("removed".to_owned()),
            Some(Err(error)) => {
                tracing::warn!("cannot remove {kind} {subject}: {error}");
                None
            }
        };
        self.problems.push(Problem { kind, subject, problem: problem.to_owned(), repaired });
    }
}

fn names(folder: &Path) -> Vec<String> {
    let listed = Root::open_host(folder).and_then(|root| root.list("/")).unwrap_or_default();
    listed.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
}
