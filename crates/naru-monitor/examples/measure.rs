//! What a monitor costs: `measure [runs] [pause in ms]` runs `busybox true` under monitors and tells percentiles, a monitor's private
//! memory, and how fast output goes through one.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for developers")]

#[path = "../tests/monitor/world.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod world;

use naru_monitor::Spawner;
use naru_monitor::protocol::{Attach, Event, LogConfig, Request, Response};
use naru_runtime::plan::Namespace;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use world::{Link, World, all, process};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "spawner") {
        return ExitCode::from(u8::try_from(naru_monitor::spawner_process()).unwrap());
    }
    let number = |at: usize, default| args.get(at).map_or(default, |a: &String| a.parse::<u64>().unwrap());
    let (runs, pause) = (number(0, 50), Duration::from_millis(number(1, 60)));
    let spawner = naru_monitor::start_spawner().unwrap();
    measure_runs(&spawner, runs, pause);
    measure_execs(&spawner, runs, pause);
    measure_memory(&spawner);
    measure_output(&spawner, "a client", false);
    measure_output(&spawner, "a client and a log", true);
    for (driver, buffer) in [("none", None), ("json-file", None), ("local", None), ("local", Some(1 << 20))] {
        measure_log(&spawner, driver, buffer);
    }
    ExitCode::SUCCESS
}

/// How fast a program that nobody listens to can say something, from its start to its end.
fn measure_log(spawner: &Spawner, driver: &str, buffer: Option<u64>) {
    const MEGABYTES: u64 = 512;
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    // As long as lines of real programs are, and written 64 KiB at a time.
    let line = "2026-01-01T00:00:00.000Z INFO a line of a program that says about a hundred bytes at a time, path=/x";
    let script = format!(
        "yes '{line}' | head -c 1048576 >/tmp/text; read go; i=0; while [ $i -lt {MEGABYTES} ]; do dd if=/tmp/text bs=64k 2>/dev/null; i=$((i+1)); done"
    );
    let mut request = world.request(&script);
    request.stdin_open = true;
    let rotated = LogConfig { max_size: 10 << 20, max_files: 3, ..world.log_config() };
    request.log = match driver {
        "none" => LogConfig { driver: "none".into(), ..LogConfig::default() },
        _ => LogConfig { driver: driver.into(), compress: driver == "local", buffer, ..rotated },
    };
    link.start(request, Vec::new());
    let ours = link.attach(Attach { stdin: true, ..Attach::default() });
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    std::io::Write::write_all(&mut &ours, b"go\n").unwrap();
    let end = loop {
        if let Some(Event::Exited(record)) = link.event() {
            break record;
        }
    };
    let rate = MEGABYTES as f64 / begin.elapsed().as_secs_f64();
    let mode = if buffer.is_some() { ", non-blocking" } else { "" };
    println!("output to the log {driver}{mode}: {rate:.0} MB/s; {} records lost", end.log_lost.records);
}

fn measure_runs(spawner: &Spawner, runs: u64, pause: Duration) {
    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..runs {
        let world = World::new();
        let mut request = world.request("");
        // As a container is started: its network namespace is made before, and given.
        request.plan.namespaces.net = Namespace::Host;
        request.plan.process.args = ["/bin/busybox", "true"].map(str::to_owned).into();
        std::thread::sleep(pause);
        let begin = Instant::now();
        let mut link = Link::spawn(spawner, &world);
        let asked = Instant::now();
        link.start(request, Vec::new());
        let started = Instant::now();
        assert!(matches!(link.event(), Some(Event::Exited(_))));
        let ended = Instant::now();
        for (list, time) in samples.iter_mut().zip([asked - begin, started - asked, ended - started]) {
            list.push(time);
        }
    }
    for (name, list) in ["spawn asked", "start to started", "started to exited"].iter().zip(&mut samples) {
        report(name, list);
    }
}

fn measure_execs(spawner: &Spawner, runs: u64, pause: Duration) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    link.start(world.request("sleep 1000"), Vec::new());
    let mut samples = [const { Vec::new() }; 2];
    for run in 0..runs {
        let mut process = process("");
        process.args = ["/bin/busybox", "true"].map(str::to_owned).into();
        std::thread::sleep(pause);
        let begin = Instant::now();
        assert!(matches!(link.exec(&run.to_string(), process, None), Response::Started { .. }));
        let started = Instant::now();
        assert!(matches!(link.event(), Some(Event::ExecExited { .. })));
        samples[0].push(started - begin);
        samples[1].push(started.elapsed());
    }
    for (name, list) in ["exec to started", "exec started to exited"].iter().zip(&mut samples) {
        report(name, list);
    }
    link.signal(9);
    link.exit();
}

fn report(name: &str, list: &mut [Duration]) {
    list.sort_unstable();
    let at = |percent: usize| list.get(list.len() * percent / 100).map_or(0, Duration::as_micros);
    println!("{name:<24} us p10/p50/p90 {}/{}/{}", at(10), at(50), at(90));
}

fn measure_memory(spawner: &Spawner) {
    let worlds: Vec<_> = (0..10).map(|_| World::new()).collect();
    let start = |world| {
        let mut link = Link::spawn(spawner, world);
        link.start(world.request("sleep 1000"), Vec::new());
        link
    };
    let mut links: Vec<_> = worlds.iter().map(start).collect();
    let private: Vec<_> = links.iter_mut().map(private_memory).collect();
    println!("private memory of ten monitors, KiB: {private:?}");
    for mut link in links {
        link.signal(9);
        link.exit();
    }
}

fn private_memory(link: &mut Link) -> u64 {
    let Response::Hello(state) = link.ask(Request::Hello { version: 1 }, &[]).0 else { return 0 };
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", state.monitor_pid)).unwrap();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

fn measure_output(spawner: &Spawner, name: &str, logged: bool) {
    const MEGABYTES: u64 = 256;
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let line = "a line of a program that says about sixty bytes at a time..";
    let mut request = world.request(&format!("read go; yes '{line}' | head -c {}; sleep 1000", MEGABYTES << 20));
    request.stdin_open = true;
    let log = LogConfig { max_size: 10 << 20, max_files: 3, ..world.log_config() };
    request.log = if logged { log } else { LogConfig { driver: "none".into(), ..LogConfig::default() } };
    link.start(request, Vec::new());
    let ours = link.attach(all());
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    std::io::Write::write_all(&mut &ours, b"go\n").unwrap();
    let mut seen = 0;
    let mut chunk = vec![0; 1 << 16];
    while seen < MEGABYTES << 20 {
        seen += std::io::Read::read(&mut &ours, &mut chunk).unwrap() as u64;
    }
    let rate = MEGABYTES as f64 / begin.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(6000));
    println!("output to {name}: {rate:.0} MB/s; private memory afterwards {} KiB", private_memory(&mut link));
    link.signal(9);
    link.exit();
}
