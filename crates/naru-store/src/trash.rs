//! What is being removed: moved aside by one rename each, and removed by a thread, which no request waits for. A file system that tells its
//! disk what is free (ext4 with `discard`) needs many seconds for a layer. What an engine didn't get to goes after the next start.

use crate::layer::{DIFF, record_size};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::{Root, remove_tree};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// With less free space than this, in bytes, what takes space first waits for what is being removed.
const ROOM: u64 = 4 << 30;

pub(crate) struct Trash {
    root: Root,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    /// There is a thread.
    busy: bool,
    /// Something came since it last looked.
    more: bool,
    /// Why the last try ended early.
    failure: Option<Error>,
}

impl Trash {
    pub(crate) fn new(root: Root) -> Arc<Self> {
        Arc::new(Self { root, state: Mutex::default(), idle: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `name` of the folder `from` here, under a name of its own; nothing there is no error. It goes with the next
    /// [`Trash::empty`].
    pub(crate) fn take(&self, from: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        naru_sys::fault::point();
        let new = Id::random()?;
        match rustix::fs::renameat_with(from, name, &self.root, new.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e).system(format!("remove {}", name.display())),
        }
    }

    /// Moves all of the folder `from` here.
    pub(crate) fn take_all(&self, from: &Root) -> Result<()> {
        from.list("/")?.iter().try_for_each(|name| self.take(from.as_fd(), name))
    }

    /// Removes what is here, in the background.
    pub(crate) fn empty(self: &Arc<Self>) {
        let mut state = self.state();
        state.more = true;
        if state.busy {
            return;
        }
        let own = Arc::clone(self);
        state.busy = std::thread::Builder::new().name("trash".into()).spawn(move || own.work()).is_ok();
        if !state.busy {
            // No thread can be had: then this one.
            state.busy = true;
            drop(state);
            self.work();
        }
    }

    fn work(&self) {
        loop {
            self.state().more = false;
            let done = self.remove_all();
            let mut state = self.state();
            let failed = done.is_err();
            state.failure = done.err();
            if failed || !state.more {
                state.busy = false;
                self.idle.notify_all();
                return;
            }
        }
    }

    fn remove_all(&self) -> Result<()> {
        for name in self.root.list("/")? {
            // A layer's record goes last: it tells how much there is.
            if let Ok(folder) = self.root.open_dir(&name) {
                remove_tree(&folder, DIFF)?;
            }
            remove_tree(&self.root, &name)?;
        }
        Ok(())
    }

    /// Waits until nothing more is being removed.
    ///
    /// # Errors
    /// Why something was left.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut state = self.state();
        while state.busy {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Before something takes space: waits for what is being removed, if there is little.
    pub(crate) fn make_room(&self) {
        if !self.state().busy {
            return;
        }
        let free = rustix::fs::fstatvfs(&self.root).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
        if free < ROOM {
            // What couldn't be removed is told by the check; here it only is room that isn't there.
            let _ = self.wait();
        }
    }

    /// What lies here.
    pub(crate) fn list(&self) -> Result<usize> {
        Ok(self.root.list("/")?.len())
    }

    /// Bytes of what lies here: layers by their records until the last of them is gone, and blobs.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let of = |name: &OsStr| -> u64 {
            let Ok(stat) = self.root.lstat(name) else { return 0 };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => record_size(&self.root, name),
                _ => u64::try_from(stat.st_size).unwrap_or(0),
            }
        };
        Ok(self.root.list("/")?.iter().map(|name| of(name)).sum())
    }
}
