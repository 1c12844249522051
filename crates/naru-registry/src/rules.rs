//! Rules for registries, by the beginning of an image's name: mirrors that are asked first, and registries that are never asked.

use crate::endpoint::Target;
use naru_base::Reference;
use serde::Deserialize;

/// What holds for the names that begin with a prefix. Of several rules that fit, the one with the longest prefix holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// `registry[/path]` in whole components, or `*.domain` for all its hosts. Docker Hub is `docker.io`.
    pub prefix: String,
    /// Asked in this order before the registry when pulling, without credentials: `[http[s]://]host[:port][/path]`. The path takes the
    /// place of the prefix.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// The registry itself is never asked, for anything.
    #[serde(default)]
    pub blocked: bool,
    /// The registry's certificate needn't be verified, and plain HTTP will do.
    #[serde(default)]
    pub insecure: bool,
}

impl Rule {
    /// What of `name`, a whole name without tag, comes after the prefix; `None` when the rule is not for it.
    fn rest<'a>(&self, name: &'a str) -> Option<&'a str> {
        let prefix = self.prefix.trim_end_matches('/');
        if let Some(domain) = prefix.strip_prefix('*') {
            let (host, rest) = name.split_once('/').unwrap_or((name, ""));
            return (domain.starts_with('.') && host.ends_with(domain)).then_some(rest);
        }
        let rest = name.strip_prefix(prefix)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The registry that the prefix names.
    pub fn registry(&self) -> &str {
        self.prefix.split('/').next().unwrap_or_default()
    }

    /// The rule's mirrors for `name`.
    pub(crate) fn targets(&self, name: &str) -> Vec<Target> {
        let Some(rest) = self.rest(name) else { return Vec::new() };
        let target = |mirror: &String| {
            let (scheme, place) = mirror.split_once("://").map_or(("https", mirror.as_str()), |(s, p)| (s, p));
            let (host, path) = place.trim_end_matches('/').split_once('/').unwrap_or((place.trim_end_matches('/'), ""));
            let parts: Vec<&str> = [path, rest].into_iter().filter(|p| !p.is_empty()).collect();
            Target::Mirror { url: format!("{scheme}://{host}"), repository: Some(parts.join("/")) }
        };
        self.mirrors.iter().map(target).collect()
    }
}

/// The rule for `name`, a whole name without tag or a registry.
pub(crate) fn find<'a>(rules: &'a [Rule], name: &str) -> Option<&'a Rule> {
    rules.iter().filter(|rule| rule.rest(name).is_some()).max_by_key(|rule| rule.prefix.len())
}

/// A whole name without tag.
pub(crate) fn name_of(reference: &Reference) -> String {
    format!("{}/{}", reference.domain(), reference.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, mirrors: &[&str]) -> Rule {
        Rule { prefix: prefix.into(), mirrors: mirrors.iter().map(|m| (*m).into()).collect(), ..Rule::default() }
    }

    #[test]
    fn the_longest_prefix_of_whole_components_holds() {
        let rules =
            [rule("reg.test", &[]), rule("reg.test/team", &[]), rule("*.example.com", &[]), rule("docker.io", &[])];
        let found = |name: &str| find(&rules, name).map(|r| r.prefix.as_str());
        assert_eq!(found("reg.test/x"), Some("reg.test"));
        assert_eq!(found("reg.test"), Some("reg.test"));
        assert_eq!(found("reg.test/team/x"), Some("reg.test/team"));
        assert_eq!(found("reg.test/teams/x"), Some("reg.test"));
        assert_eq!(found("reg.test:5000/x"), None);
        assert_eq!(found("a.example.com/x"), Some("*.example.com"));
        assert_eq!(found("example.com/x"), None);
        assert_eq!(found(&name_of(&Reference::parse("debian").unwrap())), Some("docker.io"));
    }

    #[test]
    fn a_mirrors_path_takes_the_prefixs_place() {
        let shown = |rule: &Rule, name: &str| match rule.targets(name).remove(0) {
            Target::Mirror { url, repository } => format!("{url} {}", repository.unwrap_or_default()),
            Target::Registry(host) => host,
        };
        let hub = rule("docker.io", &["m.test:5000/hub/"]);
        assert_eq!(shown(&hub, "docker.io/library/debian"), "https://m.test:5000 hub/library/debian");
        assert_eq!(shown(&rule("r.test/team", &["http://m.test"]), "r.test/team/x"), "http://m.test x");
        assert_eq!(shown(&rule("r.test/team/x", &["m.test/y"]), "r.test/team/x"), "https://m.test y");
    }
}
