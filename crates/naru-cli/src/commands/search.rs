//! `search`.

use crate::config::{HUB, encode_auth};
use crate::context::Context;
use crate::failure::Outcome;
use crate::filters;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::tabwriter::ellipsis;
use naru_client::{Query, Request};

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Found {
    name: String,
    description: String,
    star_count: i64,
    is_official: bool,
}

const LISTING: Listing<'_> = Listing {
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    raw: "",
    quiet: "{{.Name}}",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    row_type: "*search.searchContext",
};

/// Runs the command.
pub fn search(context: &mut Context, m: &Matches) -> Outcome {
    let format = Format::new(&LISTING, m.str("format"), false)?;
    let query = Query::new().with_some("filters", &filters::to_json(&m.list("filter")));
    let query = if m.int("limit") > 0 { query.with("limit", m.str("limit")) } else { query };
    let query = query.with("term", m.arg(0));
    let auth = encode_auth(HUB, context.config().credentials(HUB).as_ref());
    let request = Request::get(format!("/images/search{}", query.as_str())).header("X-Registry-Auth", auth);
    let found: Vec<Found> = context.send(request)?.json()?;
    let full = m.bool("no-trunc");
    let rows = found.iter().map(|f| {
        let description = f.description.replace(['\n', '\r'], " ");
        Row::new()
            .with("Name", &*f.name)
            .with("Description", if full { description } else { ellipsis(&description, 45) })
            .with("StarCount", f.star_count.to_string())
            .with("IsOfficial", if f.is_official { "[OK]" } else { "" })
            .with("IsAutomated", "")
    });
    format.print(&mut context.printer, rows)?;
    Ok(0)
}
