//! A registry on the engine's own loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::engine::Engine;
use crate::wait::eventually;
use crate::world::World;

/// What a registry wants from its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants<'a> {
    /// A user's name and password, from this file (htpasswd(1), bcrypt).
    pub htpasswd: Option<&'a Path>,
    /// TLS, with `reg.pem` and `reg.key` of this folder.
    pub tls: Option<&'a Path>,
    /// Certificates of clients, signed by this authority.
    pub clients: Option<&'a Path>,
}

/// Debian's `docker-registry` in a world's network namespace, over plain HTTP on `127.0.0.1` unless told otherwise. Ended when dropped.
pub struct Registry<'a> {
    world: &'a World,
    folder: PathBuf,
    host: String,
    port: u16,
    process: Child,
}

impl<'a> Registry<'a> {
    /// Starts one on `port` of the engine's loopback.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(engine: &'a Engine, port: u16) -> Result<Registry<'a>> {
        Registry::with(engine, "127.0.0.1", port, &Wants::default())
    }

    /// Starts one on an address of the engine's world.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn with(engine: &'a Engine, host: &str, port: u16, wants: &Wants<'_>) -> Result<Registry<'a>> {
        let world = engine.world();
        let folder = engine.scratch("registry")?;
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: {host}:{port}\n  secret: x\n",
            folder.join("store").display()
        );
        if let Some(tls) = wants.tls {
            let clients = wants.clients.map(|ca| format!(", clientcas: [{}]", ca.display())).unwrap_or_default();
            config
                .push_str(&format!("  tls: {{certificate: {0}/reg.pem, key: {0}/reg.key{clients}}}\n", tls.display()));
        }
        if let Some(file) = wants.htpasswd {
            config.push_str(&format!("auth: {{htpasswd: {{realm: kit, path: {}}}}}\n", file.display()));
        }
        fs::write(folder.join("config.yml"), config)?;
        let log = fs::File::create(folder.join("log"))?;
        let process = world
            .command("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start docker-registry")?;
        let registry = Registry { world, folder, host: host.to_owned(), port, process };
        eventually("the registry to answer", || {
            // To a plain request a TLS server says 400.
            let status = registry.get_status("/v2/")?;
            ensure!([200, 400, 401].contains(&status), "it answered {status}");
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(registry)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A reference to `name` in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// The folder that holds its blobs.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The file of the blob with the digest `sha256:…`.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.store().join("docker/registry/v2/blobs/sha256").join(hex.get(..2).unwrap_or("")).join(hex).join("data")
    }

    /// Copies an archive (in `docker save` format) into the registry as `name`, with extra arguments for skopeo such as
    /// `--format oci` or `--dest-compress-format zstd`.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn fill(&self, archive: &[u8], name: &str, args: &[&str]) -> Result<()> {
        let file = self.folder.join(crate::unique("archive.tar"));
        fs::write(&file, archive)?;
        let done = self.fill_from(&format!("docker-archive:{}", file.display()), name, args);
        fs::remove_file(&file)?;
        done
    }

    /// Copies from any of skopeo's transports into the registry as `name`.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn fill_from(&self, source: &str, name: &str, args: &[&str]) -> Result<()> {
        let target = format!("docker://{}", self.reference(name));
        let mut all = vec!["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
        all.extend_from_slice(args);
        all.extend([source, &target]);
        self.skopeo(&all).map(|_| ())
    }

    /// Runs skopeo beside the registry.
    ///
    /// # Errors
    /// When it fails.
    pub fn skopeo(&self, args: &[&str]) -> Result<String> {
        let mut command: Command = self.world.command("skopeo");
        let output = command.args(args).env("HOME", &self.folder).output().context("start skopeo")?;
        ensure!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The manifest of `name` as stored, and its digest.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn manifest(&self, name: &str) -> Result<serde_json::Value> {
        let raw =
            self.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", self.reference(name))])?;
        serde_json::from_str(&raw).context("a manifest")
    }

    /// The digests of a manifest's layers.
    ///
    /// # Errors
    /// When the manifest isn't there or has none.
    pub fn layers(&self, name: &str) -> Result<Vec<String>> {
        let manifest = self.manifest(name)?;
        let layers = manifest["layers"].as_array().context("a manifest with layers")?;
        Ok(layers.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_owned)).collect())
    }

    /// Puts a manifest of the given type by hand.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &str) -> Result<()> {
        let head = format!(
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{manifest}",
            self.address(),
            manifest.len()
        );
        let answer = self.talk(head)?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "the registry refused a manifest: {answer}");
        Ok(())
    }

    fn get_status(&self, path: &str) -> Result<u16> {
        let answer =
            self.talk(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address()))?;
        match answer.split(' ').nth(1).and_then(|code| code.parse().ok()) {
            Some(status) => Ok(status),
            None => bail!("not an HTTP answer: {answer:?}"),
        }
    }

    fn talk(&self, request: String) -> Result<String> {
        let address = self.address();
        let thread = self.world.in_network(move || -> Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })?;
        thread.join().map_err(|_| anyhow::anyhow!("the talking thread panicked"))??
    }
}

/// Ends the child of `nsenter`, which holds the real program.
fn end_tree(process: &mut Child) {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id())).unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(rustix::process::Pid::from_raw)
    {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = process.wait();
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        end_tree(&mut self.process);
    }
}
