//! What a default container looks like from inside, on the real kernel.

mod common;

use common::{World, bind, run};
use naru_runtime::plan::{Mount, MountFlags, MountSource, Rlimit, Rootfs};
use std::path::PathBuf;

#[test]
fn mounts_are_dockers() {
    let world = World::new();
    let said = run(&world.plan("cat /proc/self/mounts")).unwrap();
    let find = |target: &str| {
        let line = said.lines().into_iter().find(|line| line.split(' ').nth(1) == Some(target));
        line.unwrap_or_else(|| panic!("no {target} in {}", said.out)).to_owned()
    };
    assert!(find("/").starts_with("overlay / overlay rw,"));
    assert!(find("/proc").starts_with("proc /proc proc rw,nosuid,nodev,noexec"));
    assert!(find("/dev").starts_with("tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755"), "{}", find("/dev"));
    assert!(find("/dev/pts").starts_with("devpts /dev/pts devpts rw,nosuid,noexec"));
    assert!(find("/dev/pts").contains("gid=5,mode=620,ptmxmode=666"));
    assert!(find("/sys").starts_with("sysfs /sys sysfs ro,nosuid,nodev,noexec"));
    assert!(find("/sys/fs/cgroup").contains(" ro,nosuid,nodev,noexec"));
    assert!(find("/dev/mqueue").starts_with("mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec"));
    assert!(find("/dev/shm").contains("size=65536k"));
    assert!(find("/proc/interrupts").starts_with("devtmpfs "));
    assert!(find("/proc/sys").starts_with("proc /proc/sys proc ro,"));
    // Nothing of the host, whose table is longer by its own root at least.
    assert!(!said.out.contains("/dev/vda"), "{}", said.out);
    assert!(!said.out.contains(world.base.to_str().unwrap()) || said.out.matches("overlay").count() <= 2);
    assert_eq!(said.code, 0);
}

#[test]
fn masked_and_readonly_paths_hold() {
    let world = World::new();
    let script = "wc -c </proc/interrupts; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic; echo x >/sys/kernel/x; \
                  echo b >/proc/sysrq-trigger; touch /sys/firmware/x; mount -o remount,rw /proc/sys; umount /proc/interrupts; true";
    let said = run(&world.plan(script)).unwrap();
    assert_eq!(said.lines(), ["0", "0"]);
    assert_eq!(said.err.matches("Read-only file system").count(), 3, "{}", said.err);
    assert_eq!(said.err.lines().count(), 6, "{}", said.err);
}

#[test]
fn devices_and_links() {
    let world = World::new();
    let script = "cd /dev; for d in null zero full tty random urandom; do stat -c '%n %t:%T %a' $d; done; \
                  for l in fd stdin stdout stderr ptmx core; do readlink $l; done; echo x >null; head -c 3 zero | wc -c; \
                  echo x >full; mknod /tmp/sda b 8 0 && head -c1 /tmp/sda; ls | wc -l";
    let said = run(&world.plan(script)).unwrap();
    let expected = [
        "null 1:3 666",
        "zero 1:5 666",
        "full 1:7 666",
        "tty 5:0 666",
        "random 1:8 666",
        "urandom 1:9 666",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
        "/proc/kcore",
        "3",
        "15",
    ];
    assert_eq!(said.lines(), expected, "{}", said.err);
    assert!(said.err.contains("No space left"), "{}", said.err);
    assert!(said.err.contains("/tmp/sda: Operation not permitted"), "the device rules: {}", said.err);
}

#[test]
fn process_one_and_its_surroundings() {
    let world = World::new();
    let script = "echo $$; hostname; pwd; umask; id -u; id -G; echo $HOME; grep -E 'Cap|NoNewPrivs|SigIgn|SigBlk|Groups' /proc/self/status; \
                  exec 9</proc/self/fd; ls /proc/self/fd | tr '\\n' ' '; echo; ps | wc -l; ls /sys/class/net; cat /proc/self/oom_score_adj";
    let said = run(&world.plan(script)).unwrap();
    let lines = said.lines();
    assert_eq!(lines[..7], ["1", "box", "/", "0022", "0", "0", "/root"]);
    let has = |text: &str| assert!(lines.contains(&text), "no {text:?} in {}", said.out);
    has("CapInh:\t0000000000000000");
    has("CapPrm:\t00000000a80425fb");
    has("CapEff:\t00000000a80425fb");
    has("CapBnd:\t00000000a80425fb");
    has("CapAmb:\t0000000000000000");
    has("NoNewPrivs:\t0");
    has("SigIgn:\t0000000000000000");
    has("Groups:\t0 ");
    has("lo");
    assert!(!said.out.contains("eth"));
    // 0 to 2, our own 9, and the one that ls reads with.
    assert!(lines.iter().any(|l| l.trim() == "0 1 2 3 9"), "{}", said.out);
}

#[test]
fn inherited_descriptors_and_environment_stay_outside() {
    let world = World::new();
    let leak = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let said = run(&world.plan("ls /proc/self/fd | wc -l; env | sort")).unwrap();
    let lines = said.lines();
    assert_eq!(lines[0], "4");
    assert!(
        lines[1..].iter().all(|l| ["HOME=", "PATH=", "PWD=", "SHLVL="].iter().any(|k| l.starts_with(k))),
        "{lines:?}"
    );
}

