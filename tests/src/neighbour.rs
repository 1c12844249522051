//! Another machine beside an engine's.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use naru_testkit::World;

/// A network namespace behind a link, where nobody has a route to the containers. Gone when dropped.
pub struct Neighbour {
    world: u32,
    pid: String,
    host: &'static str,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let world = self.world.to_string();
        let mut command = Command::new("nsenter");
        // The world takes it down as well, when this fails.
        let _ = command.args(["--target", &world, "--mount", "--pid", "kill", &self.pid]).status();
    }
}

impl Neighbour {
    /// 192.0.2.2, which reaches the engine's host at 192.0.2.1.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn beside(world: &World) -> Result<Neighbour> {
        Neighbour::linked(world, "192.0.2.1", "/24", "192.0.2.2")
    }

    /// 2001:db8:9::2, which reaches the engine's host at 2001:db8:9::1.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn beside_on_ipv6(world: &World) -> Result<Neighbour> {
        // Usable at once: without `nodad` an address is tentative at first.
        Neighbour::linked(world, "2001:db8:9::1", "/64 nodad", "2001:db8:9::2")
    }

    /// `how` is what `ip addr add` is told behind either address.
    fn linked(world: &World, host: &'static str, how: &str, theirs: &str) -> Result<Neighbour> {
        let script = format!(
            "set -e
ip link add out0 type veth peer name out1
ip addr add {host}{how} dev out0
ip link set out0 up
unshare --net sleep 100000 >/dev/null 2>&1 </dev/null &
pid=$!
until [ \"$(readlink /proc/$pid/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.01; done
ip link set out1 netns $pid
nsenter --target $pid --net sh -ec 'ip addr add {theirs}{how} dev out1; ip link set out1 up; ip link set lo up'
echo $pid"
        );
        let output = world.command("sh").args(["-c", &script]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Neighbour { world: world.pid(), pid: String::from_utf8(output.stdout)?.trim().to_owned(), host })
    }

    /// Its process, as the world numbers it.
    pub fn pid(&self) -> &str {
        &self.pid
    }

    /// A command on that machine.
    pub fn command(&self, world: &World, program: &str) -> Command {
        let mut command = world.command("nsenter");
        command.args(["--target", &self.pid, "--net", program]).stdin(Stdio::null());
        command
    }

    /// What a server says at the host's address.
    ///
    /// # Errors
    /// When it can't be asked; no answer is an empty one.
    pub fn ask(&self, world: &World, port: u16) -> Result<String> {
        let output = self.command(world, "busybox").args(["nc", "-w", "5", self.host, &port.to_string()]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
