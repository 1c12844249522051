//! How fast bytes and connections move: from the host's loopback and from another machine through a published port, and from container
//! to container. nginx of Debian serves, this program fetches, in the network namespace of who asks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually, image};
use naru_tests::neighbour::Neighbour;

use crate::sample::{PAUSE, Series};
use crate::say;

/// What one measurement moves.
const BYTES: u64 = 1 << 30;
/// And how many connections one makes, one after the other.
const CONNECTIONS: usize = 1000;
const SERVE: &str = "cd /var/www/html; truncate -s 1G large; echo >small; exec nginx -g 'daemon off;'";

/// An engine with a server on port 8080, another container, and another machine.
struct Place {
    name: &'static str,
    engine: Engine,
    neighbour: Neighbour,
    /// Address and port of the server on its own network.
    inside: String,
    /// The other container's first process.
    client: String,
}

/// Who fetches.
#[derive(Clone, Copy)]
enum From {
    Loopback,
    Neighbour,
    Container,
}

/// Prints the table.
///
/// # Errors
/// When an engine doesn't come up, or a fetch fails.
pub fn compare(rounds: usize) -> Result<()> {
    let mut places = vec![place("dockerd", Target::Dockerd)?, place("naru", Target::Naru)?];
    let load = std::fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    say(&format!("load {}; {rounds} rounds; pauses of 60 ms\n\n", load.trim()))?;
    say(
        "| from | engine | Gbit/s, median | connections/s, median | × bytes | × connections |\n|---|---|---|---|---|---|\n",
    )?;
    for (title, from) in [
        ("the host's loopback, published port", From::Loopback),
        ("another machine, published port", From::Neighbour),
        ("another container of the network", From::Container),
    ] {
        let mut times = vec![(Series::default(), Series::default()); places.len()];
        for _ in 0..rounds {
            for (place, (bytes, connections)) in places.iter().zip(&mut times) {
                for (series, path, count) in [(bytes, "large", 1), (connections, "small", CONNECTIONS)] {
                    std::thread::sleep(PAUSE);
                    series.push(place.fetch(from, path, count)?);
                }
            }
        }
        let medians: Vec<(f64, f64)> = times.iter().map(|(b, c)| (b.percentile(50), c.percentile(50))).collect();
        for (place, (bytes, connections)) in places.iter().zip(&medians) {
            #[expect(clippy::cast_precision_loss, reason = "a measurement")]
            let (speed, rate) = (BYTES as f64 * 8.0 / bytes / 1e6, CONNECTIONS as f64 * 1000.0 / connections);
            let (faster, oftener) = (medians[0].0 / bytes, medians[0].1 / connections);
            say(&format!("| {title} | {} | {speed:.1} | {rate:.0} | {faster:.2} | {oftener:.2} |\n", place.name))?;
        }
    }
    for place in &mut places {
        place.engine.docker().ok(["rm", "-f", "server", "client"])?;
        place.engine.docker().ok(["network", "rm", "bench"])?;
    }
    for mut place in places {
        drop(place.neighbour);
        place.engine.finish()?;
    }
    Ok(())
}

fn place(name: &'static str, target: Target) -> Result<Place> {
    let engine = Engine::with(target, EngineOptions::default())?;
    engine.load(&image::services()?)?;
    let neighbour = Neighbour::beside(engine.world())?;
    let docker = engine.docker();
    docker.ok(["network", "create", "bench"])?;
    let run = ["run", "-d", "--network", "bench", "--name"];
    docker.ok(run.into_iter().chain(["server", "-p", "8080:80", "services", "sh", "-c", SERVE]))?;
    docker.ok(run.into_iter().chain(["client", "services", "sleep", "100000"]))?;
    let inside = docker.inspect("server", "{{.NetworkSettings.Networks.bench.IPAddress}}")? + ":80";
    let client = docker.inspect("client", "{{.State.Pid}}")?;
    let place = Place { name, engine, neighbour, inside, client };
    eventually("nginx to answer", || place.fetch(From::Container, "small", 1))?;
    Ok(place)
}

impl Place {
    /// Milliseconds that it takes to fetch a file so many times.
    fn fetch(&self, from: From, path: &str, count: usize) -> Result<f64> {
        let program = std::env::current_exe().context("find this program")?;
        let program = program.to_str().context("this program's path")?;
        let world = self.engine.world();
        let (mut command, address): (Command, &str) = match from {
            From::Loopback => (world.command(program), "127.0.0.1:8080"),
            From::Neighbour => (self.neighbour.command(world, program), "192.0.2.1:8080"),
            From::Container => {
                let mut command = world.command("nsenter");
                command.args(["--target", &self.client, "--net", program]);
                (command, &self.inside)
            }
        };
        let output = command.args(["--fetch", address, path, &count.to_string()]).output()?;
        ensure!(output.status.success(), "fetch: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)?.trim().parse().context("a time in milliseconds")
    }
}

/// `--fetch ADDRESS PATH COUNT`: what [`Place::fetch`] runs elsewhere. Prints milliseconds.
///
/// # Errors
/// When the server can't be reached, or answers with less.
pub fn fetch(args: &[String]) -> Result<()> {
    let [address, path, count] = args else { bail!("--fetch takes an address, a path and a count") };
    let count: usize = count.parse().context("the count")?;
    let request = format!("GET /{path} HTTP/1.0\r\n\r\n");
    let mut buffer = vec![0; 256 << 10];
    let start = Instant::now();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.write_all(request.as_bytes())?;
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                n if received == 0 => {
                    ensure!(buffer[..n].starts_with(b"HTTP/1.1 200"), "not found");
                    received = n as u64;
                }
                n => received += n as u64,
            }
        }
        ensure!(path != "large" || received > BYTES, "only {received} bytes came");
    }
    say(&format!("{}\n", start.elapsed().as_secs_f64() * 1000.0))
}
