//! Hooks of a container, and where they find it.

use naru_base::error::Context as _;
use naru_fs::{Durability, Root, durable};
use naru_runtime::{Hook, Hooks, StartOptions, StateText};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The version of the OCI runtime specification whose state the hooks read.
const OCI_VERSION: &str = "1.2.0";
/// Where a container's root is while hooks run, in its run folder.
const ROOT: &str = "rootfs";

/// What runs on the way to a container (OCI runtime specification, config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookPlan {
    /// In the host's namespaces, once the container's are there (the old name of the next).
    pub prestart: Vec<Hook>,
    /// In the host's namespaces, once the container's are there.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root changes.
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// Told to them.
    pub annotations: BTreeMap<String, String>,
}

impl HookPlan {
    /// Whether nothing is run.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.prestart, &self.create_runtime, &self.create_container, &self.start_container];
        lists.iter().all(|list| list.is_empty())
    }

    /// How a container with these hooks begins. They look for its `config.json` and its root in the bundle that its state names, which is its
    /// run folder.
    ///
    /// # Errors
    /// The bundle can't be made.
    pub(crate) fn options(self, id: &str, run_dir: &Path) -> naru_base::Result<StartOptions> {
        let root = run_dir.join(ROOT);
        match std::fs::create_dir(&root) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(e).system("cannot make the folder for hooks")?
            }
            _ => {}
        }
        // Those of the container's namespaces come here as its root, who may be nobody on the host.
        for (folder, mode) in [(run_dir, 0o711), (&root, 0o755)] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))
                .system("cannot open the folder for hooks")?;
        }
        let config = json!({
            "ociVersion": OCI_VERSION,
            "root": {"path": root},
            "annotations": self.annotations,
        });
        let (folder, text) = (Root::open_host(run_dir)?, config.to_string());
        let mode = Mode::from_raw_mode(0o644);
        durable::write_with_mode(&folder, "config.json", text.as_bytes(), Durability::Volatile, mode)?;
        let (id, bundle, annotations) = (id.to_owned(), run_dir.to_owned(), self.annotations);
        let state: StateText = Box::new(move |pid, status| {
            json!({
                "ociVersion": OCI_VERSION,
                "id": id,
                "status": status,
                "pid": pid,
                "bundle": bundle,
                "annotations": annotations,
            })
            .to_string()
        });
        let hooks = Hooks {
            prestart: self.prestart,
            create_runtime: self.create_runtime,
            create_container: self.create_container,
            start_container: self.start_container,
            state: Some(state),
        };
        // Only these can see it by its path.
        let root_place = (!hooks.create_container.is_empty()).then_some(root);
        Ok(StartOptions { hooks, root_place, ..StartOptions::default() })
    }
}
