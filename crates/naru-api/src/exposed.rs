//! Naru's own: which ports other machines reach.

use crate::call::Call;
use crate::reply::Reply;
use naru_base::Result;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exposed {
    id: String,
    name: String,
    port: String,
    host_ip: String,
    host_port: u16,
    at: Vec<ExposedAt>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExposedAt {
    address: String,
    interface: String,
    reach: &'static str,
    rules: Vec<String>,
}

/// GET /naru/exposed
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let all: Vec<Exposed> = call
        .engine
        .exposed()
        .await?
        .into_iter()
        .map(|e| Exposed {
            id: e.id.to_string(),
            name: e.name,
            port: e.port,
            host_ip: e.host_ip.to_string(),
            host_port: e.host_port,
            at: e
                .at
                .into_iter()
                .map(|a| ExposedAt {
                    address: a.address.to_string(),
                    interface: a.interface,
                    reach: a.reach,
                    rules: a.rules,
                })
                .collect(),
        })
        .collect();
    Reply::ok(&all)
}
