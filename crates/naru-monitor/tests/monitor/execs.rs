//! Further processes.

use crate::Case;
use crate::world::{Link, World, all, client, process, read_all, read_until};
use naru_monitor::Spawner;
use naru_monitor::protocol::{Attach, Event, Request, Response};
use std::io::Write as _;
use std::net::Shutdown;

pub const CASES: &[Case] = &[
    ("exec_output_and_exit_code", exec_output_and_exit_code),
    ("exec_input", exec_input),
    ("exec_terminal", exec_terminal),
    ("exec_detached", exec_detached),
    ("exec_that_fails", exec_that_fails),
    ("exec_is_signalled", exec_is_signalled),
    ("execs_end_with_the_container", execs_end_with_the_container),
    ("no_descriptor_leaks", no_descriptor_leaks),
];

fn running(spawner: &Spawner, world: &World) -> Link {
    let mut link = Link::spawn(spawner, world);
    link.start(world.request("sleep 1000"), Vec::new());
    link
}

fn stop(mut link: Link) {
    assert!(matches!(link.signal(9), Response::Done));
    assert_eq!(link.exit(), 137);
}

#[track_caller]
fn assert_ended(link: &mut Link, exec: &str, code: i32) {
    match link.event() {
        Some(Event::ExecExited { id, exit_code }) => assert_eq!((id.as_str(), exit_code), (exec, code)),
        other => panic!("{other:?}"),
    }
}

fn exec_output_and_exit_code(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    let (theirs, ours) = client();
    let attach = Attach { multiplexed: true, preamble: b"P".to_vec(), ..all() };
    let answer = link.exec("one", process("echo hello; exit 7"), Some((theirs, attach)));
    assert!(matches!(answer, Response::Started { .. }), "{answer:?}");
    assert_eq!(read_all(&ours), "P\x01\0\0\0\0\0\0\x06hello\n");
    assert_ended(&mut link, "one", 7);
    assert!(world.logged().is_empty());
    stop(link);
}

fn exec_input(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    let (theirs, ours) = client();
    link.exec("one", process("cat"), Some((theirs, all())));
    (&ours).write_all(b"through").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&ours), "through");
    assert_ended(&mut link, "one", 0);
    stop(link);
}

fn exec_terminal(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    let (theirs, ours) = client();
    let mut process = process("stty size; read line; exit 4");
    process.terminal = true;
    process.console_size = Some((5, 6));
    link.exec("one", process, Some((theirs, Attach { detach_keys: vec![16, 17], ..all() })));
    read_until(&ours, "5 6\r\n");
    assert!(matches!(
        link.ask(Request::Resize { exec: Some("one".into()), rows: 1, columns: 2 }, &[]).0,
        Response::Done
    ));
    (&ours).write_all(b"\r").unwrap();
    read_all(&ours);
    assert_ended(&mut link, "one", 4);
    stop(link);
}

fn exec_detached(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    link.exec("one", process("echo nobody hears; exit 9"), None);
    assert_ended(&mut link, "one", 9);
    stop(link);
}

fn exec_that_fails(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    let (theirs, ours) = client();
    let mut missing = process("");
    missing.args = vec!["nope".to_owned()];
    let answer = link.exec("one", missing, Some((theirs, Attach { multiplexed: true, ..all() })));
    let Response::Failed { message, exit_code: 127, .. } = answer else { panic!("{answer:?}") };
    let text = read_all(&ours);
    assert!(text.starts_with('\x01') && text.ends_with(&format!("{message}\r\n")), "{text:?}");
    assert!(message.contains("nope"), "{message}");
    stop(link);
}

fn exec_is_signalled(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    link.exec("one", process("exec sleep 1000"), None);
    assert!(matches!(link.ask(Request::Signal { exec: Some("one".into()), signal: 15 }, &[]).0, Response::Done));
    assert_ended(&mut link, "one", 128 + 15);
    let answer = link.ask(Request::Signal { exec: Some("two".into()), signal: 15 }, &[]).0;
    assert!(matches!(answer, Response::Failed { class: naru_base::Class::NotFound, .. }), "{answer:?}");
    stop(link);
}

fn execs_end_with_the_container(spawner: &Spawner) {
    let world = World::new();
    let mut link = running(spawner, &world);
    let (theirs, ours) = client();
    link.exec("one", process("echo here; sleep 1000"), Some((theirs, all())));
    read_until(&ours, "here\n");
    assert!(matches!(link.signal(9), Response::Done));
    assert_eq!(read_all(&ours), "");
    assert_ended(&mut link, "one", 137);
    assert_eq!(link.exit(), 137);
}

fn no_descriptor_leaks(spawner: &Spawner) {
    let world = World::new();
    let mut link = Link::spawn(spawner, &world);
    let (theirs, ours) = client();
    let mut request = world.request("ls /proc/self/fd; sleep 1000");
    request.attaches = vec![all()];
    link.start(request, vec![theirs]);
    // The last is ls's own.
    assert_eq!(read_until(&ours, "3\n"), "0\n1\n2\n3\n");
    let (theirs, ours) = client();
    link.exec("one", process("ls /proc/self/fd"), Some((theirs, all())));
    assert_eq!(read_all(&ours), "0\n1\n2\n3\n");
    assert_ended(&mut link, "one", 0);
    stop(link);
}
