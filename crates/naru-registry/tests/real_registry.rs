//! Against Debian's `docker-registry`, filled and read back by `skopeo`: what others understand of what we send.

#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod support;

use bytes::Bytes;
use naru_base::{Class, Digest, Reference};
use naru_registry::{Auth, Client, Config, DownloadEvent, FileSource, Scope, Session, media_type};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::{client, config, digest, noise};

/// bcrypt of `secret`.
const HTPASSWD: &str = "joe:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry of its own, gone with its folder when dropped.
struct Registry {
    child: Child,
    folder: PathBuf,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Registry {
    fn start(auth: bool, tls: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("naru-registry-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let here = folder.display();
        let mut yaml = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {here}/data}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: {host}\n"
        );
        if tls {
            make_certificate(&folder);
            yaml.push_str(&format!("  tls: {{certificate: {here}/cert.pem, key: {here}/key.pem}}\n"));
        }
        if auth {
            fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
            yaml.push_str(&format!("auth: {{htpasswd: {{realm: r, path: {here}/htpasswd}}}}\n"));
        }
        fs::write(folder.join("config.yml"), yaml).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), folder.join("config.yml").as_os_str()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, folder, host };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < until, "{}", fs::read_to_string(registry.folder.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn session(&self, client: &Client, repository: &str, scope: Scope) -> Session {
        let auth = Auth { username: "joe".into(), password: "secret".into(), ..Auth::default() };
        client.repository(&Reference::parse(&format!("{}/{repository}", self.host)).unwrap(), auth, scope)
    }

    /// Puts the image of `layout` into the registry, as `name`.
    fn fill(&self, layout: &Path, name: &str) {
        let (from, to) = (format!("oci:{}:x", layout.display()), format!("docker://{}/{name}", self.host));
        run("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds=joe:secret", &from, &to]);
    }
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn make_certificate(folder: &Path) {
    let file = |name: &str| folder.join(name).display().to_string();
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=reg -addext subjectAltName=DNS:reg.test";
    let (key, cert) = (file("key.pem"), file("cert.pem"));
    let args: Vec<&str> = args.split(' ').chain(["-keyout", &key, "-out", &cert]).collect();
    run("openssl", &args);
}

