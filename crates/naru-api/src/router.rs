//! Which handler a request goes to.
//!
//! A pattern has at most one variable, written `*`, which takes as much as it can, slashes too: image names contain them. The first
//! route of the table that fits is taken.

use crate::call::Call;
use crate::reply::Reply;
use crate::version::ApiVersion;
use http::Method;
use naru_base::Result;
use std::pin::Pin;

/// What a handler returns.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;

/// A line of the table.
pub(crate) struct Route {
    /// Method.
    pub(crate) method: Method,
    /// Path without version; `*` is the variable.
    pub(crate) pattern: &'static str,
    /// First version that has it.
    pub(crate) since: ApiVersion,
    /// Whether the handler may take the connection over.
    pub(crate) takes_over: bool,
    /// Handler.
    pub(crate) handler: fn(Call) -> Answer,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.pattern)
    }
}

/// What `*` stands for when `path` fits `pattern`; empty for a pattern without one.
pub(crate) fn matches<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == path).then_some("") };
    path.strip_prefix(before)?.strip_suffix(after)
}

/// The first route for a decoded path without version, and its variable.
pub(crate) fn find<'r, 'p>(routes: &'r [Route], method: &Method, path: &'p str) -> Option<(&'r Route, &'p str)> {
    routes.iter().filter(|r| r.method == *method).find_map(|r| Some((r, matches(r.pattern, path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    fn found(method: Method, path: &str) -> Option<(&'static str, &str)> {
        find(&ROUTES, &method, path).map(|(r, v)| (r.pattern, v))
    }

    #[test]
    fn variables_take_slashes() {
        assert_eq!(found(Method::GET, "/images/reg:5000/a/b/json"), Some(("/images/*/json", "reg:5000/a/b")));
        assert_eq!(found(Method::GET, "/images/json"), Some(("/images/json", "")));
        assert_eq!(found(Method::GET, "/images/json/json"), Some(("/images/*/json", "json")));
        assert_eq!(found(Method::DELETE, "/images/a/json"), Some(("/images/*", "a/json")));
        assert_eq!(found(Method::GET, "/images/a/b/get"), Some(("/images/*/get", "a/b")));
        assert_eq!(found(Method::POST, "/containers/x/attach"), Some(("/containers/*/attach", "x")));
    }

    #[test]
    fn fixed_paths_come_first() {
        assert_eq!(found(Method::POST, "/containers/prune"), Some(("/containers/prune", "")));
        assert_eq!(found(Method::POST, "/containers/create"), Some(("/containers/create", "")));
        assert_eq!(found(Method::GET, "/networks/"), Some(("/networks/", "")));
        assert_eq!(found(Method::GET, "/networks/a"), Some(("/networks/*", "a")));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(found(Method::PUT, "/containers/json"), None);
        assert_eq!(found(Method::GET, "/nope"), None);
        assert_eq!(found(Method::GET, "/"), None);
        assert_eq!(found(Method::HEAD, "/info"), None);
    }

    #[test]
    fn every_route_of_the_description_is_answered() {
        for line in include_str!("../tests/data/engine-api-v1.50-routes.txt").lines() {
            let (method, path) = line.split_once(' ').unwrap();
            let path: String =
                path.split('/').map(|p| if p.starts_with('{') { "x1" } else { p }).collect::<Vec<_>>().join("/");
            assert!(found(method.parse().unwrap(), &path).is_some(), "{line}");
        }
    }

    #[test]
    fn no_route_hides_behind_an_earlier_one() {
        for route in ROUTES.iter() {
            let path = route.pattern.replace('*', "x1");
            let (first, _) = find(&ROUTES, &route.method, &path).unwrap();
            assert_eq!(first.pattern, route.pattern, "{route:?}");
        }
    }
}
