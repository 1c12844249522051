//! A private piece of the machine: namespaces, cgroups and a folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use crate::wait::{eventually, unique};

const OUTSIDE: &str = include_str!("world-outside.sh");
const INSIDE: &str = include_str!("world-inside.sh");

/// Mount, network, pid and cgroup namespaces of their own, a cgroup in every hierarchy that is their top, an empty `/run`,
/// loopback, and a short-named folder.
///
/// It ends when this value is dropped or when the test process dies in whatever way: a keeper process holds the other end
/// of a pipe, and takes everything down when that closes.
pub struct World {
    folder: PathBuf,
    pid: u32,
    mounts_at_start: BTreeSet<String>,
    keeper: Child,
    life: Option<ChildStdin>,
}

impl World {
    /// Makes one.
    ///
    /// # Errors
    /// Without root, or when a namespace can't be made.
    pub fn new() -> Result<World> {
        let base = std::env::var_os("NARU_TEST_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let name = unique("nt");
        // Short: paths of sockets below it have to fit into 107 bytes.
        let folder = base.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(folder.join("outside.sh"), OUTSIDE)?;
        fs::write(folder.join("inside.sh"), INSIDE)?;
        let mut keeper = Command::new("bash")
            .arg(folder.join("outside.sh"))
            .args([folder.as_os_str(), OsStr::new(&name), folder.join("inside.sh").as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("start the world's keeper")?;
        let life = keeper.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let Some(pid) = line.trim().strip_prefix("ready ") else {
            bail!("the world's first process did not come up (the suite needs root)");
        };
        let pid = pid.parse().context("the first process's pid")?;
        let mut world = World { folder, pid, mounts_at_start: BTreeSet::new(), keeper, life };
        world.mounts_at_start = world.mounts()?;
        Ok(world)
    }

    /// The folder, which holds whatever the world's engine and the test keep; it is removed with the world.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first process's pid as the test sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--net", "--pid", "--cgroup", "--"]).arg(program);
        // The cgroup is joined as well: a process is born in its parent's.
        let mut join = String::from("for g in $(cat \"$0/cgroups\"); do if [ -e $g/init ]; then g=$g/init; fi; ");
        join.push_str("if [ -e $g/tasks ]; then echo 0 >$g/tasks; else echo 0 >$g/cgroup.procs; fi; done; exec \"$@\"");
        let mut outer = Command::new("sh");
        outer.arg("-c").arg(join).arg(&self.folder).arg(command.get_program()).args(command.get_args());
        outer
    }

    /// Runs `work` on a thread that lives in this world's network namespace. Sockets it makes stay there.
    ///
    /// # Errors
    /// When the namespace can't be entered; what `work` gives back is in the thread's own result.
    pub fn in_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let namespace = fs::File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(
                namespace.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )?;
            Ok(work())
        }))
    }

    /// Mount points of the world, one `target type` each.
    ///
    /// # Errors
    /// When the mount table can't be read.
    pub fn mounts(&self) -> Result<BTreeSet<String>> {
        let table = fs::read_to_string(format!("/proc/{}/mounts", self.pid))?;
        Ok(table
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                Some(format!("{} {}", fields.next()?, fields.next()?))
            })
            .collect())
    }

    /// Mounts that came since the world was made.
    ///
    /// # Errors
    /// When the mount table can't be read.
    pub fn new_mounts(&self) -> Result<Vec<String>> {
        Ok(self.mounts()?.difference(&self.mounts_at_start).cloned().collect())
    }

    /// Processes in the world besides its first, as `pid name`.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn processes(&self) -> Result<Vec<String>> {
        let own = fs::read_link(format!("/proc/{}/ns/pid", self.pid)).context("the world's pid namespace")?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A container's own pid namespace lies below: its processes are found by walking up from it.
            if pid != self.pid && self.owns_process(pid, &own) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push(format!("{pid} {}", name.trim()));
            }
        }
        Ok(found)
    }

    fn owns_process(&self, pid: u32, own: &Path) -> bool {
        let mut pid = pid;
        for _ in 0..64 {
            match fs::read_link(format!("/proc/{pid}/ns/pid")) {
                Ok(namespace) if namespace == own => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|p| p.trim().parse().ok());
            match parent {
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    }

    /// Names of the network links in the world.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn links(&self) -> Result<Vec<String>> {
        let output = self.command("ip").args(["-o", "link"]).output().context("ip link")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect())
    }

    /// Groups below the world's own in any hierarchy, as paths relative to it; `init` and empty parents are left out.
    ///
    /// # Errors
    /// When a hierarchy can't be read.
    pub fn container_groups(&self) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for top in fs::read_to_string(self.folder.join("cgroups"))?.lines() {
            collect_groups(Path::new(top), Path::new(top), &mut found);
        }
        Ok(found.into_iter().collect())
    }

    /// What should not be there any more once every container is removed and the engine has stopped.
    ///
    /// # Errors
    /// When the world can't be looked at.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let mut leaks = Vec::new();
        leaks.extend(self.processes()?.into_iter().map(|process| format!("process {process}")));
        leaks.extend(self.new_mounts()?.into_iter().map(|mount| format!("mount {mount}")));
        leaks.extend(self.links()?.into_iter().filter(|l| l.starts_with("veth")).map(|link| format!("link {link}")));
        leaks.extend(self.container_groups()?.into_iter().map(|group| format!("cgroup {group}")));
        Ok(leaks)
    }

    /// Waits until [`World::leaks`] finds nothing but what starts with one of `known`.
    ///
    /// # Errors
    /// With what is left when patience ends.
    pub fn expect_clean(&self, known: &[String]) -> Result<()> {
        eventually("the world to be clean", || {
            let mut leaks = self.leaks()?;
            leaks.retain(|leak| !known.iter().any(|known| leak.starts_with(known)));
            if leaks.is_empty() { Ok(()) } else { bail!("left over: {}", leaks.join(", ")) }
        })
    }
}

/// Adds every group below `top` whose name is a container's id.
fn collect_groups(top: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() >= 64 && name.bytes().filter(u8::is_ascii_hexdigit).count() >= 64 {
            found.insert(path.strip_prefix(top).unwrap_or(&path).display().to_string());
        }
        collect_groups(top, &path, found);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.life.take());
        // The keeper goes on by itself when this fails; there is nobody to tell.
        let _ = self.keeper.wait();
    }
}