/// An image of one busybox layer as an OCI layout; the layer and the configuration.
struct Image {
    layout: PathBuf,
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn make_image(folder: &Path) -> Image {
    let layout = folder.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    run("tar", &["-C", "/usr/bin", "-czf", &folder.join("layer.tgz").display().to_string(), "busybox"]);
    let layer = fs::read(folder.join("layer.tgz")).unwrap();
    run("gunzip", &["-k", &folder.join("layer.tgz").display().to_string()]);
    let diff = digest(&fs::read(folder.join("layer.tar")).unwrap());
    let config = format!(r#"{{"architecture":"arm","variant":"v7","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#).into_bytes();
    let describe = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, digest(bytes), bytes.len())
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        describe("application/vnd.oci.image.config.v1+json", &config),
        describe("application/vnd.oci.image.layer.v1.tar+gzip", &layer)
    )
    .into_bytes();
    for bytes in [&layer, &config, &manifest] {
        fs::write(layout.join("blobs/sha256").join(digest(bytes).hex()), bytes).unwrap();
    }
    let entry = describe(media_type::OCI_MANIFEST, &manifest);
    let entry =
        format!(r#"{},"annotations":{{"org.opencontainers.image.ref.name":"x"}}}}"#, entry.trim_end_matches('}'));
    fs::write(layout.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Image { layout, layer, config, manifest }
}

async fn fetch(session: &Session, digest: &Digest, size: usize, offset: usize) -> Vec<u8> {
    let mut download = session.download(digest, size as u64, offset as u64);
    let mut out = Vec::new();
    while let Some(event) = download.next().await.unwrap() {
        let DownloadEvent::Data(data) = event else { panic!("{event:?}") };
        out.extend_from_slice(&data);
    }
    out
}

#[tokio::test]
async fn what_skopeo_pushed_is_pulled() {
    let registry = Registry::start(false, false);
    let image = make_image(&registry.folder);
    registry.fill(&image.layout, "a/box:one");
    registry.fill(&image.layout, "a/box:two");
    let s = registry.session(&client(), "a/box", Scope::Pull);
    let manifest = s.manifest("one").await.unwrap();
    assert_eq!(
        (manifest.bytes.as_ref(), manifest.media_type.as_str()),
        (&image.manifest[..], media_type::OCI_MANIFEST)
    );
    assert_eq!(s.resolve("two").await.unwrap(), manifest.descriptor());
    assert_eq!(s.manifest(manifest.digest.as_str()).await.unwrap(), manifest);
    let config = s.blob_bytes(&digest(&image.config), image.config.len() as u64, 1 << 20).await.unwrap();
    assert_eq!(config, image.config);
    let (layer, size) = (digest(&image.layer), image.layer.len());
    assert!(size > 100_000, "busybox is larger than that");
    for offset in [0, 1, size / 2, size - 1, size] {
        assert!(fetch(&s, &layer, size, offset).await == image.layer[offset..], "{offset}");
    }
    let part = s.blob(&layer, size as u64, 7).await.unwrap();
    assert_eq!((part.start(), part.content_length()), (7, Some(size as u64 - 7)));
    assert_eq!(s.blob_exists(&layer).await.unwrap(), Some(size as u64));
    assert_eq!(s.blob_exists(&digest(b"absent")).await.unwrap(), None);
    assert_eq!(s.tags().await.unwrap(), ["one", "two"]);
    assert_eq!(s.catalog(|_| true, 10).await.unwrap(), ["a/box"]);
    let seen = s.inspect("one").await.unwrap();
    assert_eq!(seen.platforms[0].to_string(), "linux/arm/v7");
    assert_eq!(seen.descriptor, manifest.descriptor());
}

#[tokio::test]
async fn what_is_missing_reads_as_in_docker() {
    let registry = Registry::start(false, false);
    let image = make_image(&registry.folder);
    registry.fill(&image.layout, "box:one");
    let s = registry.session(&client(), "box", Scope::Pull);
    for e in [s.manifest("nope").await.unwrap_err(), s.resolve("nope").await.unwrap_err()] {
        assert_eq!(e.class(), Class::NotFound);
        assert_eq!(
            e.message(),
            format!("manifest for {}/box:nope not found: manifest unknown: manifest unknown", registry.host)
        );
    }
    let e = registry.session(&client(), "none", Scope::Pull).tags().await.unwrap_err();
    assert_eq!(e.class(), Class::NotFound);
    assert!(e.message().starts_with(&format!("repository {}/none not found: name unknown: ", registry.host)), "{e}");
    let absent = digest(b"absent");
    let e = s.blob(&absent, 6, 0).await.unwrap_err();
    assert_eq!(e.class(), Class::NotFound);
}

#[tokio::test]
async fn what_we_push_skopeo_pulls() {
    let registry = Registry::start(true, false);
    let image = make_image(&registry.folder);
    let (layer, config_digest) = (digest(&image.layer), digest(&image.config));
    for (repository, client) in
        [("whole", client()), ("chunks", Client::new(Config { single_upload_limit: 1000, chunk: 300_000, ..config() }))]
    {
        let s = registry.session(&client, repository, Scope::Push);
        let file = FileSource(registry.folder.join("layer.tgz"));
        s.upload_blob(&layer, image.layer.len() as u64, Arc::new(file)).await.unwrap();
        s.upload_blob(&config_digest, image.config.len() as u64, Arc::new(Bytes::from(image.config.clone())))
            .await
            .unwrap();
        let bytes = Bytes::from(image.manifest.clone());
        let stored = s.put_manifest("t", media_type::OCI_MANIFEST, bytes).await.unwrap();
        assert_eq!(stored, digest(&image.manifest));
        let out = registry.folder.join(repository);
        let from = format!("docker://{}/{repository}:t", registry.host);
        run(
            "skopeo",
            &[
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                "--src-creds=joe:secret",
                &from,
                &format!("dir:{}", out.display()),
            ],
        );
        assert!(fs::read(out.join(layer.hex())).unwrap() == image.layer);
        assert!(fs::read(out.join("manifest.json")).unwrap() == image.manifest);
    }
    let s = registry.session(&client(), "mounted", Scope::Push);
    let from = Reference::parse(&format!("{}/whole", registry.host)).unwrap();
    assert!(s.mount_blob(&layer, &from).await.unwrap());
    assert_eq!(s.blob_exists(&layer).await.unwrap(), Some(image.layer.len() as u64));
    assert!(!s.mount_blob(&digest(b"absent"), &from).await.unwrap());
    assert!(!s.mount_blob(&layer, &Reference::parse("elsewhere:1/x").unwrap()).await.unwrap());
}

#[tokio::test]
async fn a_wrong_push_is_refused() {
    let registry = Registry::start(false, false);
    let s = registry.session(&client(), "bad", Scope::Push);
    let content = noise(4000);
    let e = s.upload_blob(&digest(b"other"), 4000, Arc::new(Bytes::from(content.clone()))).await.unwrap_err();
    assert!(e.message().contains("digest invalid"), "{e}");
    let e = s.upload_blob(&digest(&content), 5000, Arc::new(Bytes::from(content.clone()))).await.unwrap_err();
    assert!(e.message().contains("1000 bytes shorter than promised"), "{e}");
    s.upload_blob(&digest(b""), 0, Arc::new(Bytes::new())).await.unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{m}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{d}","size":4000}},"layers":[]}}"#,
        m = media_type::OCI_MANIFEST,
        d = digest(&content)
    );
    let e = s.put_manifest("t", media_type::OCI_MANIFEST, manifest.into()).await.unwrap_err();
    assert_eq!(e.class(), Class::NotFound);
    assert!(e.message().contains("blob unknown"), "{e}");
}

#[tokio::test]
async fn accounts_are_needed_and_checked() {
    let registry = Registry::start(true, false);
    let image = make_image(&registry.folder);
    registry.fill(&image.layout, "box:one");
    registry.session(&client(), "box", Scope::Pull).manifest("one").await.unwrap();
    let reference = Reference::parse(&format!("{}/box", registry.host)).unwrap();
    let anonymous = client().repository(&reference, Auth::default(), Scope::Pull);
    let e = anonymous.manifest("one").await.unwrap_err();
    assert_eq!(e.class(), Class::System);
    assert_eq!(
        e.message(),
        format!(
            "Get \"http://{0}/v2/box/manifests/one\": no basic auth credentials (run 'docker login {0}' first)",
            registry.host
        )
    );
    let wrong = Auth { username: "joe".into(), password: "wrong".into(), ..Auth::default() };
    let e = client().repository(&reference, wrong.clone(), Scope::Pull).manifest("one").await.unwrap_err();
    assert_eq!(e.class(), Class::System);
    assert!(e.message().contains("unauthorized: authentication required (the account that is logged in"), "{e}");
    let right = Auth { password: "secret".into(), ..wrong.clone() };
    let done = client().login(&registry.host, &right).await.unwrap();
    assert_eq!((done.status.as_str(), done.identity_token.as_str()), ("Login Succeeded", ""));
    assert_eq!(client().login(&registry.host, &wrong).await.unwrap_err().class(), Class::Unauthorized);
}

#[tokio::test]
async fn loopback_is_spoken_to_by_unverified_tls() {
    let registry = Registry::start(false, true);
    let image = make_image(&registry.folder);
    registry.fill(&image.layout, "box:one");
    let s = registry.session(&client(), "box", Scope::Pull);
    let layer = digest(&image.layer);
    assert!(fetch(&s, &layer, image.layer.len(), 0).await == image.layer);
    let e = s.manifest("nope").await.unwrap_err();
    assert_eq!(e.class(), Class::NotFound);
}

#[tokio::test]
async fn a_registry_without_search_has_its_catalogue_searched() {
    let registry = Registry::start(false, false);
    let image = make_image(&registry.folder);
    for name in ["joe/box:one", "busybox:one", "other:one"] {
        registry.fill(&image.layout, name);
    }
    let client = Client::new(Config { index: format!("http://{}/v1/", registry.host), ..config() });
    let names = |found: Vec<naru_registry::SearchResult>| found.into_iter().map(|r| r.name).collect::<Vec<_>>();
    let auth = Auth::default();
    assert_eq!(names(client.search("box", 25, &auth).await.unwrap()), ["busybox", "joe/box"]);
    assert_eq!(names(client.search("BOX", 1, &auth).await.unwrap()), ["busybox"]);
    let term = format!("{}/joe", registry.host);
    assert_eq!(names(client.search(&term, 25, &auth).await.unwrap()), [format!("{}/joe/box", registry.host)]);
    assert!(client.search("nothing", 25, &auth).await.unwrap().is_empty());
}
