//! The predefined networks.

use crate::call::Call;
use crate::dto::network::Network;
use crate::reply::Reply;
use naru_base::{Class, Error, Result};
use naru_engine::types::{Filters, NetworkView};

/// Filters of a list.
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

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

/// DELETE /networks/{id}
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let network = call.engine.network(&call.name)?;
    Err(Error::new(Class::Forbidden, format!("{} is a pre-defined network and cannot be removed", network.name)))
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
        && any("type", &|v| v == "builtin")
        // The predefined ones are never left over.
        && any("dangling", &|v| matches!(v, "false" | "0") || (idle && network.driver.is_empty()))
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
            created: 0,
            subnet: String::new(),
            gateway: String::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            containers: BTreeMap::new(),
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
