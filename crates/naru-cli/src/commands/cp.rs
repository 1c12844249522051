//! `cp`: between a container and this machine. The rules are those of docker's client (`archive.PrepareArchiveCopy`): what a trailing `/` or
//! `/.` means, and when the copy takes the destination's name.

use super::go_io;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::printer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_base::size::human_size_with_precision;
use naru_client::{Method, Query, Request, Response, escape_path};
use naru_fs::Root;
use naru_store::{Owner, Rename, Unpack};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, PipeReader, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The links of a destination that are followed.
const LINK_LIMIT: usize = 10;
/// Go's bits of a folder and of a link in a mode, and of all kinds.
const GO_DIR: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_KIND: u32 = GO_DIR | GO_LINK | GO_DEVICE | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19);

/// Runs the command.
pub fn cp(context: &mut Context, m: &Matches) -> Outcome {
    let (source, target) = (m.arg(0), m.arg(1));
    for (what, given) in [("source", source), ("destination", target)] {
        if given.is_empty() {
            return Err(Failure::new(format!("{what} can not be empty")));
        }
    }
    let how = How {
        archive: m.bool("archive"),
        follow: m.bool("follow-link"),
        quiet: m.bool("quiet") || !printer::stdout_is_terminal(),
    };
    match (split_argument(source), split_argument(target)) {
        (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
        (Some((container, path)), None) => out_of(context, container, path, target, &how),
        (None, Some((container, path))) => into(context, source, container, path, &how),
        (None, None) => Err(Failure::new("must specify at least one container source")),
    }
}

struct How {
    archive: bool,
    follow: bool,
    quiet: bool,
}

/// `container:path`; `None` for a path of this machine.
fn split_argument(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with('/') {
        return None;
    }
    argument.split_once(':').filter(|(container, _)| !container.starts_with('.'))
}

/// One end of a copy.
struct End {
    path: String,
    exists: bool,
    is_dir: bool,
    /// The name that the copy is to have when a link in the path changed the last part of it.
    rename: Option<String>,
}

/// Where the copy goes: the folder to unpack in, and the name in it when it is to be another.
fn prepare(source: &End, target: &End) -> Result<(String, Option<String>), Failure> {
    let (folder, name) = split_entry(&target.path);
    match (target.exists, target.is_dir, source.is_dir) {
        (true, true, _) => Ok((target.path.clone(), None)),
        (true, false, true) => Err(Failure::new("cannot copy directory")),
        (true, false, false) | (false, _, true) => Ok((folder, Some(name))),
        (false, _, false) if says_folder(&target.path) => Err(Failure::new("no such directory")),
        (false, _, false) => Ok((folder, Some(name))),
    }
}

/// From this machine into a container.
fn into(context: &mut Context, source: &str, container: &str, path: &str, how: &How) -> Outcome {
    let mut target = End { path: path.to_owned(), exists: false, is_dir: false, rename: None };
    let mut found = stat(context, container, path);
    if let Some(link) = found.as_ref().filter(|s| s.mode & GO_LINK != 0) {
        target.path.clone_from(&link.link_target);
        found = stat(context, container, &target.path);
    }
    if let Some(there) = &found {
        if let Some(why) = refused_mode(there.mode) {
            let text = format!("destination \"{container}:{path}\" must be a directory or a regular file: {why}");
            return Err(Failure::new(text));
        }
        (target.exists, target.is_dir) = (true, there.mode & GO_DIR != 0);
    }
    if source == "-" {
        if !target.is_dir {
            return Err(Failure::new(format!("destination \"{container}:{path}\" must be a directory")));
        }
        let mut counted = Counted { inner: io::stdin(), count: 0 };
        put(context, container, &target.path, how, &mut counted)?;
        return done(context, how, counted.count, &format!("{container}:{}", target.path));
    }
    let local = source_end(&absolute(source)?, how.follow)?;
    let (folder, name) = prepare(&local, &target)?;
    let mut counted = Counted { inner: Packed::start(&local, name)?, count: 0 };
    put(context, container, &folder, how, &mut counted)?;
    done(context, how, counted.count, &format!("{container}:{}", target.path))
}

fn put(context: &Context, container: &str, folder: &str, how: &How, body: &mut dyn Read) -> Result<(), Failure> {
    let query = Query::new().flag("copyUIDGID", how.archive).with("noOverwriteDirNonDir", "true").with("path", folder);
    let mut request =
        Request::new(Method::Put, format!("/containers/{}/archive{}", escape_path(container), query.as_str()));
    request = request.header("Content-Type", "application/x-tar").reader(body);
    context.call(request).map(drop)
}

/// Out of a container to this machine.
fn out_of(context: &mut Context, container: &str, path: &str, target: &str, how: &How) -> Outcome {
    let local = if target == "-" { String::from("-") } else { absolute(target)? };
    check_output(&local)?;
    let (mut path, mut rename) = (path.to_owned(), None);
    if how.follow
        && let Some(stat) = stat(context, container, &path).filter(|s| s.mode & GO_LINK != 0)
    {
        (path, rename) = rebased(&path, stat.link_target);
    }
    let response = fetch(context, container, &path)?;
    let stat = PathStat::of(&response).ok_or_else(|| Failure::new("the engine's answer has no path stat"))?;
    let mut counted = Counted { inner: response.into_body(), count: 0 };
    if target == "-" {
        io::copy(&mut counted, &mut context.printer)?;
        return Ok(0);
    }
    let source = End { is_dir: stat.mode & GO_DIR != 0, path, exists: true, rename };
    let end = target_end(&local)?;
    let (folder, name) = prepare(&source, &end)?;
    let (_, base) = split_entry(&source.path);
    let rename = name
        .or_else(|| source.rename.clone())
        .map(|to| Rename { from: Some(base.into_bytes()).filter(|b| b != b"." && b != b"/"), to: to.into_bytes() });
    let root = Root::open_host(&folder).map_err(|e| Failure::new(e.to_string()))?;
    let owner = if how.archive { Owner::Archive } else { Owner::Caller };
    Unpack { root: &root, target: Path::new("/"), keep_kind: true, owner, map: None, rename }.run(&mut counted)?;
    done(context, how, counted.count, &local)
}

fn fetch(context: &Context, container: &str, path: &str) -> Result<Response, Failure> {
    let query = Query::new().with("path", path);
    context.send(Request::get(format!("/containers/{}/archive{}", escape_path(container), query.as_str())))
}

fn done(context: &mut Context, how: &How, bytes: u64, target: &str) -> Outcome {
    if !how.quiet {
        let size = human_size_with_precision(bytes as f64, 3);
        context.printer.err(format!("Successfully copied {size} to {target}"));
    }
    Ok(0)
}

/// docker's `PathStat`, of its header.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PathStat {
    mode: u32,
    link_target: String,
}

