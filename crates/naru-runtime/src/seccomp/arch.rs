//! Architectures: their tokens, and the numbers of their system calls.
//!
//! Sources: linux/audit.h; the kernel's `arch/x86/entry/syscalls/syscall_64.tbl` (column "abi") for x32.

use std::str::FromStr;

/// An architecture as a filter tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    /// 32-bit pointers on x86_64: the same token, numbers from [`X32_BIT`] on.
    X32,
    Aarch64,
    Arm,
}

/// What is added to the numbers of [`Arch::X32`].
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// That of this program.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: Self = Self::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: Self = Self::Aarch64;

    /// libseccomp's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm].into_iter().find(|a| a.name() == name)
    }

    /// Whether `name` is one of libseccomp's architectures that we never run on.
    pub(super) fn is_known_elsewhere(name: &str) -> bool {
        let Some(rest) = name.strip_prefix("SCMP_ARCH_") else { return false };
        let known = [
            "NATIVE",
            "MIPS",
            "MIPS64",
            "MIPS64N32",
            "MIPSEL",
            "MIPSEL64",
            "MIPSEL64N32",
            "PPC",
            "PPC64",
            "PPC64LE",
            "S390",
            "S390X",
            "PARISC",
            "PARISC64",
            "RISCV64",
            "LOONGARCH64",
            "M68K",
            "SH",
            "SHEB",
        ];
        known.contains(&rest)
    }

    /// Go's name, which `includes` and `excludes` use.
    pub(super) const fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// Whether a kernel of this architecture runs programs of `other`.
    pub(super) const fn runs(self, other: Self) -> bool {
        match self {
            Self::X86_64 => matches!(other, Self::X86_64 | Self::X86 | Self::X32),
            Self::Aarch64 => matches!(other, Self::Aarch64 | Self::Arm),
            Self::X86 | Self::X32 | Self::Arm => false,
        }
    }

    /// AUDIT_ARCH_*.
    pub(super) const fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 32 bits. (On x32 the registers have more, but libseccomp compares the lower half, and so do we.)
    pub(super) const fn is_32_bit(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// The number of the system call `name`, as the kernel shows it to a filter.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        // The table spells this one as Rust must.
        let name = if name == "break" { "r#break" } else { name };
        match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok().map(|n| n.id() as u32),
            Self::X86 => syscalls::x86::Sysno::from_str(name).ok().map(|n| n.id() as u32),
            Self::X32 => x32_number(name).map(|n| n | X32_BIT),
            Self::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok().map(|n| n.id() as u32),
            Self::Arm => arm_private(name).or_else(|| syscalls::arm::Sysno::from_str(name).ok().map(|n| n.id() as u32)),
        }
    }
}

/// The calls with a number of their own on x32, from 512 on.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The calls that x32 doesn't have.
const X32_NOT: [&str; 14] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "map_shadow_stack",
    "uretprobe",
    "uprobe",
];

fn x32_number(name: &str) -> Option<u32> {
    if let Some(at) = X32_OWN.iter().position(|n| *n == name) {
        return Some(512 + at as u32);
    }
    if X32_NOT.contains(&name) {
        return None;
    }
    syscalls::x86_64::Sysno::from_str(name).ok().map(|n| n.id() as u32)
}

/// `arch/arm/include/uapi/asm/unistd.h`.
fn arm_private(name: &str) -> Option<u32> {
    let offset = match name {
        "breakpoint" => 1,
        "cacheflush" => 2,
        "usr26" => 3,
        "usr32" => 4,
        "set_tls" => 5,
        "get_tls" => 6,
        _ => return None,
    };
    Some(0x0f_0000 + offset)
}

/// The calls of 32-bit x86 that also come in through `socketcall` and `ipc`, with the first argument that selects them there.
pub(super) fn x86_multiplexed(name: &str) -> Option<(&'static str, u32)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u32); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(at) = SOCKETCALL.iter().position(|n| *n == name) {
        return Some(("socketcall", at as u32 + 1));
    }
    IPC.iter().find(|(n, _)| *n == name).map(|(_, call)| ("ipc", *call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!((Arch::X86_64.number("read"), Arch::X86.number("read")), (Some(0), Some(3)));
        assert_eq!((Arch::X32.number("read"), Arch::X32.number("execve")), (Some(X32_BIT), Some(X32_BIT | 520)));
        assert_eq!((Arch::X32.number("pwritev2"), Arch::X32.number("uselib")), (Some(X32_BIT | 547), None));
        assert_eq!((Arch::X86.number("_llseek"), Arch::X86_64.number("_llseek")), (Some(140), None));
        assert_eq!((Arch::Aarch64.number("read"), Arch::Arm.number("set_tls")), (Some(63), Some(0xf0005)));
        assert_eq!((Arch::X86.number("break"), Arch::X86_64.number("nonsense")), (Some(17), None));
        assert_eq!(x86_multiplexed("sendmmsg"), Some(("socketcall", 20)));
        assert_eq!((x86_multiplexed("shmctl"), x86_multiplexed("read")), (Some(("ipc", 24)), None));
    }
}
