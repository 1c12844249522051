//! Why the kernel would not execute a container's program: told behind the kernel's own words, from a look at the file.

use super::{Container, Record};
use crate::Engine;
use crate::root_view::{Base, ViewPlan};
use naru_base::{Error, Platform};
use naru_fs::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// As much of a file as tells what it is, in bytes: an ELF header and its program headers, or a script's first line.
const HEAD: usize = 4096;

/// What execve(2) said, of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// ENOENT of a file that is there: its interpreter or loader is not.
    NoInterpreter,
    /// ENOEXEC.
    Format,
    /// EACCES.
    Permission,
}

impl Engine {
    /// The error with the cause behind it, where a look at the program tells one. The caller holds the container's operation lock.
    pub(crate) async fn explain(self: &Arc<Self>, container: &Arc<Container>, error: Error) -> Error {
        let (record, host) = (container.read(Clone::clone), Platform::host());
        let lower = self.images.lower_dirs(&record.image).unwrap_or_default();
        if lower.iter().any(|folder| matches!(folder.try_exists(), Ok(false))) {
            let text = "a layer of its image is not on the disk any more (naru system check --repair)";
            return Error::new(error.class(), format!("{}: {text}", error.message()));
        }
        let Some((path, refusal)) = refused(error.message()) else { return error };
        if refusal == Refusal::Format && host.rank(&record.platform).is_none() {
            let handler = "no handler for it is registered (binfmt_misc(5); such as Debian's qemu-user-static)";
            let text = format!("the image is for {}, this machine is {host}, and {handler}", record.platform);
            return Error::new(error.class(), format!("{}: {text}", error.message()));
        }
        let Some(plan) = self.look_plan(&record) else { return error };
        let path = Path::new(&record.config.working_dir).join(path);
        // Whatever hinders the look, the error is told as it is.
        let told = plan.run(move |view| Ok(look(&view.root, &path, refusal))).await.ok().flatten();
        match told {
            Some(text) => Error::new(error.class(), format!("{}: {text}", error.message())),
            None => error,
        }
    }

    /// The files of a container that doesn't run.
    fn look_plan(&self, record: &Record) -> Option<ViewPlan> {
        if self.images.is_host(&record.image) {
            return None;
        }
        let lower = self.images.lower_dirs(&record.image).ok()?;
        let layers = std::iter::once(self.files(&record.id, 0).upper).chain(lower).collect();
        let places = record.mounts.iter().filter_map(super::archive::place).collect();
        let at = self.config.container_dir(&record.id).join("fs");
        Some(ViewPlan { base: Base::Layers(layers), readonly: true, places, ids: None, at })
    }
}

/// The program that a start's error names, and how it was refused (the texts are [`naru_runtime`]'s).
fn refused(message: &str) -> Option<(PathBuf, Refusal)> {
    let rest = message.strip_prefix("exec")?;
    for (end, refusal) in [
        (": no such file or directory", Refusal::NoInterpreter),
        (": exec format error", Refusal::Format),
        (": permission denied", Refusal::Permission),
    ] {
        let Some(subject) = rest.strip_suffix(end) else { continue };
        let plain = subject.strip_prefix(' ');
        let quoted = subject.strip_prefix(": \"").and_then(|s| s.strip_suffix('"'));
        return plain.or(quoted).filter(|path| path.contains('/')).map(|path| (path.into(), refusal));
    }
    None
}

/// What can be told about the file.
fn look(root: &Root, path: &Path, refusal: Refusal) -> Option<String> {
    let stat = root.stat(path).ok()?;
    let mode = stat.st_mode & 0o7777;
    if refusal == Refusal::Permission && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        if mode & 0o111 == 0 {
            return Some(format!("its mode is {mode:04o}, which lets nobody execute it (chmod +x)"));
        }
        if mode & 0o001 == 0 {
            return Some(format!("its mode is {mode:04o}, and it belongs to {}:{}", stat.st_uid, stat.st_gid));
        }
    }
    let head = head(root, path)?;
    match (refusal, interpreter(&head)) {
        (Refusal::NoInterpreter, Some(interpreter)) => missing(root, &interpreter),
        (Refusal::Permission, Some(Interpreter::OfScript(name))) => {
            let stat = root.stat(&name).ok()?;
            let no_file = FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0;
            no_file.then(|| format!("its interpreter {name:?} is none: mode {:04o}", stat.st_mode & 0o7777))
        }
        (Refusal::Format, _) => Some(format(&head)),
        _ => None,
    }
}

fn head(root: &Root, path: &Path) -> Option<Vec<u8>> {
    let fd = root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()).ok()?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut head = vec![0; HEAD];
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(&fd, &mut head, 0)).ok()?;
    head.truncate(count);
    Some(head)
}

