//! Naru's own: why a container is as it is.

use crate::call::Call;
use crate::dto::time::rfc3339;
use crate::reply::Reply;
use naru_base::Result;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Why {
    id: String,
    name: String,
    status: &'static str,
    reasons: Vec<Reason>,
    history: Vec<Happened>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reason {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    topic: &'static str,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Happened {
    time: String,
    topic: &'static str,
    text: String,
    /// The fact itself.
    fact: serde_json::Value,
}

/// GET /naru/containers/{id}/why
pub(crate) async fn why(call: Call) -> Result<Reply> {
    let why = call.engine.why(&call.name).await?;
    let reasons = why.lines.into_iter().map(|line| Reason {
        time: (line.at != 0).then(|| rfc3339(line.at)),
        topic: line.topic,
        text: line.text,
    });
    let history = why.history.into_iter().map(|fact| Happened {
        time: rfc3339(fact.at),
        topic: fact.what.topic(),
        text: fact.what.sentence(),
        fact: serde_json::to_value(&fact.what).unwrap_or_default(),
    });
    Reply::ok(&Why {
        id: why.id.to_string(),
        name: why.name,
        status: why.status.as_str(),
        reasons: reasons.collect(),
        history: history.collect(),
    })
}
