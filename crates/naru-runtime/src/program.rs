//! The program: where it may be, and what is said when it can't be executed.

use crate::StartError;
use crate::mounts::c_path;
use crate::report::{Failure, Op, errno_text};
use naru_base::Class;
use naru_sys::execve::{CStringArray, execve};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Paths to try, in order, and what the program gets.
#[derive(Debug)]
pub(crate) struct Program {
    candidates: Vec<CString>,
    /// Whether the name was to be looked up in PATH.
    searched: bool,
    argv: CStringArray,
    envp: CStringArray,
}

/// Lists the places of `args[0]`: itself if it has a slash, otherwise one per folder of PATH.
pub(crate) fn prepare(args: &[String], env: &[String], home: &str) -> Result<Program, StartError> {
    let name = args.first().filter(|name| !name.is_empty());
    let Some(name) = name else { return Err(StartError::invalid("no command specified")) };
    let mut env: Vec<CString> = env.iter().map(|entry| c_path(entry.as_bytes())).collect::<Result<_, _>>()?;
    let value = |key: &str| env.iter().rev().find_map(|entry| entry.to_bytes().strip_prefix(key.as_bytes()));
    let path = value("PATH=").unwrap_or_default().to_vec();
    if value("HOME=").unwrap_or_default().is_empty() {
        env.retain(|entry| entry.to_bytes() != b"HOME=");
        env.push(c_path(format!("HOME={home}").as_bytes())?);
    }
    let searched = !name.contains('/');
    let candidates = if searched {
        // An empty element means the working folder, from where Go's lookup refuses to run anything.
        let folders = path.split(|b| *b == b':').filter(|folder| folder.first() == Some(&b'/'));
        folders.map(|folder| c_path(&[folder, b"/", name.as_bytes()].concat())).collect::<Result<_, _>>()?
    } else {
        vec![c_path(name.as_bytes())?]
    };
    let argv = args.iter().map(|arg| c_path(arg.as_bytes())).collect::<Result<_, _>>()?;
    Ok(Program { candidates, searched, argv: CStringArray::new(argv), envp: CStringArray::new(env) })
}

/// Executes the first candidate that can be; returns only with the reason why none could. After clone.
pub(crate) fn execute(program: &Program) -> Failure {
    for (index, candidate) in program.candidates.iter().enumerate() {
        let errno = execve(candidate, &program.argv, &program.envp);
        let op = examine(candidate, errno);
        if op == Op::Execute || !program.searched {
            return Failure::new(op, index, errno);
        }
    }
    Failure::new(Op::NotInPath, 0, Errno::NOENT)
}

/// Looks whether one of the candidates can be executed, without doing so; what can't be known before is told by [`execute`]. After clone.
pub(crate) fn find(program: &Program) -> Result<(), Failure> {
    for (index, candidate) in program.candidates.iter().enumerate() {
        let op = match accessat(CWD, candidate, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => match statat(CWD, candidate, AtFlags::empty()) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    (Op::IsDirectory, Errno::ACCESS)
                }
                _ => return Ok(()),
            },
            Err(errno) => (examine(candidate, errno), errno),
        };
        if !program.searched {
            return Err(Failure::new(op.0, index, op.1));
        }
    }
    Err(Failure::new(Op::NotInPath, 0, Errno::NOENT))
}

/// Why execve failed: its error alone can't tell a missing program from a missing interpreter, nor a folder from a forbidden file.
fn examine(path: &CStr, errno: Errno) -> Op {
    if !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) {
        return Op::Execute;
    }
    match statat(CWD, path, AtFlags::empty()) {
        Err(Errno::ACCESS) => Op::NotExecutable,
        Err(_) => Op::NoProgram,
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Op::IsDirectory,
        Ok(_) if errno == Errno::ACCESS || accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_err() => {
            Op::NotExecutable
        }
        Ok(_) => Op::Execute,
    }
}

/// The text that docker's users know (Go's `exec.LookPath`, runc).
pub(crate) fn describe(args: &[String], failure: Failure) -> StartError {
    let name = args.first().map_or("", String::as_str);
    let text = errno_text(failure.errno);
    let message = match failure.op {
        Op::NotInPath => format!("exec: {name:?}: executable file not found in $PATH"),
        Op::NoProgram => format!("exec: {name:?}: stat {name}: {text}"),
        Op::IsDirectory => format!("exec: {name:?}: is a directory"),
        Op::NotExecutable => format!("exec: {name:?}: permission denied"),
        _ => format!("exec {name}: {text}"),
    };
    StartError::new(Class::InvalidParameter, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(args: &[&str], env: &[&str]) -> Program {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        prepare(&own(args), &own(env), "/root").unwrap()
    }

    fn env_of(program: &Program) -> Vec<&str> {
        program.envp.strings().iter().map(|s| s.to_str().unwrap()).collect()
    }

    #[test]
    fn candidates_follow_path() {
        let program = prepared(&["sh"], &["PATH=/a:/b", "PATH=/usr/bin::rel:/bin"]);
        assert_eq!(program.candidates, [c"/usr/bin/sh".into(), c"/bin/sh".into()] as [CString; 2]);
        let program = prepared(&["./sh"], &["PATH=/a"]);
        assert_eq!(program.candidates, [CString::from(c"./sh")]);
        assert!(prepared(&["sh"], &[]).candidates.is_empty());
    }

    #[test]
    fn home_is_added_when_it_is_not_there() {
        assert_eq!(env_of(&prepared(&["x"], &["A=b"])), ["A=b", "HOME=/root"]);
        assert_eq!(env_of(&prepared(&["x"], &["HOME="])), ["HOME=/root"]);
        assert_eq!(env_of(&prepared(&["x"], &["HOME=/h"])), ["HOME=/h"]);
    }

    #[test]
    fn failures_tell_what_docker_tells() {
        let said = |path: &str| {
            let args = vec![path.to_owned()];
            let failure = execute(&prepare(&args, &["PATH=/usr/bin:/bin".to_owned()], "/").unwrap());
            let error = describe(&args, failure);
            (error.message, error.exit_code)
        };
        assert_eq!(said("nope"), ("exec: \"nope\": executable file not found in $PATH".into(), 127));
        assert_eq!(said("/nope"), ("exec: \"/nope\": stat /nope: no such file or directory".into(), 127));
        assert_eq!(said("/etc"), ("exec: \"/etc\": is a directory".into(), 126));
        assert_eq!(said("/etc/passwd"), ("exec: \"/etc/passwd\": permission denied".into(), 126));
        assert_eq!(said("/etc/passwd/x"), ("exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory".into(), 127));
    }

    #[test]
    fn a_missing_interpreter_is_told_apart_from_a_missing_program() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("naru-script-{}", std::process::id()));
        std::fs::write(&path, "#!/nope\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let args = vec![path.display().to_string()];
        let error = describe(&args, execute(&prepare(&args, &[], "/").unwrap()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.message, format!("exec {}: no such file or directory", path.display()));
        assert_eq!(error.exit_code, 127);
    }
}
