//! Output, input, terminals, logs.

use crate::Case;
use crate::world::{Link, World, all, client, eventually, read_all, read_until};
use naru_monitor::Spawner;
use naru_monitor::protocol::{Attach, Event, LogConfig, Request, Response};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;

pub const CASES: &[Case] = &[
    ("output_and_exit_code", output_and_exit_code),
    ("frames", frames),
    ("terminal", terminal),
    ("input_ends", input_ends),
    ("input_stays_open", input_stays_open),
    ("no_input", no_input),
    ("early_input", early_input),
    ("several_clients", several_clients),
    ("slow_client_gets_everything", slow_client_gets_everything),
    ("vanished_client", vanished_client),
    ("detach_keys", detach_keys),
    ("resize", resize),
    ("log_has_everything", log_has_everything),
    ("log_rotates", log_rotates),
];

fn output_and_exit_code(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("echo out; echo err >&2; exit 3");
    request.attaches = vec![Attach { preamble: b"HTTP/1.1 101 UPGRADED\r\n\r\n".to_vec(), ..all() }];
    link.start(request, vec![theirs]);
    let text = read_all(&ours);
    assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\n\r\n"), "{text:?}");
    assert!(text.contains("out\n") && text.contains("err\n"), "{text:?}");
    assert_eq!(link.exit(), 3);
    let mut logged = world.logged();
    logged.sort();
    let pair = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    assert_eq!(logged, [pair("stderr", "err\n"), pair("stdout", "out\n")]);
}

fn frames(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("printf one; sleep 0.1; printf two >&2");
    request.attaches = vec![Attach { multiplexed: true, ..all() }];
    link.start(request, vec![theirs]);
    assert_eq!(read_all(&ours), "\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x03two");
    assert_eq!(link.exit(), 0);
}

fn terminal(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("test -t 0 && test -t 2 && stty size; read line; echo got $line");
    request.plan.process.terminal = true;
    request.plan.process.console_size = Some((33, 77));
    request.stdin_open = true;
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    assert_eq!(read_until(&ours, "\r\n"), "33 77\r\n");
    (&ours).write_all(b"word\r").unwrap();
    let rest = read_all(&ours);
    assert!(rest.ends_with("got word\r\n"), "{rest:?}");
    assert_eq!(link.exit(), 0);
}

fn input_ends(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("cat; echo end");
    (request.stdin_open, request.stdin_once) = (true, true);
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    // More than a pipe holds, so that it has to wait for room.
    let input = "0123456789abcde\n".repeat(20_000);
    let writer = {
        let (mut ours, input) = (ours.try_clone().unwrap(), input.clone());
        std::thread::spawn(move || {
            ours.write_all(input.as_bytes()).unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
        })
    };
    let text = read_all(&ours);
    writer.join().unwrap();
    assert!(text == input + "end\n", "{} bytes came back", text.len());
    assert_eq!(link.exit(), 0);
}

fn input_stays_open(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("while read line; do echo got $line; test $line = stop && exit 5; done; exit 6");
    request.stdin_open = true;
    link.start(request, Vec::new());
    let first = link.attach(all());
    (&first).write_all(b"a\n").unwrap();
    read_until(&first, "got a\n");
    first.shutdown(Shutdown::Write).unwrap();
    // As in docker: the end of its input ends the attachment, not the container's input.
    assert_eq!(read_all(&first), "");
    let second = link.attach(all());
    (&second).write_all(b"stop\n").unwrap();
    assert_eq!(read_all(&second), "got stop\n");
    assert_eq!(link.exit(), 5);
}

fn no_input(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("cat; readlink /proc/self/fd/0");
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    assert_eq!(read_all(&ours), "/dev/null\n");
    assert_eq!(link.exit(), 0);
}

fn early_input(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("cat");
    (request.stdin_open, request.stdin_once) = (true, true);
    request.attaches = vec![Attach { early_input: b"early ".to_vec(), ..all() }];
    (&ours).write_all(b"late").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    link.start(request, vec![theirs]);
    assert_eq!(read_all(&ours), "early late");
    assert_eq!(link.exit(), 0);
}

fn several_clients(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, first) = client();
    let mut request = world.request("read line; echo out $line; echo err >&2");
    request.stdin_open = true;
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    let only_out = link.attach(Attach { stdout: true, ..Attach::default() });
    let only_err = link.attach(Attach { stderr: true, ..Attach::default() });
    // A client that doesn't send may half-close; it still gets the output.
    only_out.shutdown(Shutdown::Write).unwrap();
    (&first).write_all(b"x\n").unwrap();
    assert_eq!(read_all(&only_out), "out x\n");
    assert_eq!(read_all(&only_err), "err\n");
    assert_eq!(read_all(&first).len(), "out x\nerr\n".len());
    assert_eq!(link.exit(), 0);
}

