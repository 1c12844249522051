//! A container in a list.

use super::container::{MountPoint, mount_points};
use super::network::EndpointSettings;
use super::time::{now, seconds};
use naru_base::human::human_since;
use naru_engine::types::{BriefView, ContainerView, HealthStatus, PortBinding, Status, UnixNanos};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// docker's `ContainerSummary`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    ports: Vec<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfig,
    network_settings: Networks,
    mounts: Vec<MountPoint>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    networks: BTreeMap<String, EndpointSettings>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    ip: String,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    r#type: String,
}

impl Summary {
    pub(crate) fn of(view: ContainerView) -> Self {
        Self {
            names: vec![format!("/{}", view.name)],
            image: view.config.image.clone(),
            image_id: view.image_id.to_string(),
            command: command(&view.path, &view.args),
            created: seconds(view.created),
            ports: ports(view.status, &view.ports, &view.config.exposed_ports),
            size_rw: view.size_rw,
            size_root_fs: view.size_root,
            labels: view.config.labels.clone(),
            state: view.status.as_str(),
            status: status(&Moment::of(&view), now()),
            host_config: HostConfig {
                network_mode: view.host.network.as_text(),
                annotations: view.document.get("Annotations").cloned(),
            },
            network_settings: Networks {
                networks: view.endpoints.iter().map(|(name, e)| (name.clone(), EndpointSettings::of(e))).collect(),
            },
            mounts: mount_points(&view),
            id: view.id.to_string(),
        }
    }
}

/// What our own client asks for when a table needs no more (`brief=1`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BriefSummary {
    id: String,
    names: [String; 1],
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    ports: Vec<Port>,
    state: &'static str,
    status: String,
}

impl BriefSummary {
    pub(crate) fn of(view: BriefView) -> Self {
        let moment = Moment {
            status: view.status,
            health: view.health,
            exit_code: view.exit_code,
            started_at: view.started_at,
            finished_at: view.finished_at,
        };
        Self {
            id: view.id.to_string(),
            names: [format!("/{}", view.name)],
            image_id: view.image_id.to_string(),
            command: command(&view.path, &view.args),
            created: seconds(view.created),
            ports: ports(view.status, &view.ports, &view.exposed_ports),
            state: view.status.as_str(),
            status: status(&moment, now()),
            image: view.image,
        }
    }
}

/// What a container's status in words is made of.
struct Moment {
    status: Status,
    health: Option<HealthStatus>,
    exit_code: i32,
    started_at: UnixNanos,
    finished_at: UnixNanos,
}

impl Moment {
    fn of(view: &ContainerView) -> Self {
        Self {
            status: view.status,
            health: view.health.as_ref().map(|health| health.status),
            exit_code: view.exit_code,
            started_at: view.started_at,
            finished_at: view.finished_at,
        }
    }
}

/// The command in one line; arguments with spaces in quotes.
fn command(path: &str, args: &[String]) -> String {
    let mut line = path.to_owned();
    for arg in args {
        line.push(' ');
        if arg.contains(' ') {
            line.extend(["'", arg, "'"]);
        } else {
            line.push_str(arg);
        }
    }
    line
}

fn ports(status: Status, published: &BTreeMap<String, Vec<PortBinding>>, exposed: &BTreeSet<String>) -> Vec<Port> {
    if !status.is_running() {
        return Vec::new();
    }
    let number = |key: &str| {
        let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        Some((port.parse::<u16>().ok()?, protocol.to_owned()))
    };
    let mut all = Vec::new();
    for (key, bindings) in published {
        let Some((private_port, protocol)) = number(key) else { continue };
        all.extend(bindings.iter().map(|b| Port {
            ip: b.host_ip.clone(),
            private_port,
            public_port: b.host_port.parse().ok(),
            r#type: protocol.clone(),
        }));
    }
    for key in exposed.iter().filter(|k| published.get(*k).is_none_or(Vec::is_empty)) {
        if let Some((private_port, protocol)) = number(key) {
            all.push(Port { ip: String::new(), private_port, public_port: None, r#type: protocol });
        }
    }
    all.sort();
    all
}

/// `Up 3 minutes`, `Exited (0) 2 seconds ago`, …
fn status(view: &Moment, now: UnixNanos) -> String {
    let since = |then: UnixNanos| human_since(seconds(now), seconds(then));
    match view.status {
        Status::Running => match view.health {
            None => format!("Up {}", since(view.started_at)),
            Some(HealthStatus::Starting) => {
                format!("Up {} (health: starting)", since(view.started_at))
            }
            Some(health) => format!("Up {} ({})", since(view.started_at), health.as_str()),
        },
        Status::Paused => format!("Up {} (Paused)", since(view.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", view.exit_code, since(view.finished_at)),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Created => "Created".into(),
        Status::Exited => format!("Exited ({}) {} ago", view.exit_code, since(view.finished_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_spaces_are_quoted() {
        assert_eq!(command("sh", &["-c".into(), "echo hi".into()]), "sh -c 'echo hi'");
        assert_eq!(command("top", &[]), "top");
    }

    #[test]
    fn states_are_told_in_dockers_words() {
        let mut view = crate::dto::golden::container_view();
        let second = 1_000_000_000;
        view.started_at = 100 * second;
        view.finished_at = 160 * second;
        view.exit_code = 3;
        for (state, text) in [
            (Status::Running, "Up 5 minutes"),
            (Status::Paused, "Up 5 minutes (Paused)"),
            (Status::Restarting, "Restarting (3) 4 minutes ago"),
            (Status::Exited, "Exited (3) 4 minutes ago"),
            (Status::Created, "Created"),
        ] {
            view.status = state;
            assert_eq!(status(&Moment::of(&view), 400 * second), text);
        }
    }

    #[test]
    fn exposed_ports_that_are_not_published_are_listed_too() {
        let mut view = crate::dto::golden::container_view();
        view.status = Status::Running;
        view.config.exposed_ports = ["80/tcp".to_owned(), "53/udp".to_owned()].into();
        let binding = naru_engine::types::PortBinding { host_ip: "0.0.0.0".into(), host_port: "8080".into() };
        view.ports = BTreeMap::from([("80/tcp".into(), vec![binding])]);
        let listed = serde_json::to_value(ports(view.status, &view.ports, &view.config.exposed_ports)).unwrap();
        assert_eq!(
            listed,
            serde_json::json!([
                {"PrivatePort": 53, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
            ])
        );
    }
}
