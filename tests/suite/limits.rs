//! Limits: what the kernel shows of them in the container's cgroup, at its creation and after an update. On cgroup v2 `tools/guest` looks too.

use std::fs;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, shared, unique};
use naru_tests::{note, only_naru};

/// A container that does nothing but be there.
fn start(flags: &[&str]) -> Result<(Client, String)> {
    let (cli, name) = (shared()?.cli(), unique("limits"));
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(flags);
    args.extend(["busybox", "sleep", "100000"]);
    cli.ok(args)?;
    Ok((cli, name))
}

/// What the container reads of its own group: from `v1` below the v1 trees, or from `v2`.
fn read(cli: &Client, name: &str, v1: &str, v2: &str) -> Result<String> {
    cli.ok(["exec", name, "sh", "-c", &format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}")])
}

/// Whether this machine has v2 alone.
fn unified() -> bool {
    fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false)
}

/// Holds each file against its value: on v1, and on v2.
fn expect(cli: &Client, name: &str, files: &[(&str, &str, &str, &str)]) -> Result<()> {
    for (v1, value1, v2, value2) in files {
        let (file, value) = if unified() { (v2, value2) } else { (v1, value1) };
        assert_eq!(read(cli, name, v1, v2)?, *value, "{file}");
    }
    Ok(())
}

/// A disk of this machine with its numbers, if it has one with a node.
fn disk() -> Option<(String, String)> {
    let names = fs::read_dir("/sys/block").ok()?.flatten();
    let disks = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned();
        let fits = !name.starts_with("zram") && fs::exists(format!("/dev/{name}")).ok()?;
        fits.then(|| (format!("/dev/{name}"), numbers))
    });
    disks.min()
}

