//! Asking the spawner for monitors, and meeting those that an earlier engine left.

use crate::Engine;
use crate::container::Container;
use crate::monitor_link::{MonitorLink, Notice};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_monitor::protocol::{
    MonitorState, PROTOCOL_VERSION, Request, Response, SOCKET_NAME, SpaceReply, SpawnRequest,
};
use naru_monitor::wire;
use naru_runtime::plan::IdMap;
use naru_runtime::{MountSpaces, UserSpace};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

/// The engine's end of the spawner's socket.
#[derive(Debug)]
pub(crate) struct Spawner {
    control: Mutex<OwnedFd>,
    /// An empty mount namespace, or that there is none.
    template: OnceLock<Option<OwnedFd>>,
}

impl Spawner {
    pub(crate) fn new(control: OwnedFd) -> Self {
        Self { control: Mutex::new(control), template: OnceLock::new() }
    }

    /// A new monitor, which waits for its `Start`.
    ///
    /// # Errors
    /// When the spawner is gone.
    pub(crate) fn spawn(&self, engine: &Arc<Engine>, container: &Container) -> Result<Arc<MonitorLink>> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .system("cannot make a socket for a monitor")?;
        let request = SpawnRequest { id: container.id.to_string(), space: None, template: false };
        wire::send_all(&*crate::lock(&self.control), &request, &[theirs.as_fd()])
            .system("cannot ask for a monitor: the spawner is gone, restart the engine")?;
        drop(theirs);
        link(engine, &container.id, ours)
    }
}

impl Spawner {
    /// Namespaces for a container: a user namespace with this map, or `within`, and a network namespace that belongs to it. Waits for the
    /// spawner, so it is for threads that may.
    ///
    /// # Errors
    /// The host can't make them, or the spawner is gone.
    pub(crate) fn user_space(&self, map: &IdMap, within: Option<BorrowedFd<'_>>) -> Result<UserSpace> {
        let request = SpawnRequest { id: String::new(), space: Some(map.clone()), template: false };
        let (reply, descriptors) = self.ask(&request, within)?;
        let mut descriptors = descriptors.into_iter();
        match (reply.error, descriptors.next(), descriptors.next()) {
            (None, Some(user), Some(net)) => {
                let mounts = MountSpaces::from_descriptors(descriptors.collect()).filter(|_| reply.mounts);
                Ok(UserSpace { user, net, mounts })
            }
            (Some(error), ..) => Err(Error::system(error)),
            _ => Err(Error::system("the spawner answered without namespaces")),
        }
    }

    /// Gets what [`Spawner::template`] gives. Waits for the spawner.
    pub(crate) fn fetch_template(&self) {
        self.template.get_or_init(|| {
            let request = SpawnRequest { id: String::new(), space: None, template: true };
            // Without one, a start makes its mount namespace itself.
            let (_, descriptors) = self.ask(&request, None).ok()?;
            descriptors.into_iter().next()
        });
    }

    /// For a container in the host's user namespace: an empty mount namespace to copy, once it has been fetched.
    pub(crate) fn template(&self) -> Option<MountSpaces> {
        let template = self.template.get()?.as_ref()?;
        template.try_clone().ok().map(MountSpaces::Template)
    }

    fn ask(&self, request: &SpawnRequest, with: Option<BorrowedFd<'_>>) -> Result<(SpaceReply, Vec<OwnedFd>)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .system("cannot make a socket for the spawner")?;
        let descriptors: Vec<_> = std::iter::once(theirs.as_fd()).chain(with).collect();
        wire::send_all(&*crate::lock(&self.control), request, &descriptors)
            .system("cannot ask for namespaces: the spawner is gone, restart the engine")?;
        drop(theirs);
        let mut decoder = wire::Decoder::default();
        loop {
            if let Some(answer) = decoder.next::<SpaceReply>().system("the spawner's answer")? {
                return Ok(answer);
            }
            decoder.fill(&ours).system("cannot make namespaces: the spawner is gone, restart the engine")?;
        }
    }
}

/// Reads what the monitor of `id` says, for as long as the engine is there.
fn link(engine: &Arc<Engine>, id: &Id, socket: OwnedFd) -> Result<Arc<MonitorLink>> {
    let (engine, id) = (Arc::downgrade(engine), id.clone());
    MonitorLink::new(socket, move |notice| {
        let Some(engine) = engine.upgrade() else { return };
        match notice {
            Notice::Event(event) => engine.monitor_event(&id, event),
            Notice::Gone => engine.monitor_gone(&id),
        }
    })
}

impl Engine {
    /// Connects to the monitor that an earlier engine left for this container; `None` when there is none.
    pub(crate) async fn meet_monitor(
        self: &Arc<Self>,
        container: &Container,
    ) -> Result<Option<(Arc<MonitorLink>, MonitorState, Vec<OwnedFd>)>> {
        let run_dir = self.config.exec_root.join("containers").join(container.id.as_str());
        let Ok(folder) = naru_fs::Root::open_host(&run_dir) else { return Ok(None) };
        // Through a descriptor: the whole path may be longer than a socket's address can be (unix(7)).
        let folder = folder.into_fd();
        let address = format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_raw_fd());
        let Ok(stream) = std::os::unix::net::UnixStream::connect(address) else { return Ok(None) };
        let monitor = link(self, &container.id, stream.into())?;
        match monitor.request(Request::Hello { version: PROTOCOL_VERSION }, Vec::new()).await {
            Ok((Response::Hello(state), descriptors)) => {
                monitor.set_version(state.version);
                Ok(Some((monitor, *state, descriptors)))
            }
            // Its start has failed.
            Ok((Response::Failed { .. }, _)) => Ok(None),
            Ok(_) => Err(Error::system("the monitor answered a hello with something else")),
            // It ended just now.
            Err(_) => Ok(None),
        }
    }
}
