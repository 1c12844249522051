//! A root file system of busybox, plans on it, and an engine's end of a monitor.

use naru_monitor::Spawner;
use naru_monitor::protocol::{
    Attach, Event, ExecRequest, LogConfig, Message, Numbered, Request, Response, StartRequest,
};
use naru_monitor::wire::{self, Decoder, WireError};
use naru_runtime::defaults::{self, MountDefaults};
use naru_runtime::plan::{
    CgroupPlan, Namespace, Namespaces, PLAN_VERSION, Plan, Process, Propagation, Resources, Rootfs,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with everything of one container.
pub struct World {
    pub base: PathBuf,
    pub id: String,
}

impl World {
    pub fn new() -> Self {
        let id = format!("{:08x}{:04x}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed), "ab".repeat(26));
        let base = std::env::temp_dir().join(format!("naru-monitor-{}", &id[..12]));
        let world = Self { base, id };
        for folder in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work", "record", "run"] {
            std::fs::create_dir_all(world.base.join(folder)).unwrap();
        }
        let lower = world.base.join("lower");
        std::fs::copy("/usr/bin/busybox", lower.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "sleep", "stty", "ls", "dd", "yes", "head"] {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        std::fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        std::fs::write(lower.join("etc/group"), "root:x:0:\n").unwrap();
        world
    }

    pub fn cgroup(&self) -> String {
        format!("/naru-monitor-{}", &self.id[..12])
    }

    pub fn plan(&self, script: &str) -> Plan {
        let folder = |name| self.base.join(name);
        Plan {
            mount_label: None,
            version: PLAN_VERSION,
            id: self.id.clone(),
            rootfs: Rootfs::Overlay {
                lower: vec![folder("lower")],
                upper: folder("upper"),
                work: folder("work"),
                volatile: true,
            },
            readonly_rootfs: false,
            rootfs_propagation: Propagation::default(),
            mounts: defaults::default_mounts(MountDefaults::default()),
            devices: defaults::default_devices(),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            hostname: Some("box".to_owned()),
            domainname: None,
            namespaces: Namespaces { cgroup: Namespace::Host, ..Namespaces::default() },
            sysctls: Default::default(),
            cgroup: CgroupPlan {
                path: self.cgroup(),
                resources: Resources { devices: defaults::default_device_rules(), ..Default::default() },
                scope: None,
            },
            process: process(script),
            init: false,
        }
    }

    /// A start of `script` with a log, and nothing attached.
    pub fn request(&self, script: &str) -> StartRequest {
        StartRequest {
            plan: self.plan(script),
            namespaces: [false; 5],
            mounts: 0,
            record_dir: self.base.join("record"),
            run_dir: self.base.join("run"),
            log: self.log_config(),
            stdin_open: false,
            stdin_once: false,
            volatile: true,
            attaches: Vec::new(),
            health: None,
            resolver: None,
            hooks: None,
        }
    }

    pub fn log_config(&self) -> LogConfig {
        LogConfig { driver: "json-file".into(), path: Some(self.log()), max_files: 1, ..LogConfig::default() }
    }

    pub fn log(&self) -> PathBuf {
        self.base.join("record/json.log")
    }

    /// The records of the log: stream and text.
    pub fn logged(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let field = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.map(|r| (field(&r, "stream"), field(&r, "log"))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

pub fn process(script: &str) -> Process {
    Process {
        args: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: vec![defaults::DEFAULT_PATH.to_owned()],
        cwd: "/".into(),
        capabilities: defaults::capability_sets(defaults::DEFAULT_CAPABILITIES),
        ..Default::default()
    }
}

/// A client's wish for everything.
pub fn all() -> Attach {
    Attach { stdin: true, stdout: true, stderr: true, ..Attach::default() }
}

/// A client's stream: the end that is handed over, and the client's own.
pub fn client() -> (OwnedFd, UnixStream) {
    let (theirs, ours) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let ours = UnixStream::from(ours);
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (theirs, ours)
}

/// Everything until the end of the stream.
pub fn read_all(mut stream: &UnixStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come.
pub fn read_until(mut stream: &UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut chunk = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the stream ended before {text:?}: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An engine's end.
pub struct Link {
    socket: UnixStream,
    decoder: Decoder,
    seq: u64,
    events: VecDeque<Event>,
}

impl Link {
    pub fn new(socket: OwnedFd) -> Self {
        let socket = UnixStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, decoder: Decoder::default(), seq: 0, events: VecDeque::new() }
    }

    pub fn spawn(spawner: &Spawner, world: &World) -> Self {
        Self::new(spawner.spawn(&world.id).unwrap())
    }

    /// Connects as an engine that comes later.
    pub fn connect(world: &World) -> Self {
        Self::new(UnixStream::connect(world.base.join("run/monitor.sock")).unwrap().into())
    }

    fn receive(&mut self) -> Result<(Message, Vec<OwnedFd>), WireError> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(message);
            }
            self.decoder.fill(&self.socket)?;
        }
    }

    /// Asks and waits for the answer; events are kept.
    pub fn ask(&mut self, request: Request, descriptors: &[OwnedFd]) -> (Response, Vec<OwnedFd>) {
        self.seq += 1;
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        wire::send_all(&self.socket, &Numbered { seq: self.seq, body: request }, &descriptors).unwrap();
        loop {
            match self.receive().unwrap() {
                (Message::Reply(reply), with) => {
                    assert_eq!(reply.seq, self.seq);
                    return (reply.body, with);
                }
                (Message::Event(event), _) => self.events.push_back(event),
            }
        }
    }

    /// Starts; the process id.
    pub fn start(&mut self, request: StartRequest, streams: Vec<OwnedFd>) -> i32 {
        match self.ask(Request::Start(Box::new(request)), &streams).0 {
            Response::Started { pid, start_time, .. } => {
                assert!(pid > 0 && start_time > 0);
                pid
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn exec(&mut self, id: &str, process: Process, client: Option<(OwnedFd, Attach)>) -> Response {
        let (stream, attach): (Vec<_>, Vec<_>) = client.into_iter().unzip();
        let request = ExecRequest { id: id.to_owned(), process, attach: attach.into_iter().next() };
        self.ask(Request::Exec(Box::new(request)), &stream).0
    }

    pub fn attach(&mut self, attach: Attach) -> UnixStream {
        let (theirs, ours) = client();
        let answer = self.ask(Request::Attach(attach), &[theirs]).0;
        assert!(matches!(answer, Response::Done), "{answer:?}");
        ours
    }

    pub fn signal(&mut self, signal: i32) -> Response {
        self.ask(Request::Signal { exec: None, signal }, &[]).0
    }

    /// The next event; `None` when the monitor has closed the connection.
    pub fn event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.receive() {
            Ok((Message::Event(event), _)) => Some(event),
            Ok((message, _)) => panic!("{message:?}"),
            Err(WireError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The exit code, once the container has ended, and nothing after it.
    pub fn exit(&mut self) -> i32 {
        let code = match self.event() {
            Some(Event::Exited(record)) => record.exit_code,
            other => panic!("{other:?}"),
        };
        assert!(self.event().is_none());
        code
    }
}