#[test]
fn memory() -> Result<()> {
    let (cli, name) = start(&["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"])?;
    expect(
        &cli,
        &name,
        &[
            ("memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
            ("memory/memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"),
            ("memory/memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        ],
    )?;
    cli.ok(["rm", "-f", &name])?;
    // Without a word about swap there is as much of it again; -1 is no limit.
    for (swap, v1, v2) in [(None, "134217728", "67108864"), (Some("64m"), "67108864", "0"), (Some("-1"), "", "max")] {
        let mut flags = vec!["-m", "64m"];
        flags.extend(swap.iter().flat_map(|swap| ["--memory-swap", *swap]));
        let (cli, name) = start(&flags)?;
        if unified() || !v1.is_empty() {
            expect(&cli, &name, &[("memory/memory.memsw.limit_in_bytes", v1, "memory.swap.max", v2)])?;
        }
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}

#[test]
fn processors() -> Result<()> {
    let (cli, name) = start(&[
        "--cpus",
        "0.75",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "77",
    ])?;
    expect(
        &cli,
        &name,
        &[
            ("cpu/cpu.cfs_quota_us", "75000", "cpu.max", "75000 100000"),
            ("cpu/cpu.cfs_period_us", "100000", "cpu.max", "75000 100000"),
            ("cpu/cpu.shares", "512", "cpu.weight", "59"),
            ("cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
            ("cpuset/cpuset.mems", "0", "cpuset.mems", "0"),
            ("pids/pids.max", "77", "pids.max", "77"),
        ],
    )?;
    // The kernel acts on it.
    assert_eq!(cli.ok(["exec", &name, "grep", "Cpus_allowed_list", "/proc/self/status"])?, "Cpus_allowed_list:\t0");
    cli.ok(["rm", "-f", &name])?;
    let (cli, name) = start(&["--cpu-period", "50000", "--cpu-quota", "25000"])?;
    expect(
        &cli,
        &name,
        &[
            ("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000"),
            ("cpu/cpu.cfs_period_us", "50000", "cpu.max", "25000 50000"),
        ],
    )?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn processes_stop_at_their_number() -> Result<()> {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait";
    let done = shared()?.cli().run(["run", "--rm", "--pids-limit", "6", "busybox", "sh", "-c", script])?;
    assert!(done.code != 0 && done.stderr.contains("can't fork"), "{done:?}");
    Ok(())
}

/// Who helps with its start is none of its processes.
#[test]
fn one_process_is_enough() -> Result<()> {
    if only_naru("runc's own threads count") {
        return Ok(());
    }
    let file = if fs::exists("/sys/fs/cgroup/cgroup.controllers")? { "pids.max" } else { "pids/pids.max" };
    let file = format!("/sys/fs/cgroup/{file}");
    for userns in ["", "host"] {
        let run = ["run", "--rm", "--userns", userns, "--pids-limit", "1", "busybox", "cat", &file];
        let said = shared()?.cli().run(run)?;
        assert!(said.stdout.trim() == "1" && said.stderr.is_empty(), "{userns:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn rates_of_a_disk() -> Result<()> {
    let Some((path, numbers)) = disk() else {
        note("this machine has no disk");
        return Ok(());
    };
    let (bytes, operations) = (format!("{path}:1mb"), format!("{path}:100"));
    let flags = ["--device-read-bps", &bytes, "--device-write-bps", &bytes, "--device-read-iops", &operations];
    let (cli, name) = start(&[&flags[..], &["--device-write-iops", &operations]].concat())?;
    let v2 = format!("{numbers} rbps=1048576 wbps=1048576 riops=100 wiops=100");
    let (bytes, operations) = (format!("{numbers} 1048576"), format!("{numbers} 100"));
    expect(
        &cli,
        &name,
        &[
            ("blkio/blkio.throttle.read_bps_device", &bytes, "io.max", &v2),
            ("blkio/blkio.throttle.write_bps_device", &bytes, "io.max", &v2),
            ("blkio/blkio.throttle.read_iops_device", &operations, "io.max", &v2),
            ("blkio/blkio.throttle.write_iops_device", &operations, "io.max", &v2),
        ],
    )?;
    cli.ok(["rm", "-f", &name])?;
    // The client makes a 127 of these words.
    let done = cli.run(["run", "--rm", "--device-read-bps", "/dev/no-such-disk:1mb", "busybox", "true"])?;
    assert!(done.code != 0 && done.stderr.contains("no such file or directory"), "{done:?}");
    Ok(())
}

#[test]
fn weight_of_block_io() -> Result<()> {
    if only_naru("dockerd 20.10 doesn't know BFQ's file on cgroup v1") {
        return Ok(());
    }
    let (cli, name) = (shared()?.cli(), unique("weight"));
    let done = cli.run(["run", "-d", "--name", &name, "--blkio-weight", "300", "busybox", "sleep", "100000"])?;
    assert_eq!(done.code, 0, "{done:?}");
    if done.stderr.is_empty() {
        let files = "blkio/blkio.weight blkio/blkio.bfq.weight io.bfq.weight io.weight";
        let weights =
            cli.ok(["exec", &name, "sh", "-c", &format!("cd /sys/fs/cgroup; cat {files} 2>/dev/null; true")])?;
        assert!(weights.lines().any(|line| matches!(line, "300" | "default 300" | "default 2930")), "{weights}");
    } else {
        let text = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
        assert!(done.stderr.contains(text), "{done:?}");
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn ulimits_are_lowered_to_what_can_be_had() -> Result<()> {
    let cli = shared()?.cli();
    let flags = ["--ulimit", "nofile=321:654", "--ulimit", "core=0", "--ulimit", "nproc=5000:5000"];
    let script = "ulimit -n; ulimit -Hn; ulimit -c; grep 'Max processes' /proc/self/limits | tr -s ' '";
    let said = cli.ok([&["run", "--rm"], &flags[..], &["busybox", "sh", "-c", script]].concat())?;
    assert_eq!(said.trim(), "321\n654\n0\nMax processes 5000 5000 processes");
    for (flag, text) in [
        ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit"),
        ("nonsense=1", "invalid ulimit type: nonsense"),
    ] {
        let said = cli.fails(125, ["run", "--rm", "--ulimit", flag, "busybox", "true"])?;
        assert!(said.contains(text), "{said}");
    }
    if only_naru("runc fails where a limit can't be raised") {
        return Ok(());
    }
    // More than the kernel gives to anybody.
    let said =
        cli.ok(["run", "--rm", "--ulimit", "nofile=1024:4000000000", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"])?;
    let (soft, hard) = said.split_once('\n').context("two lines")?;
    ensure!(soft == "1024" && hard.parse::<u64>()? < 4_000_000_000, "{said}");
    Ok(())
}

#[test]
fn shared_memory_and_scores() -> Result<()> {
    let cli = shared()?.cli();
    let script = "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; cat /proc/self/oom_score_adj";
    let said = cli.ok(["run", "--rm", "--shm-size", "20m", "--oom-score-adj", "321", "busybox", "sh", "-c", script])?;
    assert_eq!(said, "20480\n321");
    let said = cli.fails(125, ["run", "--rm", "--oom-score-adj", "1001", "busybox", "true"])?;
    assert!(said.contains("Invalid value 1001, range for oom score adj is [-1000, 1000]"), "{said}");
    Ok(())
}

#[test]
fn kernel_settings_of_its_own_namespaces() -> Result<()> {
    let (engine, cli) = (shared()?, shared()?.cli());
    let flags =
        ["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.shmmni=123", "--sysctl", "fs.mqueue.msg_max=7"];
    let script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni fs/mqueue/msg_max";
    let said = cli.ok([&["run", "--rm"], &flags[..], &["busybox", "sh", "-c", script]].concat())?;
    assert_eq!(said, "0\n123\n7");
    // docker's client refuses the first by itself, so it is asked of the engine as well.
    let hosts = fs::read_to_string("/proc/sys/kernel/panic")?;
    let said = cli.fails(125, ["run", "--rm", "--sysctl", "kernel.panic=77", "busybox", "true"])?;
    assert!(said.contains("kernel.panic"), "{said}");
    let name = unique("sysctl");
    let body =
        serde_json::json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Sysctls": {"kernel.panic": "77"}}});
    let made = engine.http().post(&format!("/containers/create?name={name}"), &body)?;
    if made.status == 201 {
        let started = engine.http().request("POST", &format!("/containers/{name}/start"), &[], b"")?;
        ensure!(started.status >= 400, "it was started: {started:?}");
        let said = started.text();
        assert!(said.contains("kernel.panic") && said.contains("is not in a separate kernel namespace"), "{said}");
        cli.ok(["rm", &name])?;
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/panic")?, hosts);
    let said = cli.run(["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true"])?;
    assert!(said.code != 0 && said.stderr.contains("not allowed in host network namespace"), "{said:?}");
    Ok(())
}

#[test]
fn the_oom_killer_can_be_disabled_on_v1() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("oom"));
    let done =
        cli.run(["run", "-d", "--name", &name, "-m", "64m", "--oom-kill-disable", "busybox", "sleep", "100000"])?;
    assert_eq!(done.code, 0, "{done:?}");
    if unified() {
        assert!(
            done.stderr.contains("Your kernel does not support OomKillDisable. OomKillDisable discarded."),
            "{done:?}"
        );
    } else {
        let control = read(&cli, &name, "memory/memory.oom_control", "memory.max")?;
        assert!(control.lines().any(|line| line == "oom_kill_disable 1"), "{control}");
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn update_changes_a_running_one() -> Result<()> {
    let (cli, name) = start(&["-m", "64m", "--cpu-period", "50000"])?;
    // Larger and smaller: the kernel wants the files in another order.
    for (memory, swap) in [("128m", "256m"), ("32m", "48m")] {
        cli.ok(["update", "-m", memory, "--memory-swap", swap, &name])?;
    }
    let flags = ["--memory-reservation", "16m", "--cpu-shares", "2048", "--cpuset-cpus", "0", "--cpu-quota", "30000"];
    cli.ok([&["update"], &flags[..], &["--pids-limit", "99", &name]].concat())?;
    expect(
        &cli,
        &name,
        &[
            ("memory/memory.limit_in_bytes", "33554432", "memory.max", "33554432"),
            ("memory/memory.memsw.limit_in_bytes", "50331648", "memory.swap.max", "16777216"),
            ("memory/memory.soft_limit_in_bytes", "16777216", "memory.low", "16777216"),
            ("cpu/cpu.shares", "2048", "cpu.weight", "174"),
            ("cpu/cpu.cfs_quota_us", "30000", "cpu.max", "30000 50000"),
            ("cpu/cpu.cfs_period_us", "50000", "cpu.max", "30000 50000"),
            ("cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
            ("pids/pids.max", "99", "pids.max", "99"),
        ],
    )?;
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuQuota}} {{.HostConfig.PidsLimit}}";
    assert_eq!(cli.inspect(&name, shown)?, "33554432 50331648 30000 99");
    // Memory alone: the sum with swap is as it was.
    cli.ok(["update", "-m", "40m", &name])?;
    expect(
        &cli,
        &name,
        &[
            ("memory/memory.limit_in_bytes", "41943040", "memory.max", "41943040"),
            ("memory/memory.memsw.limit_in_bytes", "50331648", "memory.swap.max", "8388608"),
        ],
    )?;
    cli.ok(["update", "--pids-limit", "-1", &name])?;
    expect(&cli, &name, &[("pids/pids.max", "max", "pids.max", "max")])?;
    // They hold after a restart too.
    cli.ok(["restart", "-t", "0", &name])?;
    expect(
        &cli,
        &name,
        &[
            ("memory/memory.limit_in_bytes", "41943040", "memory.max", "41943040"),
            ("cpu/cpu.cfs_quota_us", "30000", "cpu.max", "30000 50000"),
            ("pids/pids.max", "max", "pids.max", "max"),
        ],
    )?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn update_of_rates() -> Result<()> {
    if only_naru("dockerd keeps no rates of an update") {
        return Ok(());
    }
    let Some((path, numbers)) = disk() else {
        note("this machine has no disk");
        return Ok(());
    };
    let (cli, name) = start(&[])?;
    let body = serde_json::json!({"BlkioDeviceReadBps": [{"Path": path, "Rate": 4096}]});
    let answer = shared()?.http().post(&format!("/containers/{name}/update"), &body)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let (v1, v2) = (format!("{numbers} 4096"), format!("{numbers} rbps=4096 wbps=max riops=max wiops=max"));
    expect(&cli, &name, &[("blkio/blkio.throttle.read_bps_device", &v1, "io.max", &v2)])?;
    assert_eq!(cli.inspect(&name, "{{(index .HostConfig.BlkioDeviceReadBps 0).Rate}}")?, "4096");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn updates_that_contradict_are_refused() -> Result<()> {
    let (cli, name) = start(&["-m", "64m", "--cpus", "0.5"])?;
    for (flags, text) in [
        (
            ["-m", "512m"],
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (["--cpu-quota", "5000"], "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--cpuset-cpus", "4000"], "Requested CPUs are not available - requested 4000"),
    ] {
        let said = cli.fails(1, [&["update"], &flags[..], &[&name]].concat())?;
        assert!(said.contains(text), "{flags:?}: {said}");
    }
    // Nothing has changed.
    expect(&cli, &name, &[("memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864")])?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn limits_out_of_range_are_refused_in_dockers_words() -> Result<()> {
    let cli = shared()?.cli();
    for (flags, text) in [
        (&["-m", "5m"][..], "Minimum memory limit allowed is 6MB"),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (&["--memory-swap", "64m"], "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            &["-m", "32m", "--memory-reservation", "64m"],
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (&["--cpus", "4000"], "ange of CPUs is from 0.01 to"),
        (
            &["--cpu-period", "999"],
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (&["--cpu-quota", "999"], "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (&["--cpus", "1", "--cpu-quota", "5000"], "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (&["--cpuset-cpus", "4000"], "Requested CPUs are not available - requested 4000, available: 0"),
        (&["--cpuset-mems", "999"], "Requested memory nodes are not available - requested 999, available: 0"),
        (&["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus"),
    ] {
        let said = cli.fails(125, [&["run", "--rm"], flags, &["busybox", "true"]].concat())?;
        assert!(said.contains(text), "{flags:?}: {said}");
    }
    Ok(())
}

#[test]
fn stats_and_top_read_back() -> Result<()> {
    let (cli, name) = start(&["-m", "64m", "--pids-limit", "50"])?;
    assert_eq!(cli.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", &name])?, "1");
    let memory = cli.ok(["stats", "--no-stream", "--format", "{{.MemUsage}}", &name])?;
    assert!(memory.ends_with(" / 64MiB"), "{memory}");
    let http = shared()?.http();
    let value = http.get(&format!("/containers/{name}/stats?stream=false&one-shot=true"))?.json()?;
    assert_eq!(value["memory_stats"]["limit"], 67_108_864);
    assert_eq!((&value["pids_stats"]["current"], &value["pids_stats"]["limit"]), (&1.into(), &50.into()));
    assert!(value["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().is_some_and(|n| n > 0), "{value}");
    let rows = cli.ok(["top", &name])?;
    assert!(rows.lines().count() == 2 && rows.contains("sleep 100000"), "{rows}");
    let rows = cli.ok(["top", &name, "-o", "pid,comm"])?;
    assert!(rows.lines().nth(1).is_some_and(|line| line.trim().ends_with("sleep")), "{rows}");
    // What is read by a block device shows up as the kernel counts it, so only the form is known here.
    assert!(value["blkio_stats"].is_object() && value["networks"]["eth0"]["rx_bytes"].is_u64(), "{value}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_parent_of_its_own() -> Result<()> {
    let parent = unique("parent");
    let path = format!("/limits/{parent}");
    let (cli, name) = start(&["--cgroup-parent", &path, "--cgroupns", "host"])?;
    let groups = cli.ok(["exec", &name, "cat", "/proc/1/cgroup"])?;
    assert!(groups.lines().any(|line| line.contains(&format!("{path}/"))), "{groups}");
    let (private, other) = start(&["--cgroup-parent", &path, "--cgroupns", "private"])?;
    let groups = private.ok(["exec", &other, "cat", "/proc/1/cgroup"])?;
    assert!(!groups.contains(&parent), "{groups}");
    cli.ok(["rm", "-f", &name, &other])?;
    let said = cli.run(["run", "--rm", "--cgroup-parent", "/limits/../../up", "busybox", "true"])?;
    if !only_naru("dockerd takes the dots away") {
        assert!(said.code == 125 && said.stderr.contains("invalid cgroup parent"), "{said:?}");
    }
    // An end is seen wherever the group is.
    eventually("the containers to be gone", || {
        ensure!(cli.ok(["ps", "-aq", "--filter", &format!("name={name}")])?.is_empty(), "{name} is there");
        Ok(())
    })
}

#[test]
fn a_parent_for_all() -> Result<()> {
    let path = format!("/limits/{}", unique("all"));
    let args = ["--cgroup-parent", &path, "--exec-opt", "native.cgroupdriver=cgroupfs"].map(Into::into).to_vec();
    let mut engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let groups =
        engine.cli().ok(["run", "--rm", "--cgroupns", "host", "-m", "64m", "busybox", "cat", "/proc/1/cgroup"])?;
    assert!(groups.lines().any(|line| line.contains(&format!("{path}/"))), "{groups}");
    // Nothing is missing where the other tests pass.
    assert_eq!(
        engine.cli().ok(["info", "-f", "{{.CgroupDriver}} {{.MemoryLimit}} {{.PidsLimit}}"])?,
        "cgroupfs true true"
    );
    engine.finish()
}
