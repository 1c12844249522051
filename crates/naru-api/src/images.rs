//! Images, but for their archives.

use crate::call::Call;
use crate::decode::{config, names};
use crate::dto::auth::AuthConfig;
use crate::dto::config::CreateBody;
use crate::dto::image::{History, Inspect, Removed, Summary};
use crate::progress;
use crate::reply::Reply;
use crate::version::v1;
use http::StatusCode;
use naru_base::{Error, Reference, Result};
use naru_engine::types::{Auth, CommitRequest};
use serde::Serialize;
use std::sync::Arc;

/// Filters of a list.
const LIST_FILTERS: [&str; 8] = ["dangling", "label", "label!", "before", "since", "reference", "until", "id"];
/// Filters of a prune.
const PRUNE_FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];
/// Filters of a search.
const SEARCH_FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];
/// Credentials of `X-Registry-Auth`.
fn auth(call: &Call) -> Option<Auth> {
    AuthConfig::from_header(call.header("x-registry-auth"))
}

/// GET /images/json
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters(&LIST_FILTERS)?;
    let images = call.engine.images(call.query.flag("all"), &filters)?;
    let shared_size = call.query.flag("shared-size");
    let manifests = call.version >= v1(47) && call.query.flag("manifests");
    let ids: Vec<_> = images.iter().map(|image| image.id.clone()).collect();
    let mut shown: Vec<_> = images.into_iter().map(|image| Summary::of(image, call.version, shared_size)).collect();
    if manifests {
        let platforms = call.engine.all_platforms(&ids)?;
        let pairs = shown.into_iter().zip(&platforms);
        shown = pairs.map(|(summary, (all, index))| summary.with_platforms(all, index.as_ref())).collect();
    }
    Reply::ok(&shown)
}

/// GET /images/{name}/json
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let platform = names::platform(call.query.text("platform"))?;
    let manifests = call.version >= v1(48) && call.query.flag("manifests");
    if manifests && platform.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let view = call.engine.image(&call.name, platform.as_ref())?;
    let mut shown = Inspect::of(view, call.version);
    if platform.is_none()
        && let Some(index) = call.engine.image_index(&call.name)?
    {
        shown.stands_for(&index, call.version);
    }
    if manifests {
        shown.show_platforms(&call.engine.image_platforms(&call.name)?);
    }
    Reply::ok(&shown)
}

/// GET /images/{name}/history
pub(crate) async fn history(call: Call) -> Result<Reply> {
    let platform = names::platform(call.query.text("platform"))?;
    let shown: Vec<History> =
        call.engine.image_history(&call.name, platform.as_ref())?.into_iter().map(History::of).collect();
    Reply::ok(&shown)
}

/// POST /images/{name}/tag
pub(crate) async fn tag(call: Call) -> Result<Reply> {
    let target = names::repository(call.query.text("repo"), call.query.text("tag"))?;
    if target.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if target.familiar_name() == "sha256" {
        return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    call.engine.tag(&call.name, target.with_default_tag()).await?;
    Ok(Reply::status(StatusCode::CREATED))
}

/// DELETE /images/{name}
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    if call.name.is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let (force, prune) = (call.query.flag("force"), !call.query.flag("noprune"));
    let given = call.query.all("platforms");
    let platforms: Vec<_> = given.iter().map(|p| names::platform(p)).collect::<Result<Vec<_>>>()?;
    let platforms: Vec<_> = platforms.into_iter().flatten().collect();
    let removed = if platforms.is_empty() {
        call.engine.remove_image(&call.name, force, prune).await?
    } else {
        call.engine.remove_platforms(&call.name, force, &platforms).await?
    };
    let shown: Vec<Removed> = removed.into_iter().map(Removed::of).collect();
    Reply::ok(&shown)
}

