//! The compiled default profile: against a plain reading of it, and in the kernel.

use super::arch::{Arch, X32_BIT};
use super::compile::{Filter, compile, instructions};
use super::interpreter::{Call, run};
use super::linear::Linear;
use super::{KernelVersion, Profile};
use crate::capabilities;
use naru_sys::clone::{CloneFlags, clone3};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 18 };

/// Arguments at and around everything that the default profile compares with.
fn argument_samples() -> Vec<[u64; 6]> {
    let interesting = [
        0,
        1,
        8,
        37,
        38,
        39,
        40,
        41,
        0x20000,
        0x20008,
        0xffff_ffff,
        0x7e02_0000,
        0x0200_0000,
        0x1_0000_0000,
        0x1_0000_0008,
        u64::MAX,
        0x8000_0000_0000_0000,
    ];
    let mut samples = vec![[0; 6]];
    for value in interesting {
        samples.push([value; 6]);
        samples.push([value, 0, 0, 0, 0, 0]);
        samples.push([0, value, 7, 7, 7, 7]);
    }
    samples
}

fn numbers() -> impl Iterator<Item = u32> {
    let edges = [0x3fff_ffff, u32::MAX, u32::MAX - 1, 0x7fff_ffff, 0x0f_0001];
    (0..700).chain(X32_BIT..X32_BIT + 700).chain(edges)
}

#[test]
fn every_number_is_answered_as_the_profile_reads() {
    let profile = Profile::default_profile();
    let admin = 1 << capabilities::bit("SYS_ADMIN").unwrap();
    let samples = argument_samples();
    let ptrace = 1 << capabilities::bit("SYS_PTRACE").unwrap();
    for caps in [capabilities::DEFAULT, 0, admin, ptrace, capabilities::ALL] {
        let program = instructions(&compile(profile, caps, KERNEL).unwrap()).unwrap();
        let linear = Linear::new(profile, caps, KERNEL);
        for arch in [Arch::X86_64.token(), Arch::X86.token(), Arch::Aarch64.token(), 0] {
            for number in numbers() {
                let samples = if linear.is_conditional(number) { samples.as_slice() } else { &samples[..2] };
                for args in samples {
                    let args = if arch == Arch::X86.token() { args.map(|a| a & 0xffff_ffff) } else { *args };
                    let call = Call { arch, number, args };
                    assert_eq!(run(&program, &call), linear.answer(true, &call), "{call:?} with {caps:#x}");
                }
            }
        }
    }
}

#[test]
fn it_is_short_and_quick_to_make() {
    let begin = std::time::Instant::now();
    let program = instructions(&compile(Profile::default_profile(), capabilities::DEFAULT, KERNEL).unwrap()).unwrap();
    eprintln!("{} instructions, compiled in {:?} (the first time, JSON and all)", program.len(), begin.elapsed());
    assert!(program.len() < 900, "{}", program.len());
    let filter = Filter::new(Profile::default_profile(), capabilities::DEFAULT, KERNEL).unwrap();
    assert!(filter.unknown_is_no_such_call);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_users_rely_on() {
    let program = instructions(&compile(Profile::default_profile(), capabilities::DEFAULT, KERNEL).unwrap()).unwrap();
    let answer = |name: &str, first: u64| {
        let number = Arch::X86_64.number(name).unwrap();
        run(&program, &Call { arch: Arch::X86_64.token(), number, args: [first, 0, 0, 0, 0, 0] })
    };
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    assert_eq!((answer("read", 0), answer("mount", 0), answer("clone3", 0)), (ALLOW, EPERM, ENOSYS));
    assert_eq!((answer("socket", 2), answer("socket", 38), answer("socket", 40)), (ALLOW, EPERM, EPERM));
    assert_eq!((answer("clone", 0x11), answer("clone", 0x1000_0000)), (ALLOW, EPERM));
    assert_eq!((answer("personality", 0), answer("personality", 4)), (ALLOW, EPERM));
    let future = Call { arch: Arch::X86_64.token(), number: 600, args: [0; 6] };
    assert_eq!(run(&program, &future), ENOSYS);
}

#[test]
fn the_kernel_takes_it() {
    let program = instructions(&compile(Profile::default_profile(), capabilities::DEFAULT, KERNEL).unwrap()).unwrap();
    let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
        let _ = rustix::thread::set_no_new_privs(true);
        let begin = std::time::Instant::now();
        let installed = naru_sys::seccomp::set_filter(&program, 4).is_ok();
        let _ = begin.elapsed();
        let unshare = naru_sys::namespace::unshare(naru_sys::namespace::NewNamespace::Uts) == Err(Errno::PERM);
        let pipe = rustix::pipe::pipe().is_ok();
        naru_sys::process::exit_now(match (installed, unshare, pipe) {
            (true, true, true) => 0,
            (false, ..) => 1,
            _ => 2,
        })
    })
    .unwrap();
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

#[test]
fn programs_survive_their_text_form() {
    let program = compile(Profile::default_profile(), capabilities::DEFAULT, KERNEL).unwrap();
    assert_eq!(program.flags, 4);
    let code = instructions(&program).unwrap();
    assert_eq!(code[0], super::bpf::load(super::bpf::ARCH));
    for bad in ["", "00", "zz00000000000000", &program.hex[1..]] {
        let bad = crate::plan::SeccompProgram { hex: bad.to_owned(), flags: 0 };
        assert!(instructions(&bad).is_err());
    }
}
