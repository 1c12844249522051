//! `manifest`: lists of images for several platforms, made here and put into a registry. As docker's client does it, without the engine and
//! with the same files in between, so that each goes on with what the other has begun.

mod remote;
mod store;

use crate::context::Context;
use crate::failure::{Failure, Outcome, joined};
use crate::flag::Matches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_base::Reference;
use naru_registry::{Manifest, media_type};
use remote::{Found, Registries};
use serde_json::{Map, Value, json};
use store::Lists;

/// What docker takes for `--os` and `--arch`.
const PLATFORMS: [(&str, &[&str]); 10] = [
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
    ("unknown", &["unknown"]),
];

/// `manifest create`.
pub fn create(context: &mut Context, m: &Matches) -> Outcome {
    let list = parse(m.arg(0)).map_err(|e| named("", "manifest list", m.arg(0), &e))?;
    let lists = Lists::beside(context.config().path());
    if lists.all(&list)?.is_some() && !m.bool("amend") {
        return Err(Failure::new("refusing to amend an existing manifest list with no --amend flag"));
    }
    let registries = Registries::new(m.bool("insecure"))?;
    for name in &m.args[1..] {
        let reference = parse(name)?;
        let image = match lists.get(&list, &reference)? {
            Some(image) => image,
            None => match registries.get(context, &reference)? {
                Found::Image(image) => image,
                Found::List(_) => return Err(Failure::new(format!("{} is a manifest list", reference.familiar()))),
            },
        };
        lists.save(&list, &reference, &image)?;
    }
    context.printer.line(format!("Created manifest list {list}"))?;
    Ok(0)
}

/// `manifest annotate`.
pub fn annotate(context: &mut Context, m: &Matches) -> Outcome {
    let list = parse(m.arg(0)).map_err(|e| named("annotate: ", "manifest list", m.arg(0), &e))?;
    let reference = parse(m.arg(1)).map_err(|e| named("annotate: ", "manifest", m.arg(1), &e))?;
    let lists = Lists::beside(context.config().path());
    let Some(mut image) = lists.get(&list, &reference)? else {
        return Err(Failure::new(format!("manifest for image {} does not exist in {}", m.arg(1), m.arg(0))));
    };
    let old = image["Descriptor"]["platform"].as_object().cloned().unwrap_or_default();
    let mut features: Vec<Value> = old.get("os.features").and_then(Value::as_array).cloned().unwrap_or_default();
    for feature in m.strings("os-features") {
        if !features.iter().any(|f| *f == feature) {
            features.push(json!(feature));
        }
    }
    let text = |key: &str, flag: &str| match m.str(flag) {
        "" => old.get(key).cloned().unwrap_or_else(|| json!("")),
        given => json!(given),
    };
    // In docker's order.
    let mut platform = Map::new();
    platform.insert("architecture".into(), text("architecture", "arch"));
    platform.insert("os".into(), text("os", "os"));
    platform.insert("os.version".into(), text("os.version", "os-version"));
    platform.insert("os.features".into(), Value::Array(features));
    platform.insert("variant".into(), text("variant", "variant"));
    platform.retain(|key, v| matches!(key.as_str(), "architecture" | "os") || (*v != json!("") && *v != json!([])));
    let (os, arch) =
        (platform["os"].as_str().unwrap_or_default(), platform["architecture"].as_str().unwrap_or_default());
    if !PLATFORMS.iter().any(|(known, archs)| *known == os && archs.contains(&arch)) {
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            m.str("os"),
            m.str("arch")
        )));
    }
    image["Descriptor"]["platform"] = Value::Object(platform);
    lists.save(&list, &reference, &image)?;
    Ok(0)
}

/// `manifest inspect`.
pub fn inspect(context: &mut Context, m: &Matches) -> Outcome {
    let verbose = m.bool("verbose");
    let reference = parse(m.args.last().map_or("", String::as_str))?;
    let lists = Lists::beside(context.config().path());
    if m.args.len() == 2 {
        let list = parse(m.arg(0))?;
        let image = lists.get(&list, &reference)?.ok_or_else(|| no_such(&reference))?;
        return print_image(context, &image, verbose);
    }
    if let Some(images) = lists.all(&reference)? {
        return print_list(context, &reference, &images, verbose);
    }
    match Registries::new(m.bool("insecure"))?.get(context, &reference)? {
        Found::Image(image) => print_image(context, &image, verbose),
        Found::List(images) => print_list(context, &reference, &images, verbose),
    }
}

/// `manifest push`.
pub fn push(context: &mut Context, m: &Matches) -> Outcome {
    let list = parse(m.arg(0))?;
    let lists = Lists::beside(context.config().path());
    let images = lists.all(&list)?.ok_or_else(|| no_such(&list))?;
    if images.is_empty() {
        return Err(Failure::new(format!("{} not found", list.familiar())));
    }
    for image in &images {
        let platform = &image["Descriptor"]["platform"];
        if ["os", "architecture"].iter().any(|key| platform[*key].as_str().unwrap_or_default().is_empty()) {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                image["Ref"].as_str().unwrap_or_default()
            )));
        }
    }
    let (kind, text) = document(&list, &images)?;
    let registries = Registries::new(m.bool("insecure"))?;
    for image in &images {
        let from = origin(image)?;
        if from.repository() != list.repository() {
            let manifest = payload(image)?;
            let digest = registries.put_image(context, &list, &from, &manifest)?;
            let at = list.repository().with_digest(manifest.digest.clone());
            context.printer.line(format!("Pushed ref {at} with digest: {digest}"))?;
        }
    }
    let digest = registries.put_list(context, &list, kind, text.into_bytes())?;
    context.printer.line(digest.to_string())?;
    if m.bool("purge") {
        lists.remove(&list)?;
    }
    Ok(0)
}