/// POST /images/prune
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        images_deleted: Option<Vec<Removed>>,
        space_reclaimed: u64,
    }
    let filters = call.query.filters(&PRUNE_FILTERS)?;
    let engine = Arc::clone(&call.engine);
    progress::answer(&call, StatusCode::OK, |sink| async move {
        let (removed, space_reclaimed) = engine.prune_images(&filters, sink).await?;
        let removed: Vec<Removed> = removed.into_iter().map(Removed::of).collect();
        Ok(Answer { images_deleted: (!removed.is_empty()).then_some(removed), space_reclaimed })
    })
    .await
}

/// POST /images/create: a pull, or an import.
pub(crate) async fn create(call: Call) -> Result<Reply> {
    if call.query.text("fromImage").is_empty() {
        return crate::transfer::import(call).await;
    }
    let reference = names::repository(call.query.text("fromImage"), call.query.text("tag"))?;
    if reference.familiar_name() == "scratch" {
        return Err(Error::new(naru_base::Class::Forbidden, "'scratch' is a reserved name"));
    }
    let platform = names::platform(call.query.text("platform"))?;
    let auth = auth(&call);
    let engine = Arc::clone(&call.engine);
    progress::reply(|sink| async move { engine.pull(reference, platform, auth, sink).await }).await
}

/// POST /images/{name}/push
pub(crate) async fn push(call: Call) -> Result<Reply> {
    let reference = names::repository(&call.name, call.query.text("tag"))?;
    let platform = names::platform(call.query.text("platform"))?;
    let auth = auth(&call);
    let engine = Arc::clone(&call.engine);
    progress::reply(|sink| async move { engine.push(reference, platform, auth, sink).await }).await
}

/// GET /images/search
pub(crate) async fn search(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    struct Found {
        star_count: i64,
        is_official: bool,
        name: String,
        is_automated: bool,
        description: String,
    }
    let limit = match call.query.integer("limit")? {
        None | Some(0) => 25,
        Some(n @ 1..=100) => usize::try_from(n).unwrap_or(25),
        Some(n) => return Err(Error::invalid(format!("limit {n} is outside the range of [1, 100]"))),
    };
    let filters = call.query.filters(&SEARCH_FILTERS)?;
    let found = call.engine.search(call.query.text("term"), limit, &filters, auth(&call)).await?;
    let shown: Vec<Found> = found
        .into_iter()
        .map(|f| Found {
            #[expect(clippy::useless_conversion, reason = "whatever width the registry's number has")]
            star_count: i64::try_from(f.star_count).unwrap_or(i64::MAX),
            is_official: f.is_official,
            name: f.name,
            is_automated: f.is_automated,
            description: f.description,
        })
        .collect();
    Reply::ok(&shown)
}

/// GET /distribution/{name}/json
pub(crate) async fn distribution(call: Call) -> Result<Reply> {
    let reference = Reference::parse(&call.name)?.with_default_tag();
    let auth = auth(&call);
    Reply::ok(&call.engine.distribution(reference, auth).await?)
}

/// POST /commit
pub(crate) async fn commit(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        id: String,
    }
    let config = match call.json::<Option<CreateBody>>().await?.flatten() {
        Some(mut body) => Some(config::decode(&mut body)?),
        None => None,
    };
    let repo = call.query.text("repo");
    let target =
        if repo.is_empty() { None } else { Some(names::repository(repo, call.query.text("tag"))?.with_default_tag()) };
    let request = CommitRequest {
        container: call.query.text("container").to_owned(),
        target,
        author: call.query.text("author").to_owned(),
        comment: call.query.text("comment").to_owned(),
        pause: call.query.flag_or("pause", true),
        changes: call.query.all("changes"),
        config,
        progress: None,
    };
    let engine = Arc::clone(&call.engine);
    progress::answer(&call, StatusCode::CREATED, |progress| async move {
        let id = engine.commit(CommitRequest { progress, ..request }).await?;
        Ok(Answer { id: id.to_string() })
    })
    .await
}