#[test]
fn exit_codes() {
    let world = World::new();
    assert_eq!(run(&world.plan("exit 7")).unwrap().code, 7);
    // Process 1 ignores what it doesn't handle; its child doesn't.
    assert_eq!(run(&world.plan("sh -c 'kill -9 $$'; exit $?")).unwrap().code, 137);
}

#[test]
fn programs_that_cannot_be_had() {
    let world = World::new();
    let said = |args: &[&str]| {
        let mut plan = world.plan("");
        plan.process.args = args.iter().map(|s| (*s).to_owned()).collect();
        let error = run(&plan).unwrap_err();
        (error.message, error.exit_code)
    };
    assert_eq!(said(&["nope"]), ("exec: \"nope\": executable file not found in $PATH".into(), 127));
    assert_eq!(said(&["/nope"]), ("exec: \"/nope\": stat /nope: no such file or directory".into(), 127));
    assert_eq!(said(&["/etc"]), ("exec: \"/etc\": is a directory".into(), 126));
    assert_eq!(said(&["/etc/passwd"]), ("exec: \"/etc/passwd\": permission denied".into(), 126));
    assert_eq!(said(&[]).0, "no command specified");
    // Looked up in PATH, from inside.
    let mut plan = world.plan("");
    plan.process.args = ["sh", "-c", "echo $0"].map(str::to_owned).into();
    assert_eq!(run(&plan).unwrap().out, "sh\n");
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup/pids/{}", world.name)).exists(), "the group was left");
}

#[test]
fn working_folder_is_made() {
    let world = World::new();
    let mut plan = world.plan("pwd; stat -c '%a %u:%g' .");
    plan.process.cwd = "/made/for/me".into();
    plan.process.user = "app".into();
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["/made/for/me", "755 0:0"]);
    assert!(world.upper().join("made/for/me").is_dir());
    plan.process.cwd = "/etc/passwd".into();
    assert_eq!(run(&plan).unwrap_err().message, "Cannot mkdir: /etc/passwd is not a directory");
    plan.process.cwd = "relative".into();
    assert_eq!(run(&plan).unwrap_err().message, "working directory relative is not absolute");
}

#[test]
fn users_and_groups() {
    let world = World::new();
    let said = |user: &str, groups: &[&str]| {
        let mut plan =
            world.plan("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status; echo x >/dev/stdout");
        plan.process.user = user.into();
        plan.process.additional_groups = groups.iter().map(|s| (*s).to_owned()).collect();
        run(&plan).map(|said| said.out).map_err(|e| (e.message, e.exit_code))
    };
    let none = "CapEff:\t0000000000000000\nx\n";
    assert_eq!(said("app", &[]).unwrap(), format!("1000\n1001\n1001 10\n/home/app\n{none}"));
    assert_eq!(said("1234:5", &["wheel", "77"]).unwrap(), format!("1234\n5\n5 10 77\n/\n{none}"));
    assert_eq!(said("nope", &[]).unwrap_err().0, "unable to find user nope: no matching entries in passwd file");
    assert_eq!(said("0:nope", &[]).unwrap_err().0, "unable to find group nope: no matching entries in group file");
}

#[test]
fn binds_files_folders_and_missing_targets() {
    let world = World::new();
    let (file, folder) = (world.base.join("file"), world.base.join("folder"));
    std::fs::write(&file, "from the host\n").unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let mut plan = world.plan(
        "cat /etc/deep/er/file; echo in >/data/x; cat /ro/x; echo no >/ro/y; grep -E ' /(data|ro|t) ' /proc/self/mounts; echo t >/t/a; cat /t/a",
    );
    plan.mounts.push(bind(&file, "/etc/deep/er/file"));
    plan.mounts.push(bind(&folder, "/data"));
    let readonly = MountFlags { readonly: true, nosuid: true, nodev: true, noexec: true, ..MountFlags::default() };
    plan.mounts.push(Mount { flags: readonly, ..bind(&folder, "/ro") });
    let tmpfs = MountSource::Filesystem {
        kind: "tmpfs".into(),
        name: "tmpfs".into(),
        data: vec!["size=1m".into(), "mode=700".into()],
    };
    plan.mounts.push(Mount { target: "/t".into(), source: tmpfs, flags: MountFlags::default() });
    let said = run(&plan).unwrap();
    let lines = said.lines();
    assert_eq!(lines[..2], ["from the host", "in"], "{}", said.err);
    assert!(lines[2].contains(" /data ") && lines[2].contains(" rw,"), "{lines:?}");
    assert!(lines[3].contains(" /ro ") && lines[3].contains(" ro,nosuid,nodev,noexec"), "{lines:?}");
    assert!(lines[4].contains("size=1024k,mode=700"), "{lines:?}");
    assert_eq!(lines[5], "t");
    assert!(said.err.contains("can't create /ro/y: Read-only file system"));
    assert_eq!(std::fs::read_to_string(folder.join("x")).unwrap(), "in\n");
}

