//! `images`: the list of images.

use super::short_id;
use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::types::Image;
use crate::{filters, when};
use naru_base::human::human_since;
use naru_base::{Reference, size};
use naru_client::Query;
use std::collections::BTreeMap;

const TABLE: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_DIGEST: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const RAW_DIGEST: &str = "repository: {{ .Repository }}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const NONE: &str = "<none>";

/// Runs the command.
pub fn images(context: &mut Context, m: &Matches) -> Outcome {
    if m.bool("tree") {
        return super::tree::tree(context, m);
    }
    let digests = m.bool("digests");
    let listing = Listing {
        table: if digests { TABLE_DIGEST } else { TABLE },
        raw: if digests { RAW_DIGEST } else { RAW },
        quiet: "{{.ID}}",
        headers: HEADERS,
        row_type: "*formatter.imageContext",
    };
    let quiet = m.bool("quiet");
    let text = context.format(m.str("format"), "imagesFormat");
    let format = Format::new(&listing, if quiet { "" } else { &text }, quiet)?;
    let mut wanted = filters::to_map(&m.list("filter"));
    if !m.arg(0).is_empty() {
        filters::add(&mut wanted, "reference", m.arg(0));
    }
    let mut query = Query::new().flag("all", m.bool("all"));
    if !wanted.is_empty() {
        query = query.with("filters", &serde_json::Value::Object(wanted).to_string());
    }
    let images: Vec<Image> = context.get(format!("/images/json{}", query.as_str()))?;
    let need_digest = digests || format.mentions(".Digest");
    let full = m.bool("no-trunc");
    let now = when::now();
    let rows: Vec<_> = images.iter().flat_map(|i| rows(i, full, need_digest, now)).collect();
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

/// One row for each name of an image.
pub fn rows(image: &Image, full: bool, digests: bool, now: i64) -> Vec<Row> {
    names(image, digests)
        .into_iter()
        .map(|(repository, tag, digest)| row(image, &repository, &tag, &digest, full, now))
        .collect()
}

/// Repository, tag and digest of each row.
pub fn names(image: &Image, digests: bool) -> Vec<(String, String, String)> {
    let none = || NONE.to_owned();
    let mut by_tag: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut by_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in image.repo_tags.iter().chain(&image.repo_digests) {
        let Ok(r) = Reference::parse(name) else { continue };
        match (r.tag(), r.digest()) {
            (_, Some(digest)) => by_digest.entry(r.familiar_name()).or_default().push(digest.as_str().to_owned()),
            (Some(tag), None) => by_tag.entry(r.familiar_name()).or_default().push(tag.to_owned()),
            (None, None) => {}
        }
    }
    let mut out = Vec::new();
    for (repository, tags) in by_tag {
        let mut own = by_digest.remove(&repository).unwrap_or_default();
        if !digests || own.is_empty() {
            own = vec![none()];
        }
        for tag in tags {
            out.extend(own.iter().map(|digest| (repository.clone(), tag.clone(), digest.clone())));
        }
    }
    for (repository, own) in by_digest {
        let own = if digests { own } else { vec![none()] };
        out.extend(own.into_iter().map(|digest| (repository.clone(), none(), digest)));
    }
    if out.is_empty() {
        out.push((none(), none(), none()));
    }
    out
}

fn row(image: &Image, repository: &str, tag: &str, digest: &str, full: bool, now: i64) -> Row {
    let human = |n: i64| size::human_size_with_precision(n as f64, 3);
    let known = |n: i64| if n < 0 { "N/A".to_owned() } else { human(n) };
    let since = if image.created == 0 { String::new() } else { format!("{} ago", human_since(now, image.created)) };
    Row::new()
        .with("ID", if full { &image.id } else { short_id(&image.id) })
        .with("Repository", repository)
        .with("Tag", tag)
        .with("Digest", digest)
        .with("CreatedSince", since)
        .with("CreatedAt", when::go_time_of_seconds(image.created))
        .with("Size", human(image.size))
        .with("Containers", if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() })
        .with("VirtualSize", size::human_size(image.size as f64))
        .with("SharedSize", known(image.shared_size))
        .with(
            "UniqueSize",
            if image.size < 0 || image.shared_size < 0 {
                "N/A".to_owned()
            } else {
                human(image.size - image.shared_size)
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Image { repo_tags: owned(tags), repo_digests: owned(digests), ..Image::default() }
    }

    #[test]
    fn a_row_for_each_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("x@{digest}");
        let show = |i: &Image, d| names(i, d).into_iter().map(|(r, t, d)| format!("{r} {t} {d}")).collect::<Vec<_>>();
        assert_eq!(show(&image(&["x:1", "x:2"], &[&by_digest]), false), ["x 1 <none>", "x 2 <none>"]);
        assert_eq!(show(&image(&["x:1"], &[&by_digest]), true), [format!("x 1 {digest}")]);
        assert_eq!(show(&image(&[], &[&by_digest]), false), ["x <none> <none>"]);
        assert_eq!(show(&image(&["<none>:<none>"], &["<none>@<none>"]), true), ["<none> <none> <none>"]);
    }
}