/// `manifest rm`.
pub fn rm(context: &mut Context, m: &Matches) -> Outcome {
    let lists = Lists::beside(context.config().path());
    let mut failures = Vec::new();
    for name in &m.args {
        let gone = parse(name).and_then(|list| match lists.all(&list)? {
            Some(_) => lists.remove(&list),
            None => Err(no_such(&list)),
        });
        failures.extend(gone.err());
    }
    joined(failures)
}

fn parse(name: &str) -> Result<Reference, Failure> {
    Ok(Reference::parse(name)?.with_default_tag())
}

fn named(prefix: &str, what: &str, name: &str, e: &Failure) -> Failure {
    Failure::new(format!("{prefix}error parsing name for {what} {name}: {}", e.message))
}

fn no_such(reference: &Reference) -> Failure {
    Failure::new(format!("No such manifest: {}", reference.familiar()))
}

/// An image as the lists keep it (docker's `ImageManifest`).
fn entry(name: &str, manifest: &Manifest, platform: Option<Value>) -> Result<Value, Failure> {
    let parsed: Value = serde_json::from_slice(&manifest.bytes)
        .map_err(|e| Failure::new(format!("manifest {} is no JSON: {e}", manifest.digest)))?;
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
    });
    if let Some(platform) = platform {
        descriptor["platform"] = platform;
    }
    let key = if manifest.media_type == media_type::OCI_MANIFEST { "OCIManifest" } else { "SchemaV2Manifest" };
    Ok(json!({"Ref": name, "Descriptor": descriptor, "Raw": STANDARD.encode(&manifest.bytes), key: parsed}))
}

/// The manifest itself.
fn payload(image: &Value) -> Result<Manifest, Failure> {
    let name = image["Ref"].as_str().unwrap_or_default();
    let broken = |why: String| Failure::new(format!("the local manifest of {name} is damaged: {why}"));
    let bytes = match image["Raw"].as_str() {
        Some(raw) => STANDARD.decode(raw).map_err(|e| broken(e.to_string()))?,
        // What older clients wrote has the document alone, whose bytes are those of its layout.
        None => ["OCIManifest", "SchemaV2Manifest"]
            .iter()
            .find_map(|key| image.get(*key))
            .map(|v| pretty(v, b"   ").into_bytes())
            .ok_or_else(|| broken("it has no manifest".into()))?,
    };
    let digest = naru_store::digest_of(&bytes);
    if image["Descriptor"]["digest"] != digest.as_str() {
        return Err(broken("it has another digest".into()));
    }
    let media_type = image["Descriptor"]["mediaType"].as_str().unwrap_or_default().to_owned();
    Ok(Manifest { media_type, digest, bytes: bytes.into() })
}

fn origin(image: &Value) -> Result<Reference, Failure> {
    let name = image["Ref"].as_str().unwrap_or_default();
    // `name:tag@digest`: the tag says nothing more.
    match name.split_once('@') {
        Some((bare, digest)) => {
            let digest = naru_base::Digest::parse(digest)?;
            Ok(Reference::parse(bare)?.repository().with_digest(digest))
        }
        None => Ok(Reference::parse(name)?),
    }
}

/// The list of these images: its media type and text.
fn document(list: &Reference, images: &[Value]) -> Result<(&'static str, String), Failure> {
    let mut members = Vec::with_capacity(images.len());
    for image in images {
        let from = origin(image)?;
        if from.domain() != list.domain() {
            return Err(Failure::new(format!(
                "cannot use source images from a different registry than the target image: {} != {}",
                from.domain(),
                list.domain()
            )));
        }
        let of = &image["Descriptor"];
        let mut member = json!({"mediaType": of["mediaType"], "size": of["size"], "digest": of["digest"]});
        member["platform"] = of.get("platform").cloned().unwrap_or_else(|| json!({"architecture": "", "os": ""}));
        members.push(member);
    }
    let oci = members.first().is_some_and(|m| m["mediaType"] == media_type::OCI_MANIFEST);
    let kind = if oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
    Ok((kind, pretty(&json!({"schemaVersion": 2, "mediaType": kind, "manifests": members}), b"   ")))
}

fn print_image(context: &mut Context, image: &Value, verbose: bool) -> Outcome {
    let text = if verbose {
        pretty(image, b"\t")
    } else {
        let manifest = payload(image)?;
        let parsed: Value = serde_json::from_slice(&manifest.bytes)
            .map_err(|e| Failure::new(format!("manifest {} is no JSON: {e}", manifest.digest)))?;
        pretty(&parsed, b"\t")
    };
    context.printer.line(text)?;
    Ok(0)
}

fn print_list(context: &mut Context, list: &Reference, images: &[Value], verbose: bool) -> Outcome {
    let text = if verbose { pretty(&json!(images), b"\t") } else { document(list, images)?.1 };
    context.printer.line(text)?;
    Ok(0)
}

/// JSON in lines, as Go's `json.Indent` sets it.
fn pretty(value: &Value, indent: &[u8]) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing to memory can't fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&text).into_owned()
}
