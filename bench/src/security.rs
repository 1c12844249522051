//! The default security of Docker, Podman and Naru, read off a running container of each that was given no flags: the table of
//! docs/security.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, World, image};

use crate::say;

/// What is told by the script inside, and what is seen from outside.
struct Facts {
    name: String,
    inside: BTreeMap<String, String>,
    /// The first id of a second container's.
    second_root: String,
    /// Mounts that the host's table has more while one runs.
    mounts: BTreeSet<String>,
}

impl Facts {
    fn get(&self, key: &str) -> &str {
        self.inside.get(key).map_or("", String::as_str)
    }
}

/// One engine: runs `args` and gives its output.
type Run<'a> = &'a dyn Fn(&[&str]) -> Result<String>;

/// Prints the table.
///
/// # Errors
/// An engine fails.
pub fn compare() -> Result<()> {
    let mut docker = Engine::with(Target::Dockerd, EngineOptions::default())?;
    let mut naru = Engine::with(Target::Naru, EngineOptions::default())?;
    let world = World::new()?;
    let podman = |args: &[&str]| podman(&world, args);
    let archive = world.folder().join("busybox.tar");
    fs::write(&archive, image::busybox()?)?;
    podman(&["load", "-q", "-i", archive.to_str().context("a path")?])?;
    let mut all = Vec::new();
    for engine in [&docker, &naru] {
        engine.load_busybox()?;
        let cli = engine.docker();
        let version = cli.ok(["version", "--format", "{{.Server.Version}}"])?;
        let name = if engine.target() == Target::Naru { "Naru".to_owned() } else { format!("Docker {version}") };
        all.push(look(name, &|args: &[&str]| cli.ok(args), engine.world())?);
    }
    let version = podman(&["version", "--format", "{{.Client.Version}}"])?;
    all.insert(1, look(format!("Podman {}", version.trim()), &podman, &world)?);
    docker.finish()?;
    naru.finish()?;
    let hosts = host_namespaces()?;
    say(&format!(
        "| | {} |\n|---|---|---|---|\n",
        all.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(" | ")
    ))?;
    for (name, tell) in ROWS {
        let cells: Vec<String> = all.iter().map(tell).collect();
        say(&format!("| {name} | {} |\n", cells.join(" | ")))?;
    }
    let own: Vec<String> = all.iter().map(|facts| own_namespaces(facts.get("namespaces"), &hosts)).collect();
    say(&format!("| namespaces of its own | {} |\n", own.join(" | ")))
}

fn podman(world: &World, args: &[&str]) -> Result<String> {
    let mut command: Command = world.command("podman");
    command.arg("--root").arg(world.folder().join("podman"));
    command.args(["--runroot", "/run/podman", "--tmpdir", "/run/podman-tmp", "--cgroup-manager", "cgroupfs"]);
    command.args(["--events-backend", "none"]).args(args).env("HOME", world.folder()).stdin(Stdio::null());
    // A container that goes on keeps a pipe open, so what is said goes into a file.
    let said = world.folder().join("said");
    let status = command.stdout(fs::File::create(&said)?).status().context("podman")?;
    ensure!(status.success(), "podman {args:?} failed");
    Ok(fs::read_to_string(said)?)
}

fn look(name: String, run: Run<'_>, world: &World) -> Result<Facts> {
    let inside = run(&["run", "--rm", "busybox", "sh", "-c", include_str!("security.sh")])
        .with_context(|| format!("look at {name}"))?;
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        (key.to_owned(), value.trim().to_owned())
    };
    let before = world.mounts()?;
    run(&["run", "-d", "--name", "probe", "busybox", "sleep", "1000"])?;
    let mounts = world.mounts()?.difference(&before).cloned().collect();
    let map = run(&["exec", "probe", "cat", "/proc/self/uid_map"])?;
    run(&["rm", "-f", "probe"])?;
    let second_root = map.split_whitespace().nth(1).unwrap_or_default().to_owned();
    Ok(Facts { name, inside: inside.lines().map(pair).collect(), second_root, mounts })
}

const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

fn host_namespaces() -> Result<Vec<String>> {
    let link = |kind| Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string());
    KINDS.into_iter().map(link).collect()
}

fn own_namespaces(theirs: &str, hosts: &[String]) -> String {
    let pairs = KINDS.iter().zip(theirs.split(' ').zip(hosts));
    pairs.filter(|(_, (own, host))| own != host).map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ")
}

/// A name, and what it is in one engine.
type Row = (&'static str, fn(&Facts) -> String);

const ROWS: [Row; 20] = [
    ("root of the container is", |f| match f.get("root") {
        "0" => "the host's root".into(),
        _ => "an id of the host that nobody has".into(),
    }),
    ("ids of two containers", |f| if f.get("root") == f.second_root { "the same".into() } else { "different".into() }),
    ("capabilities", |f| {
        let bits = u64::from_str_radix(f.get("CapEff"), 16).unwrap_or_default();
        let over = if f.get("root") == "0" { "" } else { ", over its own namespaces alone" };
        format!("{} (`{bits:x}`){over}", bits.count_ones())
    }),
    ("inheritable, ambient", |f| match (f.get("CapInh"), f.get("CapAmb")) {
        ("0000000000000000", "0000000000000000") => "none".into(),
        (inheritable, ambient) => format!("`{inheritable}`, `{ambient}`"),
    }),
    ("seccomp", |f| if f.get("Seccomp") == "2" { "a filter".into() } else { "none".into() }),
    ("no_new_privs", |f| if f.get("NoNewPrivs") == "1" { "yes".into() } else { "on request".into() }),
    ("AppArmor or SELinux", |f| match f.get("label") {
        "" => "not active on this host".into(),
        label => format!("`{label}`"),
    }),
    ("a new user namespace inside", |f| f.get("unshare").into()),
    ("`mknod` of /dev/mem, and opening it", |f| {
        let words = |text: &str| if text == "yes" { "made" } else { "refused" };
        let (made, opened) = f.get("device").split_once(' ').unwrap_or_default();
        format!("{}, {}", words(made), if opened == "yes" { "opened" } else { "not opened" })
    }),
    ("mounts by the container", |f| f.get("mount").into()),
    ("hidden", |f| paths(f.get("hidden"))),
    ("read-only", |f| paths(f.get("readonly"))),
    ("neither", |f| paths(f.get("open"))),
    ("`/sys`", |f| if f.get("sys").ends_with("ro") { "read-only".into() } else { "writable".into() }),
    ("`mkdir` in `/sys/fs/cgroup`", |f| f.get("group").into()),
    ("limit of processes", |f| match f.get("pids") {
        "max" | "" => "none".into(),
        limit => limit.to_owned(),
    }),
    ("core dumps, open files", |f| format!("{}, {}", f.get("core"), f.get("files"))),
    ("ports from, `ping` for groups", |f| format!("{}, {}", f.get("port"), f.get("ping"))),
    ("in `/dev`", |f| f.get("devices").to_owned()),
    ("mounts in the host's table", |f| {
        let kinds: BTreeSet<&str> = f.mounts.iter().filter_map(|mount| mount.rsplit(' ').next()).collect();
        if kinds.is_empty() { "none".into() } else { kinds.into_iter().collect::<Vec<_>>().join(", ") }
    }),
];

fn paths(text: &str) -> String {
    if text.is_empty() {
        return "none".into();
    }
    text.split(' ').map(|path| format!("`{path}`")).collect::<Vec<_>>().join(" ")
}