fn slow_client_gets_everything(spawner: &Spawner) {
    const SIZE: usize = 8 << 20;
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request(&format!("dd if=/dev/zero bs=64k count={} 2>/dev/null", SIZE / 65536));
    request.log = LogConfig { driver: "none".into(), ..LogConfig::default() };
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let resident = monitor_memory(&world);
    assert!(resident < 4 << 20, "output of a slow client is kept without a bound: {resident}");
    assert_eq!(read_all(&ours).len(), SIZE);
    assert_eq!(link.exit(), 0);
}

/// The monitor's private memory in bytes, as a later engine finds it.
pub fn monitor_memory(world: &World) -> u64 {
    let mut link = Link::connect(world);
    let pid = match link.ask(Request::Hello { version: 1 }, &[]).0 {
        Response::Hello(state) => state.monitor_pid,
        other => panic!("{other:?}"),
    };
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024).sum()
}

fn vanished_client(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("yes | head -n 500000 >&2; cat; echo end");
    (request.stdin_open, request.stdin_once) = (true, true);
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    drop(ours);
    // Neither is the output stuck, nor does the input stay open.
    assert_eq!(link.exit(), 0);
    assert!(world.logged().iter().any(|(stream, text)| stream == "stdout" && text == "end\n"));
}

fn detach_keys(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("stty -echo; echo ready; while read line; do echo got $line; done");
    request.plan.process.terminal = true;
    (request.stdin_open, request.stdin_once) = (true, true);
    link.start(request, Vec::new());
    let attach = Attach { detach_keys: vec![16, 17], ..all() };
    eventually("it is ready", || world.logged().iter().any(|(_, text)| text.contains("ready")));
    let first = link.attach(attach.clone());
    let second = link.attach(attach);
    (&first).write_all(b"one\r").unwrap();
    read_until(&first, "got one\r\n");
    (&first).write_all(b"\x10").unwrap();
    (&first).write_all(b"\x11").unwrap();
    assert_eq!(read_all(&first), "");
    assert!(matches!(link.event(), Some(Event::Detached { exec: None })));
    read_until(&second, "got one\r\n");
    (&second).write_all(b"two\r\x04").unwrap();
    assert_eq!(read_all(&second), "got two\r\n");
    assert_eq!(link.exit(), 0);
}

fn resize(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done");
    request.plan.process.terminal = true;
    link.start(request, Vec::new());
    eventually("it is ready", || world.logged().iter().any(|(_, text)| text.contains("ready")));
    let mut ours = link.attach(all());
    let answer = link.ask(Request::Resize { exec: None, rows: 12, columns: 34 }, &[]).0;
    assert!(matches!(answer, Response::Done), "{answer:?}");
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "12 34\r\n");
    assert_eq!(link.exit(), 0);
}

fn log_has_everything(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    link.start(
        world.request("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; printf '<%b' '\\0377'"),
        vec![],
    );
    assert_eq!(link.exit(), 0);
    let texts: Vec<_> = world.logged().into_iter().map(|(_, text)| text).collect();
    let expected: Vec<_> = (0..20_000).map(|n| format!("line {n}\n")).chain(["<\u{fffd}".to_owned()]).collect();
    assert!(texts == expected, "{} records, the last {:?}", texts.len(), texts.last());
    assert!(
        std::fs::read_to_string(world.log()).unwrap().contains("{\"log\":\"\\u003c\\ufffd\",\"stream\":\"stdout\",")
    );
}

fn log_rotates(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let mut request = world.request("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
    request.log = LogConfig { max_size: 50_000, max_files: 3, ..world.log_config() };
    link.start(request, Vec::new());
    assert_eq!(link.exit(), 0);
    assert_eq!(world.logged().last().unwrap().1, "line 2999\n");
    let mut names: Vec<_> =
        std::fs::read_dir(world.base.join("record")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["exit.json", "json.log", "json.log.1", "json.log.2"]);
    let size = |name: &str| std::fs::metadata(world.base.join("record").join(name)).unwrap().len();
    assert!((50_000..50_200).contains(&size("json.log.1")) && size("json.log") < 50_200);
}
