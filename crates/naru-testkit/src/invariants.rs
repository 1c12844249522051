//! Looks at everything that containers leave on a machine, and finds what nobody owns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::engine::Engine;
use crate::http::Http;

/// Network pairs that the engine keeps ready.
const WARM_NETWORKS: usize = 4;
/// Namespaces, with or without a network's interface, that it keeps ready, and those that it tries things in.
const READY: usize = WARM_NETWORKS + 4;
/// Files that an engine has open without any container, at most: its own, and those of clients that ask at the same time.
const DESCRIPTORS: usize = 80;
/// Files that it has open for each: sockets, namespaces.
const DESCRIPTORS_EACH: usize = 8;

/// A container, as the engine shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whole id.
    pub id: String,
    /// docker's word.
    pub state: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many networks it is on.
    pub networks: usize,
}

impl Seen {
    /// Whether docker says that it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// Whether there is a process.
    pub fn has_process(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused")
    }
}

/// Every container by its name.
///
/// # Errors
/// When the engine doesn't tell.
pub fn see(http: &Http) -> Result<BTreeMap<String, Seen>> {
    let list = http.get("/containers/json?all=1")?.json()?;
    let mut seen = BTreeMap::new();
    for container in list.as_array().context("a list")? {
        let text = |key: &str| container[key].as_str().unwrap_or_default().to_owned();
        let name = container["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        let labels = serde_json::from_value(container["Labels"].clone()).unwrap_or_default();
        let networks = container["NetworkSettings"]["Networks"].as_object().map_or(0, serde_json::Map::len);
        seen.insert(name, Seen { id: text("Id"), state: text("State"), labels, networks });
    }
    Ok(seen)
}

/// Every resource has an owner, and every container what it needs. `restless` tells of which containers nothing can be said, since they
/// begin and end all the time.
///
/// # Errors
/// With the first that hasn't.
pub fn check(engine: &Engine, seen: &BTreeMap<String, Seen>, restless: impl Fn(&Seen) -> bool) -> Result<()> {
    let ids = |wanted: &dyn Fn(&Seen) -> bool| -> BTreeSet<String> {
        seen.values().filter(|s| wanted(s)).map(|s| s.id.clone()).collect()
    };
    let all = ids(&|_| true);
    let running = ids(&|s| !restless(s) && s.has_process());
    let maybe = ids(&restless);
    let groups = groups(engine)?;
    for id in &running {
        ensure!(groups.contains(id), "container {id} has no cgroup");
    }
    for id in &groups {
        ensure!(running.contains(id) || maybe.contains(id), "cgroup {id} has no container that runs");
    }
    let world = engine.world();
    let monitors = world.processes()?.iter().filter(|p| p.contains("naru-monitor")).count();
    let (least, most) = (running.len(), running.len() + maybe.len());
    ensure!((least..=most).contains(&monitors), "{monitors} monitors for {least} to {most} containers");
    let links = world.links()?.iter().filter(|l| l.starts_with("veth")).count();
    let endpoints: usize = seen.values().filter(|s| s.has_process() || restless(s)).map(|s| s.networks).sum();
    ensure!(links <= endpoints + WARM_NETWORKS, "{links} veth for at most {endpoints} endpoints");
    let mounts = world.new_mounts()?;
    ensure!(mounts.is_empty(), "mounts are left: {mounts:?}");
    let records = folders(&engine.data_root().join("containers"))?;
    ensure!(records == all, "folders {records:?} for containers {all:?}");
    let run = folders(&engine.exec_root().join("containers"))?;
    ensure!(run.is_subset(&all), "run folders {run:?} for containers {all:?}");
    let trash = folders(&engine.data_root().join("trash"))?;
    ensure!(trash.is_empty(), "the trash has {trash:?}");
    let temporary = temporaries(&engine.data_root())?;
    ensure!(temporary.is_empty(), "temporary files are left: {temporary:?}");
    small(engine, most, endpoints)?;
    disk(&engine.http())
}

/// What is many small things: ids, pinned neighbours, descriptors, files of names. So many containers may have some at most.
fn small(engine: &Engine, most: usize, endpoints: usize) -> Result<()> {
    let world = engine.world();
    let ids = fs::read_dir(format!("/proc/{}/root/run/naru-ids", world.pid())).map_or(0, |entries| {
        entries.flatten().filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).count()
    });
    ensure!(ids <= most + READY, "{ids} ranges of ids are taken for at most {most} containers");
    let pinned = world.command("ip").args(["neigh", "show", "nud", "permanent"]).output()?;
    let pinned = String::from_utf8_lossy(&pinned.stdout).lines().count();
    // One for each family.
    ensure!(pinned <= 2 * (endpoints + READY), "{pinned} neighbours are pinned for at most {endpoints} endpoints");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", engine.pid()?)).map_or(0, Iterator::count);
    let limit = DESCRIPTORS + DESCRIPTORS_EACH * (most + READY);
    ensure!(descriptors <= limit, "the engine has {descriptors} files open for at most {most} containers");
    let networks = engine.http().get("/networks")?.json()?;
    let networks: BTreeSet<&str> = networks.as_array().into_iter().flatten().filter_map(|n| n["Id"].as_str()).collect();
    let names = folders(&engine.exec_root().join("names")).unwrap_or_default();
    let nobodys: Vec<&String> = names.iter().filter(|name| !networks.contains(name.as_str())).collect();
    ensure!(nobodys.is_empty(), "files of names of no network: {nobodys:?}");
    Ok(())
}

/// Blobs, layers, images, records and volumes, as the engine itself judges them: whole, and each somebody's.
fn disk(http: &Http) -> Result<()> {
    let found = http.post("/system/check", &serde_json::Value::Null)?.json()?;
    let problems = found["Problems"].as_array().context("a list of problems")?;
    ensure!(problems.is_empty(), "system check finds {problems:?}");
    Ok(())
}

/// The ids of containers that have a cgroup.
fn groups(engine: &Engine) -> Result<BTreeSet<String>> {
    let paths = engine.world().container_groups()?;
    Ok(paths.iter().filter_map(|p| p.rsplit('/').next()).map(str::to_owned).collect())
}

fn folders(path: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

/// What writes that were cut off have left beside records.
fn temporaries(data_root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut look = vec![data_root.to_owned()];
    let containers = data_root.join("containers");
    look.extend(folders(&containers).unwrap_or_default().into_iter().map(|name| containers.join(name)));
    for folder in look.iter().filter(|f| f.is_dir()) {
        let names = folders(folder).unwrap_or_default();
        let left = names.into_iter().filter(|name| name.starts_with(".tmp-"));
        found.extend(left.map(|name| folder.join(name).display().to_string()));
    }
    Ok(found)
}
