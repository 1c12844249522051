//! Root file systems that were made to break out, and what must not reach the host.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod common;

use common::{World, bind, run};
use naru_runtime::plan::{Mount, MountFlags, MountSource, Propagation};
use std::os::unix::fs::symlink;
use std::path::Path;

fn replace_by_link(world: &World, name: &str, target: &str) {
    std::fs::remove_dir_all(world.lower().join(name)).unwrap();
    symlink(target, world.lower().join(name)).unwrap();
}

#[test]
fn proc_and_sys_go_on_ordinary_folders_only() {
    for name in ["proc", "sys"] {
        let world = World::new();
        replace_by_link(&world, name, "/tmp");
        let error = run(&world.plan("true")).unwrap_err();
        assert_eq!(error.message, format!("filesystem at \"/{name}\" must be mounted on an ordinary directory"));
    }
}

#[test]
fn links_of_the_image_lead_inside() {
    let world = World::new();
    let outside = world.base.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    replace_by_link(&world, "dev", outside.to_str().unwrap());
    replace_by_link(&world, "tmp", "../../../../../../../../var/inner");
    let source = world.base.join("source");
    std::fs::create_dir_all(&source).unwrap();
    let mut plan = world.plan("ls /dev/null && ls -d /tmp/work");
    plan.mounts.push(bind(&source, "/tmp/made"));
    plan.process.cwd = "/tmp/work".into();
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["/dev/null", "/tmp/work"], "{}", said.err);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host");
    assert!(!Path::new("/var/inner").exists() && !Path::new("/tmp/made").exists() && !Path::new("/tmp/work").exists());
    assert!(world.upper().join("var/inner/made").is_dir());
}

#[test]
fn users_are_not_read_through_links_to_the_host() {
    let world = World::new();
    let secret = world.base.join("passwd");
    std::fs::write(&secret, "leak:x:4711:4711::/leak:/bin/sh\n").unwrap();
    std::fs::remove_file(world.lower().join("etc/passwd")).unwrap();
    symlink(&secret, world.lower().join("etc/passwd")).unwrap();
    let mut plan = world.plan("id -u");
    plan.process.user = "leak".into();
    assert_eq!(run(&plan).unwrap_err().message, "unable to find user leak: no matching entries in passwd file");
    plan.process.user = "12".into();
    assert_eq!(run(&plan).unwrap().out, "12\n");
}

#[test]
fn user_files_that_are_no_files_or_too_long() {
    let world = World::new();
    let passwd = world.lower().join("etc/passwd");
    std::fs::remove_file(&passwd).unwrap();
    let fifo = std::ffi::CString::new(passwd.to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let error = run(&world.plan("true")).unwrap_err();
    assert!(error.message.starts_with("unable to read /etc/passwd of the container"), "{error}");
    std::fs::remove_file(&passwd).unwrap();
    std::fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
    let error = run(&world.plan("true")).unwrap_err();
    assert!(error.message.starts_with("unable to read /etc/passwd of the container"), "{error}");
}

#[test]
fn working_folders_that_lead_out() {
    let world = World::new();
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/7/../..", "/proc/self/cwd/..", "/proc/1/root"] {
        let mut plan = world.plan("pwd");
        plan.process.cwd = cwd.into();
        let outcome = run(&plan);
        assert!(outcome.is_err(), "{cwd}: {outcome:?}");
    }
    symlink("/proc/self/fd/8", world.lower().join("way")).unwrap();
    let mut plan = world.plan("pwd");
    plan.process.cwd = "/way".into();
    assert!(run(&plan).is_err());
    plan.process.cwd = "/../../..".into();
    assert_eq!(run(&plan).unwrap().out, "/\n");
}

#[test]
fn masks_follow_no_link_to_the_host() {
    let world = World::new();
    let secret = world.base.join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    symlink(&secret, world.lower().join("masked")).unwrap();
    symlink("/etc/group", world.lower().join("inside")).unwrap();
    let mut plan = world.plan("wc -c </etc/group");
    plan.masked_paths.extend(["/masked".into(), "/inside".into(), "/nope/nope".into(), "/etc/passwd/x".into()]);
    plan.readonly_paths.extend(["/masked".into(), "/nope".into()]);
    assert_eq!(run(&plan).unwrap().out, "0\n");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret\n");
}