impl PathStat {
    fn of(response: &Response) -> Option<Self> {
        let json = STANDARD.decode(response.header("x-docker-container-path-stat")?).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// What the path in the container is; `None` also for a failure, which the copy itself will tell.
fn stat(context: &Context, container: &str, path: &str) -> Option<PathStat> {
    let query = Query::new().with("path", path);
    let path = format!("/containers/{}/archive{}", escape_path(container), query.as_str());
    PathStat::of(&context.send(Request::new(Method::Head, path)).ok()?)
}

/// Why a destination of this mode can't be copied to.
fn refused_mode(mode: u32) -> Option<&'static str> {
    match mode & GO_KIND {
        0 | GO_DIR | GO_LINK => None,
        kind if kind & GO_DEVICE != 0 => Some("got a device"),
        _ => Some("got an irregular file"),
    }
}

/// Refuses a destination that no file can be made at.
fn check_output(path: &str) -> Result<(), Failure> {
    if path == "-" {
        return Ok(());
    }
    let clean = PathBuf::from(clean(path));
    let folder = clean.parent().unwrap_or(&clean);
    if std::fs::metadata(folder).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Err(Failure::new(format!("invalid output path: directory {folder:?} does not exist")));
    }
    if let Ok(found) = std::fs::metadata(&clean) {
        let kind = found.file_type();
        let why = if kind.is_block_device() || kind.is_char_device() {
            "got a device"
        } else if kind.is_file() || kind.is_dir() {
            return Ok(());
        } else {
            "got an irregular file"
        };
        let text = format!("invalid output path: {path:?} must be a directory or a regular file: {why}");
        return Err(Failure::new(text));
    }
    Ok(())
}

