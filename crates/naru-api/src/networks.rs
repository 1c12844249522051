//! Networks.

use crate::call::Call;
use crate::decode::endpoint;
use crate::dto::config::EndpointConfig;
use crate::dto::network::{CreateBody, Network};
use crate::reply::Reply;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::types::{Filters, NetworkView};
use serde::{Deserialize, Serialize};

/// Filters of a list.
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Filters of a prune.
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// GET /networks
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters(&FILTERS)?;
    if let Some(unknown) =
        filters.get("type").and_then(|v| v.iter().find(|v| !matches!(v.as_str(), "custom" | "builtin")))
    {
        return Err(Error::invalid(format!("invalid filter: 'type'='{unknown}'")));
    }
    let networks = call.engine.networks().into_iter().filter(|n| includes(&filters, n));
    let shown: Vec<Network> = networks.map(|n| Network::of(n, false)).collect();
    Reply::ok(&shown)
}

/// GET /networks/{id}
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Reply::ok(&Network::of(call.engine.network(&call.name)?, true))
}

/// POST /networks/create
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        id: String,
        warning: &'static str,
    }
    let body: CreateBody =
        call.json().await?.ok_or_else(|| Error::invalid("invalid JSON: got EOF while reading request body"))?;
    let id = call.engine.create_network(body.into_request()).await?;
    Reply::json(StatusCode::CREATED, &Answer { id: id.to_string(), warning: "" })
}

/// POST /networks/{id}/connect
pub(crate) async fn connect(mut call: Call) -> Result<Reply> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Asked {
        container: String,
        endpoint_config: Option<EndpointConfig>,
    }
    let asked: Asked = call.json().await?.unwrap_or_default();
    let settings = endpoint::decode(asked.endpoint_config.unwrap_or_default())?;
    call.engine.connect_network(&call.name, &asked.container, settings).await?;
    Ok(Reply::status(StatusCode::OK))
}

/// POST /networks/{id}/disconnect
pub(crate) async fn disconnect(mut call: Call) -> Result<Reply> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Asked {
        container: String,
        force: bool,
    }
    let asked: Asked = call.json().await?.unwrap_or_default();
    call.engine.disconnect_network(&call.name, &asked.container, asked.force).await?;
    Ok(Reply::status(StatusCode::OK))
}

/// DELETE /networks/{id}
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    call.engine.remove_network(&call.name).await?;
    Reply::no_content()
}

/// POST /networks/prune
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        networks_deleted: Option<Vec<String>>,
    }
    let deleted = call.engine.prune_networks(&call.query.filters(&PRUNE_FILTERS)?).await?;
    Reply::ok(&Answer { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
}

fn includes(filters: &Filters, network: &NetworkView) -> bool {
    let any =
        |key: &str, test: &dyn Fn(&str) -> bool| filters.get(key).is_none_or(|values| values.iter().any(|v| test(v)));
    let label = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|v| v == value),
        None => network.labels.contains_key(wanted),
    };
    let idle = network.containers.is_empty();
    any("driver", &|v| v == network.driver)
        && any("id", &|v| network.id.contains(v))
        && any("name", &|v| network.name.contains(v.trim_start_matches('^').trim_end_matches('$')))
        && any("scope", &|v| v == "local")
        && any("type", &|v| (v == "builtin") == network.predefined)
        // The predefined ones are never left over.
        && any("dangling", &|v| matches!(v, "true" | "1") == (idle && !network.predefined))
        && filters.get("label").is_none_or(|values| values.iter().all(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn filters_of_a_list() {
        let network = NetworkView {
            id: "abc".into(),
            name: "bridge".into(),
            driver: "bridge".into(),
            predefined: true,
            ..NetworkView::default()
        };
        for (key, value, expected) in [
            ("driver", "bridge", true),
            ("driver", "host", false),
            ("name", "rid", true),
            ("name", "^bridge$", true),
            ("id", "ab", true),
            ("type", "custom", false),
            ("label", "x", false),
            ("dangling", "true", false),
            ("dangling", "false", true),
        ] {
            let filters = BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]);
            assert_eq!(includes(&filters, &network), expected, "{key}={value}");
        }
    }
}