#[test]
fn targets_in_a_shared_volume_stay_in_it() {
    let world = World::new();
    let volume = world.base.join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    let outside = world.base.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    symlink(&outside, volume.join("sub")).unwrap();
    symlink("/../../../../etc", volume.join("up")).unwrap();
    let source = world.base.join("source");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("mark"), "").unwrap();
    let mut plan = world.plan("ls /data/sub/x /etc/y");
    plan.mounts.push(bind(&volume, "/data"));
    plan.mounts.push(bind(&source, "/data/sub/x"));
    plan.mounts.push(bind(&source, "/data/up/y"));
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["/data/sub/x:", "mark", "", "/etc/y:", "mark"], "{}", said.err);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn nothing_shows_in_the_hosts_mount_table() {
    let world = World::new();
    let shared = world.base.join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let mut plan = world
        .plan("mount -t tmpfs inside /mnt; mount -t tmpfs inside /data; grep -c inside /proc/self/mounts; sleep 0.2");
    std::fs::create_dir_all(world.lower().join("mnt")).unwrap();
    plan.mounts.push(bind(&shared, "/data"));
    plan.process.capabilities = naru_runtime::defaults::capability_sets(naru_runtime::capabilities::ALL);
    let watch = std::thread::spawn({
        let name = world.name.clone();
        move || {
            let end = std::time::Instant::now() + std::time::Duration::from_millis(300);
            let mut seen = String::new();
            while std::time::Instant::now() < end {
                let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
                seen.extend(table.lines().filter(|line| line.contains(&name)).map(str::to_owned));
            }
            seen
        }
    });
    let said = run(&plan).unwrap();
    assert_eq!(said.out, "2\n", "{}", said.err);
    assert_eq!(watch.join().unwrap(), "");
}

#[test]
fn a_program_may_not_be_looked_at_before_it_is_one() {
    // The init's own binary is not readable by what runs beside it.
    let world = World::new();
    let mut plan = world.plan("cat /proc/1/exe | wc -c; ls /proc/1/map_files 2>&1 | wc -l");
    plan.init = true;
    let said = run(&plan).unwrap();
    assert_eq!(said.lines()[0], "0", "{said:?}");
    assert!(said.err.contains("Permission denied"), "{said:?}");
}

#[test]
fn filters_hold_and_let_the_start_pass() {
    use naru_runtime::seccomp::{KernelVersion, Profile, compile};
    let world = World::new();
    let caps = naru_runtime::defaults::DEFAULT_CAPABILITIES;
    let filter = compile(Profile::default_profile(), caps, KernelVersion::host()).unwrap();
    for (user, no_new_privileges, init) in
        [("", false, false), ("app", false, false), ("app", true, false), ("app", false, true), ("", true, true)]
    {
        let mut plan = world.plan("grep -E '^(Seccomp|CapEff|Uid)' /proc/self/status; unshare -n true; exit 3");
        plan.process.seccomp = Some(filter.clone());
        plan.process.user = user.into();
        plan.process.no_new_privileges = no_new_privileges;
        plan.init = init;
        let said = run(&plan).unwrap();
        assert!(said.lines().contains(&"Seccomp:\t2"), "{said:?}");
        assert!(said.err.contains("unshare"), "{said:?}");
        assert_eq!(said.code, 3);
        let expected = if user.is_empty() { "CapEff:\t00000000a80425fb" } else { "CapEff:\t0000000000000000" };
        assert!(said.lines().contains(&expected), "{said:?}");
    }
}

#[test]
fn propagation_is_what_was_asked_for() {
    let world = World::new();
    let source = world.base.join("source");
    std::fs::create_dir_all(&source).unwrap();
    let with = |propagation| {
        let bound = MountSource::Bind {
            path: source.clone(),
            subpath: std::path::PathBuf::new(),
            recursive: true,
            propagation,
        };
        let mut plan = world.plan("grep ' /data ' /proc/self/mountinfo");
        plan.mounts.push(Mount { target: "/data".into(), source: bound, flags: MountFlags::default() });
        run(&plan).unwrap().out
    };
    assert!(!with(Propagation::Rprivate).contains("shared:"));
    assert!(with(Propagation::Rshared).contains("shared:"));
    assert!(!with(Propagation::Rslave).contains("shared:"));
}

#[test]
fn a_dangling_resolv_conf_is_followed_inside() {
    let world = World::new();
    symlink("../run/systemd/resolve/stub-resolv.conf", world.lower().join("etc/resolv.conf")).unwrap();
    let file = world.base.join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.11\n").unwrap();
    let mut plan = world.plan("cat /etc/resolv.conf; ls -l /run/systemd/resolve/stub-resolv.conf | cut -c1-10");
    plan.mounts.push(bind(&file, "/etc/resolv.conf"));
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["nameserver 127.0.0.11", "-rw-r--r--"], "{}", said.err);
}