/// The source on this machine: links in its folders are followed, and its own with `-L`.
fn source_end(path: &str, follow: bool) -> Result<End, Failure> {
    let (resolved, rename) = if follow {
        let resolved = std::fs::canonicalize(clean(path)).map_err(|e| problem("lstat", path, &e))?;
        rebased(path, resolved.to_string_lossy().into_owned())
    } else {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = if folder.is_empty() { "/" } else { folder };
        let mut resolved = std::fs::canonicalize(folder)
            .map_err(|e| problem("lstat", folder, &e))?
            .to_string_lossy()
            .trim_end_matches('/')
            .to_owned();
        resolved.push('/');
        resolved.push_str(name);
        let changed = path.ends_with('/') && base(path) != base(&resolved);
        let rename = changed.then(|| base(path));
        (resolved, rename)
    };
    let found = std::fs::symlink_metadata(&resolved).map_err(|e| problem("lstat", &resolved, &e))?;
    Ok(End { path: resolved, exists: true, is_dir: found.is_dir(), rename })
}

/// The destination on this machine: its links are followed, and the last may lead to what is not there yet.
fn target_end(path: &str) -> Result<End, Failure> {
    let mut at = path.to_owned();
    let mut found = std::fs::symlink_metadata(&at);
    let mut links = 0;
    while found.as_ref().is_ok_and(Metadata::is_symlink) {
        links += 1;
        if links > LINK_LIMIT {
            return Err(Failure::new(format!("too many symlinks in {path}")));
        }
        let link = std::fs::read_link(at.trim_end_matches('/')).map_err(|e| problem("readlink", &at, &e))?;
        at = if link.is_absolute() {
            link.to_string_lossy().into_owned()
        } else {
            clean(&format!("{}/{}", split_entry(&at).0, link.to_string_lossy()))
        };
        found = std::fs::symlink_metadata(&at);
    }
    match found {
        Ok(found) => Ok(End { path: at, exists: true, is_dir: found.is_dir(), rename: None }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (folder, _) = split_entry(&at);
            let parent = std::fs::metadata(&folder).map_err(|e| problem("stat", &folder, &e))?;
            if !parent.is_dir() {
                return Err(Failure::new("not a directory"));
            }
            Ok(End { path: at, exists: false, is_dir: false, rename: None })
        }
        Err(e) => Err(problem("lstat", &at, &e)),
    }
}

fn problem(operation: &str, path: &str, e: &io::Error) -> Failure {
    Failure::new(format!("{operation} {path}: {}", go_io(e)))
}

/// The path that a link led to, ending as the one asked for did; and the name that was asked for, if the last parts differ.
fn rebased(path: &str, mut resolved: String) -> (String, Option<String>) {
    if says_contents(path) && !says_contents(&resolved) {
        resolved.push_str("/.");
    }
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    }
    let rename = (base(path) != base(&resolved)).then(|| base(path));
    (resolved, rename)
}

fn says_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

fn says_folder(path: &str) -> bool {
    path.ends_with('/') || says_contents(path)
}

/// Without `.`, `..` and doubled slashes, as Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    match (path.starts_with('/'), parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// An absolute path that ends as the given one does.
fn absolute(path: &str) -> Result<String, Failure> {
    let folder = std::env::current_dir().map_err(|e| Failure::new(format!("getwd: {}", go_io(&e))))?;
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", folder.display()) };
    let mut out = clean(&whole);
    if says_contents(path) {
        out = format!("{}/.", out.trim_end_matches('/'));
    } else if path.ends_with('/') && out != "/" {
        out.push('/');
    }
    Ok(out)
}