/// What the kernel needs to execute a file.
#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    /// Of the first line of a script.
    OfScript(String),
    /// The loader of an ELF program.
    OfElf(String),
}

fn interpreter(head: &[u8]) -> Option<Interpreter> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        // Blanks and tabs alone are taken off: a carriage return belongs to the name.
        let name = line.trim_matches([' ', '\t']).split([' ', '\t']).next()?;
        return Some(Interpreter::OfScript(name.to_owned()));
    }
    elf_loader(head).map(Interpreter::OfElf)
}

/// PT_INTERP of a little-endian program of 64 bits (elf(5)).
fn elf_loader(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(at, 4)? == PT_INTERP {
            let (from, length) =
                (usize::try_from(number(at + 8, 8)?).ok()?, usize::try_from(number(at + 32, 8)?).ok()?);
            let name = head.get(from..from.checked_add(length)?)?;
            return Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        }
    }
    None
}

fn missing(root: &Root, interpreter: &Interpreter) -> Option<String> {
    let there = |name: &str| !matches!(root.stat(name), Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR));
    match interpreter {
        Interpreter::OfScript(name) if there(name) => None,
        Interpreter::OfScript(name) if name.ends_with('\r') => {
            Some(format!("its first line asks for {name:?}: the lines of the script end as Windows has it (CR LF)"))
        }
        Interpreter::OfScript(name) => Some(format!("its first line asks for {name:?}, which is not in the container")),
        Interpreter::OfElf(name) if there(name) => None,
        Interpreter::OfElf(name) => {
            let library = if name.contains("musl") {
                " (it was built for musl, such as Alpine's)"
            } else if name.contains("ld-linux") {
                " (it was built for glibc, such as Debian's)"
            } else {
                ""
            };
            Some(format!("its loader {name} is not in the container{library}"))
        }
    }
}

/// Why the kernel takes it for no program.
fn format(head: &[u8]) -> String {
    if head.is_empty() {
        return "the file is empty".into();
    }
    if head.starts_with(b"\x7fELF") {
        let machine = head.get(18..20).map_or(0, |m| u16::from_le_bytes([m[0], m[1]]));
        let bits = if head.get(4) == Some(&1) { "32" } else { "64" };
        return format!(
            "it is a program of {bits} bits for {}, and this machine is {}",
            machine_name(machine),
            std::env::consts::ARCH
        );
    }
    if head.starts_with(b"#!") {
        return "its first line names no program that can be executed".into();
    }
    if std::str::from_utf8(head).is_ok_and(|text| !text.contains('\0')) {
        return "it is a text without a first line such as #!/bin/sh".into();
    }
    "it is no program: neither ELF nor a script".into()
}

/// `e_machine` (elf.h).
fn machine_name(number: u16) -> String {
    let name = match number {
        3 => "x86",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        _ => return format!("machine {number}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_can_be_explained() {
        let of = |message: &str| refused(message).map(|(path, refusal)| (path.display().to_string(), refusal));
        assert_eq!(of("exec /b/x: no such file or directory"), Some(("/b/x".into(), Refusal::NoInterpreter)));
        assert_eq!(of("exec ./x: exec format error"), Some(("./x".into(), Refusal::Format)));
        assert_eq!(of("exec: \"/b/x\": permission denied"), Some(("/b/x".into(), Refusal::Permission)));
        assert_eq!(of("exec: \"x\": permission denied"), None);
        assert_eq!(of("exec: \"x\": executable file not found in $PATH"), None);
        assert_eq!(of("mkdir /x: permission denied"), None);
    }

    #[test]
    fn scripts_and_programs_need_something() {
        let script = |text: &str| match interpreter(text.as_bytes()) {
            Some(Interpreter::OfScript(name)) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(script("#! /usr/bin/env  python3\nx"), "/usr/bin/env");
        assert_eq!(script("#!/bin/sh\r\n"), "/bin/sh\r");
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loader = elf_loader(&own[..HEAD]);
        assert!(loader.as_ref().is_none_or(|loader| loader.starts_with("/lib")), "{loader:?}");
        // Whatever is in a header, nothing is read beside it.
        let mut odd = b"\x7fELF\x02\x01".to_vec();
        odd.resize(64, 0xff);
        assert_eq!(elf_loader(&odd), None);
        assert_eq!(elf_loader(&odd[..20]), None);
    }

    #[test]
    fn formats_have_their_reason() {
        assert!(format(b"").contains("empty"));
        assert!(format(b"echo hi\n").contains("#!/bin/sh"));
        assert!(format(b"\0\0\0").contains("neither"));
        let mut arm = b"\x7fELF\x02\x01\x01".to_vec();
        arm.resize(18, 0);
        arm.extend([183, 0]);
        assert!(format(&arm).starts_with("it is a program of 64 bits for aarch64"));
    }
}
