//! How containers end, and engines: records, events, reconnection, failed starts.

use crate::Case;
use crate::streams::monitor_memory;
use crate::world::{Link, World, all, client, eventually, process, read_all};
use naru_monitor::Spawner;
use naru_monitor::protocol::{Attach, Event, ExitRecord, Request, Response};
use naru_runtime::plan::Namespace;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    ("record_before_event", record_before_event),
    ("failed_start", failed_start),
    ("impossible_start", impossible_start),
    ("later_engine", later_engine),
    ("signals", signals),
    ("out_of_memory", out_of_memory),
    ("others_hold_the_output", others_hold_the_output),
    ("nothing_is_left", nothing_is_left),
    ("engine_gone_before_a_start", engine_gone_before_a_start),
    ("monitor_is_small_and_out_of_reach", monitor_is_small_and_out_of_reach),
    ("spawner_ends_with_its_engine", spawner_ends_with_its_engine),
];

fn record(world: &World) -> Option<ExitRecord> {
    let bytes = std::fs::read(world.base.join("record/exit.json")).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn record_before_event(spawner: &Spawner) {
    let world = World::new();
    std::fs::write(world.base.join("record/exit.json"), "of an earlier run").unwrap();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("sleep 0.1; exit 2");
    request.volatile = false;
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    assert!(!world.base.join("record/exit.json").exists());
    read_all(&ours);
    let on_disk = record(&world).expect("the record precedes the end of the streams");
    match link.event() {
        Some(Event::Exited(told)) => assert_eq!(told, on_disk),
        other => panic!("{other:?}"),
    }
    assert_eq!((on_disk.exit_code, on_disk.oom_killed), (2, false));
}

fn failed_start(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("");
    request.plan.process.args = vec!["/nope".to_owned()];
    request.attaches = vec![Attach { preamble: b"HTTP".to_vec(), ..all() }];
    let answer = link.ask(Request::Start(Box::new(request)), &[theirs]).0;
    assert!(
        matches!(&answer, Response::Failed { exit_code: 127, message, .. } if message.contains("/nope")),
        "{answer:?}"
    );
    assert!(link.event().is_none(), "the monitor goes on");
    assert_eq!(read_all(&ours), "HTTP");
    assert_gone(&world);
}

fn impossible_start(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("true");
    request.namespaces[0] = true;
    let answer = link.ask(Request::Start(Box::new(request)), &[]).0;
    assert!(matches!(answer, Response::Failed { exit_code: 128, .. }), "{answer:?}");
    assert!(link.event().is_none());
    assert_gone(&world);
}

/// No cgroup, no socket.
fn assert_gone(world: &World) {
    let cgroup = world.cgroup();
    let hierarchies = naru_runtime::cgroup::Hierarchies::host().unwrap();
    for hierarchy in hierarchies.iter() {
        assert!(!hierarchy.base.join(&cgroup[1..]).exists(), "{hierarchy:?}");
    }
    assert!(!world.base.join("run/monitor.sock").exists());
}

fn later_engine(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let pid = link.start(world.request("sleep 1000"), Vec::new());
    link.exec("short", process("sleep 0.2; exit 6"), None);
    link.exec("long", process("sleep 1000"), None);
    let mode = std::fs::metadata(world.base.join("run/monitor.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    drop(link);
    std::thread::sleep(Duration::from_millis(500));
    let mut link = Link::connect(&world);
    let (answer, descriptors) = link.ask(Request::Hello { version: 1 }, &[]);
    let Response::Hello(state) = answer else { panic!("{answer:?}") };
    assert_eq!((state.id.as_str(), state.pid), (world.id.as_str(), pid));
    assert_eq!(state.ended_execs, [("short".to_owned(), 6)]);
    assert_eq!(state.execs.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["long"]);
    let own = std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(rustix::fs::fstat(&descriptors[0]).unwrap().st_ino, std::os::unix::fs::MetadataExt::ino(&own));
    assert!(matches!(link.signal(9), Response::Done));
    assert!(matches!(link.event(), Some(Event::ExecExited { exit_code: 137, .. })));
    assert_eq!(link.exit(), 137);
}

fn signals(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    link.start(world.request("trap 'exit 11' TERM; echo ready; while :; do sleep 0.05; done"), Vec::new());
    eventually("it is ready", || !world.logged().is_empty());
    assert!(matches!(link.signal(15), Response::Done));
    assert_eq!(link.exit(), 11);
}

fn out_of_memory(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 1");
    request.plan.cgroup.resources.memory = Some(32 << 20);
    request.plan.process.args = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M"].map(str::to_owned).into();
    link.start(request, Vec::new());
    assert_eq!(link.exit(), 137);
    assert!(record(&world).unwrap().oom_killed);
}

fn others_hold_the_output(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("sleep 1000 & echo started");
    request.plan.namespaces.pid = Namespace::Host;
    link.start(request, Vec::new());
    let begin = Instant::now();
    assert_eq!(link.exit(), 0);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(world.logged().last().unwrap().1, "started\n");
    // Its process was ended, or the group would still be there.
    assert_gone(&world);
}

fn nothing_is_left(spawner: &Spawner) {
    let world = World::new();
    for _ in 0..3 {
        let mut link = Link::spawn(spawner, &world);
        link.start(world.request("exit 0"), Vec::new());
        assert!(matches!(link.event(), Some(Event::Exited(_))));
        // At once, so that it can be started again.
        assert_gone(&world);
        assert!(link.event().is_none());
    }
}

fn engine_gone_before_a_start(spawner: &Spawner) {
    let world = World::new();
    drop(Link::spawn(spawner, &world));
    let short = format!("naru-monitor {}", &world.id[..12]);
    eventually("the monitor ends", || !titles().iter().any(|(_, title)| *title == short));
}

/// Process ids and what is shown of them.
fn titles() -> Vec<(i32, String)> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let title = |pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()))
    };
    pids.filter_map(title).collect()
}

fn monitor_is_small_and_out_of_reach(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    link.start(world.request("sleep 1000"), Vec::new());
    let short = format!("naru-monitor {}", &world.id[..12]);
    let (pid, _) = titles().into_iter().find(|(_, title)| *title == short).expect("it has a title");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().collect();
    // Standard streams, engine, pidfd, record folder, run folder, socket, log, two pipes.
    assert_eq!(
        open.len(),
        11,
        "{:?}",
        open.iter().map(|e| std::fs::read_link(e.as_ref().unwrap().path())).collect::<Vec<_>>()
    );
    let memory = monitor_memory(&world);
    println!("     private memory of a monitor: {} KiB", memory >> 10);
    assert!(memory < 512 << 10, "{memory}");
    // The file that it runs from is in no mount that anyone could write to.
    let flags = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let exe =
        rustix::fs::open(format!("/proc/{pid}/exe"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let read_only = rustix::fs::fstatvfs(&exe).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    assert!(read_only, "{flags}");
    assert!(matches!(link.signal(9), Response::Done));
    assert_eq!(link.exit(), 137);
}

fn spawner_ends_with_its_engine(spawner: &Spawner) {
    let own = naru_monitor::start_spawner().unwrap();
    assert_ne!(own.pid, spawner.pid);
    let world = World::new();
    let mut link = Link::spawn(&own, &world);
    link.start(world.request("sleep 1000"), Vec::new());
    let pid = rustix::process::Pid::from_raw(own.pid);
    drop(own);
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    assert!(matches!(link.signal(9), Response::Done));
    assert_eq!(link.exit(), 137);
}