/// The last part, as Go's `filepath.Base`.
fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None if path.is_empty() => ".".into(),
        Some("") | None => "/".into(),
        Some(last) => last.to_owned(),
    }
}

/// The folder and the entry in it that the path means; the entry `.` for a folder's contents.
fn split_entry(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if says_contents(path) {
        return (cleaned, ".".into());
    }
    match cleaned.rsplit_once('/') {
        Some(("", "")) => ("/".into(), "/".into()),
        Some(("", name)) => ("/".into(), name.into()),
        Some((folder, name)) => (folder.into(), name.into()),
        None => (".".into(), cleaned),
    }
}

/// An archive that is being made by a thread.
struct Packed {
    pipe: PipeReader,
    packer: Option<JoinHandle<naru_base::Result<()>>>,
}

impl Packed {
    /// Packs the source under `name`, or under its own.
    fn start(source: &End, name: Option<String>) -> Result<Self, Failure> {
        let (pipe, writer) = io::pipe()?;
        let (folder, entry) = split_entry(&source.path);
        let alias = name.or_else(|| source.rename.clone()).unwrap_or_else(|| entry.clone());
        let root = Root::open_host(&folder).map_err(|e| Failure::new(e.to_string()))?;
        let entry = if entry == "/" { ".".to_owned() } else { entry };
        let work = move || naru_store::pack_path(root, OsStr::new(&entry), OsStr::new(&alias), writer);
        let packer = std::thread::Builder::new().spawn(work)?;
        Ok(Self { pipe, packer: Some(packer) })
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        // The end of the pipe is the archive's end only if all of it was written.
        match self.packer.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(0),
            Some(Ok(Err(e))) => Err(io::Error::other(e.to_string())),
            Some(Err(_)) => Err(io::Error::other("the archive could not be made")),
        }
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(path: &str, exists: bool, is_dir: bool) -> End {
        End { path: path.into(), exists, is_dir, rename: None }
    }

    #[test]
    fn arguments_name_a_container_or_not() {
        assert_eq!(split_argument("c:/x"), Some(("c", "/x")));
        assert_eq!(split_argument("/c:/x"), None);
        assert_eq!(split_argument("./c:x"), None);
        assert_eq!(split_argument("x"), None);
    }

    #[test]
    fn paths_are_gos() {
        for (path, want) in [("/a/../b/.", "/b"), ("", "."), ("a//b/", "a/b"), ("../x", "../x"), ("/..", "/")] {
            assert_eq!(clean(path), want, "{path}");
        }
        for (path, want) in [("/a/b/", ("/a", "b")), ("/a/.", ("/a", ".")), ("/", ("/", "/")), ("/x", ("/", "x"))] {
            let (folder, name) = split_entry(path);
            assert_eq!((folder.as_str(), name.as_str()), want, "{path}");
        }
        assert_eq!((base("/a/b/"), base("/"), base("")), ("b".into(), "/".into(), ".".into()));
    }

    #[test]
    fn dockers_table_of_sources_and_targets() {
        let go = |source: End, target: End| prepare(&source, &target).map_err(|e| e.message);
        let (file, folder) = (|| end("/s/f", true, false), || end("/s/d", true, true));
        assert_eq!(go(file(), end("/t/n", false, false)), Ok(("/t".into(), Some("n".into()))));
        assert_eq!(go(file(), end("/t/n/", false, false)), Err("no such directory".into()));
        assert_eq!(go(file(), end("/t/f", true, false)), Ok(("/t".into(), Some("f".into()))));
        assert_eq!(go(file(), end("/t/d", true, true)), Ok(("/t/d".into(), None)));
        assert_eq!(go(folder(), end("/t/n", false, false)), Ok(("/t".into(), Some("n".into()))));
        assert_eq!(go(folder(), end("/t/f", true, false)), Err("cannot copy directory".into()));
        assert_eq!(go(folder(), end("/t/d/", true, true)), Ok(("/t/d/".into(), None)));
    }
}
