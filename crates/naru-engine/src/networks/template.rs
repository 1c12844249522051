//! Networks that are templates for others (`--config-only`), and those made from one (`--config-from`); in docker's words.

use super::pools::Wanted;
use super::{Network, Networks, forbidden, view};
use crate::clock;
use crate::types::NetworkRequest;
use naru_base::{Error, Id, Result};
use naru_net::NetworkSpec;
use std::borrow::Cow;

impl Networks {
    /// What a request comes to: itself, or its template's settings under its own name.
    ///
    /// # Errors
    /// When there is no such template, or the request has settings of its own beside it, or asks a template for what a template can't have.
    pub(super) fn resolve<'a>(&self, request: &'a NetworkRequest) -> Result<Cow<'a, NetworkRequest>> {
        if request.config_only
            && (request.ingress || request.internal || request.attachable || !request.scope.is_empty())
        {
            return Err(forbidden(
                "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | \
                 attachable | scope ] are not supported.",
            ));
        }
        let name = request.config_from.as_str();
        if name.is_empty() {
            return Ok(Cow::Borrowed(request));
        }
        if request.config_only {
            return Err(forbidden("a configuration network cannot depend on another configuration network"));
        }
        if request.ipv6 == Some(true)
            || !request.labels.is_empty()
            || !request.ipam_options.is_empty()
            || !request.pools.is_empty()
        {
            return Err(forbidden(
                "user specified configurations are not supported if the network depends on a configuration network",
            ));
        }
        if !request.options.is_empty() {
            return Err(forbidden(
                "network driver options are not supported if the network depends on a configuration network",
            ));
        }
        let template = self.all().into_iter().find(|n| n.config_only && n.spec.name == name);
        let template =
            template.ok_or_else(|| Error::not_found(format!("configuration network {name:?} does not exist")))?;
        let spec = &template.spec;
        Ok(Cow::Owned(NetworkRequest {
            ipv4: Some(spec.ipv4),
            ipv6: Some(spec.ipv6),
            pools: view::pools(spec),
            options: spec.options.clone(),
            labels: spec.labels.clone(),
            ..request.clone()
        }))
    }

    /// A template: what was asked for, and nothing made of it. Nothing is chosen, and nothing taken, so it may overlap others.
    pub(super) fn template(&self, request: &NetworkRequest, wanted: Wanted) -> Result<Network> {
        let mut spec = NetworkSpec { name: request.name.clone(), ..NetworkSpec::none(Id::random()?) };
        (spec.ipv4, spec.ipv6) = (request.ipv4.unwrap_or(true), request.ipv6.unwrap_or(false));
        if let Some(v4) = wanted.v4 {
            (spec.subnet, spec.ip_range, spec.gateway) = (Some(v4.subnet), v4.range, v4.gateway);
        }
        if let Some(v6) = wanted.v6 {
            (spec.subnet6, spec.ip_range6, spec.gateway6) = (Some(v6.subnet), v6.range, v6.gateway);
        }
        spec.auxiliary = wanted.auxiliary;
        spec.options.clone_from(&request.options);
        spec.labels.clone_from(&request.labels);
        Ok(Network {
            created: clock::now(),
            spec,
            attachable: false,
            own_subnets: false,
            config_only: true,
            config_from: String::new(),
            predefined: false,
        })
    }
}