#[test]
fn mounts_that_cannot_be_had() {
    let world = World::new();
    let mut plan = world.plan("true");
    plan.mounts.push(bind(&world.base.join("nope"), "/data"));
    let error = run(&plan).unwrap_err();
    let expected =
        format!("error mounting \"{}/nope\" to rootfs at \"/data\": no such file or directory", world.base.display());
    assert_eq!(error.message, expected);
    plan.mounts.pop();
    plan.mounts.push(bind(&world.base, "/etc/passwd"));
    let error = run(&plan).unwrap_err();
    assert!(error.message.contains("to rootfs at \"/etc/passwd\": not a directory: are you trying"), "{error}");
    assert_eq!(error.exit_code, 127);
}

#[test]
fn readonly_root() {
    let world = World::new();
    let mut plan = world.plan("touch /x; touch /dev/x && echo dev; touch /dev/shm/x && echo shm");
    plan.readonly_rootfs = true;
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["dev", "shm"]);
    assert!(said.err.contains("/x: Read-only file system"));
}

#[test]
fn many_layers_with_long_paths() {
    let world = World::new();
    let mut lower = Vec::new();
    for index in 0..200 {
        let folder = world.base.join(format!("{:0>200}:{index}", "layer"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("which"), format!("{index}\n")).unwrap();
        std::fs::write(folder.join(format!("own{index}")), "").unwrap();
        lower.push(folder);
    }
    lower.push(world.lower());
    let mut plan = world.plan("cat /which; ls -d /own* | wc -l; echo up >/which");
    let Rootfs::Overlay { upper, work, .. } = plan.rootfs else { unreachable!() };
    plan.rootfs = Rootfs::Overlay { lower, upper, work, volatile: false };
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["0", "200"], "{}", said.err);
    assert_eq!(std::fs::read_to_string(world.upper().join("which")).unwrap(), "up\n");
}

#[test]
fn settings_limits_and_scores() {
    let world = World::new();
    let mut plan = world
        .plan("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -c; ulimit -n; cat /proc/self/oom_score_adj");
    plan.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    plan.process.rlimits = vec![
        Rlimit { name: "core".into(), soft: 0, hard: 0 },
        Rlimit { name: "nofile".into(), soft: 64, hard: 1 << 40 },
    ];
    plan.process.oom_score_adj = Some(500);
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["0", "0", "64", "500"]);
    plan.process.oom_score_adj = Some(-1000);
    let said = run(&plan).unwrap();
    let clamped = said.warnings.iter().any(|w| w.starts_with("oom_score_adj -1000 is not permitted on this host"));
    assert!(clamped || said.lines()[3] == "-1000", "{said:?}");
    plan.process.oom_score_adj = None;
    plan.sysctls.insert("net.nope".into(), "1".into());
    assert_eq!(run(&plan).unwrap_err().message, "open sysctl net.nope: no such file or directory");
}

#[test]
fn a_directory_as_root() {
    let world = World::new();
    let mut plan = world.plan("grep -c ' / ' /proc/self/mounts; touch /made");
    plan.rootfs = Rootfs::Directory { path: world.lower() };
    assert_eq!(run(&plan).unwrap().lines(), ["1"]);
    assert!(world.lower().join("made").exists());
}

#[test]
fn images_as_mounts() {
    let world = World::new();
    let (one, two) = (world.base.join("one"), world.base.join("two"));
    for folder in [&one, &two] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(folder.file_name().unwrap()), "").unwrap();
    }
    let image = |target: &str, lower: Vec<PathBuf>| Mount {
        target: target.into(),
        source: MountSource::Image { lower },
        flags: MountFlags::default(),
    };
    let mut plan = world.plan("ls /both /single; touch /both/x; touch /single/x; true");
    plan.mounts.push(image("/both", vec![one.clone(), two]));
    plan.mounts.push(image("/single", vec![one]));
    let said = run(&plan).unwrap();
    assert_eq!(said.lines(), ["/both:", "one", "two", "", "/single:", "one"]);
    assert_eq!(said.err.matches("Read-only file system").count(), 2);
}

#[test]
fn capabilities_that_the_host_lacks_are_told() {
    let world = World::new();
    let mut plan = world.plan("grep CapEff /proc/self/status");
    plan.process.capabilities = naru_runtime::defaults::capability_sets(naru_runtime::capabilities::ALL);
    let said = run(&plan).unwrap();
    let own = naru_sys::credentials::capget().unwrap().permitted;
    assert_eq!(said.out, format!("CapEff:\t{:016x}\n", own & naru_runtime::capabilities::ALL));
    assert_eq!(said.warnings.is_empty(), own & naru_runtime::capabilities::ALL == naru_runtime::capabilities::ALL);
}

#[test]
fn no_new_privileges() {
    let world = World::new();
    let mut plan = world.plan("grep NoNewPrivs /proc/self/status");
    plan.process.no_new_privileges = true;
    assert_eq!(run(&plan).unwrap().out, "NoNewPrivs:\t1\n");
}
