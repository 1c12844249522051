//! The answer to `/version`.

use crate::version::{ENGINE_VERSION, NEWEST, OLDEST};
use naru_engine::types::SystemInfo;
use serde::Serialize;
use std::collections::BTreeMap;

/// What stands where docker tells its Go version and commit.
const TOOLCHAIN: &str = concat!("rust edition 2024, naru ", env!("CARGO_PKG_VERSION"));

/// docker's `SystemVersion`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Version {
    platform: Platform,
    components: Vec<Component>,
    version: &'static str,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    git_commit: &'static str,
    go_version: &'static str,
    os: &'static str,
    arch: String,
    kernel_version: String,
    build_time: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Platform {
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: &'static str,
    version: &'static str,
    details: BTreeMap<&'static str, String>,
}

impl Version {
    pub(crate) fn of(info: &SystemInfo) -> Self {
        let arch = naru_base::Platform::host().architecture;
        let details = BTreeMap::from([
            ("ApiVersion", NEWEST.to_string()),
            ("Arch", arch.clone()),
            ("BuildTime", String::new()),
            ("Experimental", "false".into()),
            ("GitCommit", String::new()),
            ("GoVersion", TOOLCHAIN.into()),
            ("KernelVersion", info.kernel_version.clone()),
            ("MinAPIVersion", OLDEST.to_string()),
            ("Os", "linux".into()),
        ]);
        let own = BTreeMap::from([("GitCommit", String::new())]);
        let own_version = env!("CARGO_PKG_VERSION");
        Self {
            platform: Platform { name: "Naru" },
            components: vec![
                Component { name: "Engine", version: ENGINE_VERSION, details },
                Component { name: "naru", version: own_version, details: own },
            ],
            version: ENGINE_VERSION,
            api_version: NEWEST.to_string(),
            min_api_version: OLDEST.to_string(),
            git_commit: "",
            go_version: TOOLCHAIN,
            os: "linux",
            arch,
            kernel_version: info.kernel_version.clone(),
            build_time: "",
        }
    }
}
