//! `naru daemon`: the engine, served until it is told to end. Containers go on without it.

use crate::again::{Ended, begin_again, watch_spawner};
use crate::settings::{HELP, Settings};
use anyhow::{Context as _, Result, bail};
use naru_engine::{Engine, EngineConfig};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

/// Runs it, and returns the exit code.
pub(crate) fn main(args: &[OsString]) -> i32 {
    let settings = match Settings::read(args) {
        Ok(settings) => settings,
        Err(text) => return fail(&text, 125),
    };
    if settings.help {
        return print(HELP);
    }
    let level = start_telling(settings.live.debug);
    match run(&settings, Reload { args: args.to_vec(), level }) {
        Ok((Ended::ByRequest, _)) => 0,
        Ok((Ended::ForWantOfSpawner, files)) => fail(&format!("cannot begin again: {}", begin_again(args, files)), 1),
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

/// What is told may change while it runs.
type Level = reload::Handle<LevelFilter, Registry>;

fn level(debug: bool) -> LevelFilter {
    if debug { LevelFilter::DEBUG } else { LevelFilter::INFO }
}

fn start_telling(debug: bool) -> Level {
    let (filter, handle) = reload::Layer::new(level(debug));
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    handle
}

/// What reading the configuration again needs.
struct Reload {
    /// The command line, whose flags still come first.
    args: Vec<OsString>,
    level: Level,
}

impl Reload {
    /// On each SIGHUP; what is wrong is told, and changes nothing.
    async fn serve(self, mut hangup: Signal, engine: Arc<Engine>, started: Settings) {
        while hangup.recv().await.is_some() {
            let settings = match Settings::read(&self.args) {
                Ok(settings) => settings,
                Err(text) => {
                    tracing::error!("the configuration is not reloaded, error: {text}");
                    continue;
                }
            };
            let fixed = started.fixed_changes(&settings);
            if !fixed.is_empty() {
                tracing::warn!("these settings hold when the engine is started again: {}", fixed.join(", "));
            }
            if let Err(error) = self.level.reload(level(settings.live.debug)) {
                tracing::warn!("what is told stays: {error}");
            }
            engine.reload(settings.live);
            tracing::info!("the configuration was reloaded");
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a program that can't go on")]
fn fail(text: &str, code: i32) -> i32 {
    eprintln!("naru daemon: {text}");
    code
}

#[expect(clippy::print_stdout, reason = "asked for")]
fn print(text: &str) -> i32 {
    print!("{text}");
    0
}

/// Serves, and tells why it has ended, and which limit of open files it was started with.
fn run(settings: &Settings, reload: Reload) -> Result<(Ended, Rlimit)> {
    // Held until the end: the second engine on these roots ends here, before it touches anything.
    let _lock = lock(&settings.data_root)?;
    let _pidfile = PidFile::write(&settings.exec_root, &settings.pidfile)?;
    // Before any thread exists: it forks.
    let spawner = naru_monitor::start_spawner().context("cannot start the spawner")?;
    let files = rustix::process::getrlimit(Resource::Nofile);
    raise_files();
    let died = watch_spawner(spawner.pid)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context("cannot start the asynchronous runtime")?;
    let ended = runtime.block_on(serve(settings, reload, (spawner.control, died)))?;
    Ok((ended, files))
}

/// The engine may have as many files open as its hard limit says: a thousand ports are two thousand sockets while they are opened. The
/// spawner, and all that comes from it, has the limit that the engine was started with.
fn raise_files() {
    let resource = rustix::process::Resource::Nofile;
    let own = rustix::process::getrlimit(resource);
    let raised = rustix::process::Rlimit { current: own.maximum, maximum: own.maximum };
    if let Err(errno) = rustix::process::setrlimit(resource, raised) {
        tracing::warn!("the limit of open files stays as it is: {errno}");
    }
}

async fn serve(
    settings: &Settings,
    reload: Reload,
    (spawner, died): (OwnedFd, oneshot::Receiver<()>),
) -> Result<Ended> {
    // From now on it ends nothing any more.
    let hangup = signal(SignalKind::hangup())?;
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        let bound = if host.starts_with("fd://") { naru_api::activated() } else { naru_api::bind(host) };
        listeners.extend(bound.with_context(|| format!("cannot listen on {host}"))?);
    }
    let config = EngineConfig {
        data_root: settings.data_root.clone(),
        exec_root: settings.exec_root.clone(),
        live: settings.live.clone(),
        cgroup_driver: settings.cgroup_driver,
        cgroup_parent: settings.cgroup_parent.clone(),
        cdi_spec_dirs: settings.cdi_spec_dirs.clone(),
        registry_certs: settings.registry_certs.clone(),
        index: settings.search_index.clone(),
        default_userns: settings.default_userns,
        userns_ids: settings.userns_ids,
        default_ipv6: settings.default_ipv6.clone(),
        default_icc: settings.default_icc,
        selinux: settings.selinux,
        log: settings.log.clone(),
        image_policy: settings.image_policy,
    };
    let engine = Engine::open(config, spawner)?;
    engine.reconcile().await;
    if let Some(address) = &settings.metrics_addr {
        tokio::spawn(naru_api::serve_metrics(engine.clone(), address).await?);
    }
    tokio::spawn(reload.serve(hangup, engine.clone(), settings.clone()));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!("serving on {}", settings.hosts.join(", "));
    let (mut settled, mut ended) = (Ok(()), Ended::ByRequest);
    naru_api::serve(engine.clone(), listeners, async {
        let told = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let settle = async {
            settled = engine.finish_reconcile().await;
            if settled.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! { () = told => {}, () = settle => {}, _ = died => ended = Ended::ForWantOfSpawner }
    })
    .await?;
    engine.shutdown().await;
    for host in &settings.hosts {
        if let Some(path) = host.strip_prefix("unix://") {
            let _ = std::fs::remove_file(path);
        }
    }
    settled?;
    match ended {
        Ended::ByRequest => tracing::info!("ended; containers go on"),
        Ended::ForWantOfSpawner => tracing::warn!("the spawner has died: the engine begins again; containers go on"),
    }
    Ok(ended)
}

/// One engine per data root.
fn lock(data_root: &Path) -> Result<File> {
    std::fs::create_dir_all(data_root).with_context(|| format!("cannot make the data root {}", data_root.display()))?;
    let path = data_root.join("engine.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another engine is already running on the data root {}: stop it, or choose another by --data-root",
            data_root.display()
        );
    }
    Ok(file)
}

/// The file with the engine's process id, removed at the end.
struct PidFile<'a>(&'a Path);

impl<'a> PidFile<'a> {
    fn write(exec_root: &Path, path: &'a Path) -> Result<Self> {
        std::fs::create_dir_all(exec_root)
            .with_context(|| format!("cannot make the exec root {}", exec_root.display()))?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(file, "{}", std::process::id()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}
