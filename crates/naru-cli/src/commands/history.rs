//! `history`.

use super::short_id;
use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::tabwriter::ellipsis;
use crate::when;
use naru_base::human::human_since;
use naru_base::size;
use naru_client::{Query, escape_path};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// 2000-01-01: what is older has no true date.
const FIRST_DATE: i64 = 946_684_800;

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    id: String,
    created: i64,
    created_by: String,
    size: i64,
    comment: String,
}

/// Runs the command.
pub fn history(context: &mut Context, m: &Matches) -> Outcome {
    let human = m.bool("human");
    let listing = Listing {
        table: if human {
            "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        } else {
            "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        },
        raw: "",
        quiet: "{{.ID}}",
        headers: HEADERS,
        row_type: "*formatter.historyContext",
    };
    let format = Format::new(&listing, m.str("format"), m.bool("quiet"))?;
    let mut query = Query::new();
    if !m.str("platform").is_empty() {
        query.push("platform", &super::archive::platform_json(m.str("platform"))?);
    }
    let path = format!("/images/{}/history{}", escape_path(m.arg(0)), query.as_str());
    let entries: Vec<Entry> = context.get(path)?;
    let full = m.bool("no-trunc");
    let now = when::now();
    let rows: Vec<_> = entries.iter().map(|e| row(e, full, human, now)).collect();
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

fn row(e: &Entry, full: bool, human: bool, now: i64) -> Row {
    let by = e.created_by.replace('\t', " ");
    let old = e.created <= FIRST_DATE;
    Row::new()
        .with("ID", if full { &e.id } else { short_id(&e.id) })
        .with("CreatedSince", if old { "N/A".to_owned() } else { format!("{} ago", human_since(now, e.created)) })
        .with("CreatedAt", if old { "N/A".to_owned() } else { when::rfc3339_of_seconds(e.created) })
        .with("CreatedBy", if full { by } else { ellipsis(&by, 45) })
        .with("Size", if human { size::human_size_with_precision(e.size as f64, 3) } else { e.size.to_string() })
        .with("Comment", &*e.comment)
}
