//! execve(2) on pointers that were prepared before the child existed.

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char};

/// A null-terminated array of C strings, such as `argv` and `envp`: made before clone, used after.
#[derive(Debug)]
pub struct CStringArray {
    /// Owns what `pointers` points at; never changed after construction.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    /// The array of `strings` in their order.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Executes the program at `path`; returns only to say why it could not. After clone.
pub fn execve(path: &CStr, argv: &CStringArray, envp: &CStringArray) -> Errno {
    // SAFETY: rustix has execve only in its unstable runtime module. Both arrays end with a null pointer and their strings, owned by
    // the arrays, live as long as the borrow; heap buffers of a `CString` don't move when the `CString` does.
    let returned = unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    match crate::call::check(libc::c_long::from(returned)) {
        Err(error) => error,
        Ok(_) => Errno::INVAL,
    }
}

/// Executes the program that `file` is (execveat(2) with an empty path); returns only to say why it could not. `file` may be an O_PATH
/// descriptor, and close-on-exec unless it is a script. After clone.
pub fn execveat(file: BorrowedFd<'_>, argv: &CStringArray, envp: &CStringArray) -> Errno {
    // SAFETY: as in `execve`; the path is a null-terminated empty string, so the descriptor itself is meant.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    match crate::call::check(returned) {
        Err(error) => error,
        Ok(_) => Errno::INVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let array = CStringArray::new(vec![c"x".into()]);
        assert_eq!(array.strings().len(), 1);
        assert_eq!(execve(c"/nonexistent/program", &array, &CStringArray::new(Vec::new())), Errno::NOENT);
    }
}
