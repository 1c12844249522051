//! Choosing what of a log is told, by time and by number, for each driver; times that go back; and logs of any bytes.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually, shared, unique};
use naru_tests::only_naru;
use std::path::Path;

const DRIVERS: [&str; 2] = ["json-file", "local"];

/// An entry of a log file: nanoseconds since the Unix epoch, and a line without its end.
type Entry<'a> = (i64, &'a str);

fn json_file(entries: &[Entry<'_>]) -> Vec<u8> {
    let line = |(time, text): &Entry<'_>| {
        let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
        // All moments of these tests are in one minute.
        format!(
            "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:{:02}.{nanos:09}Z\"}}\n",
            seconds - MINUTE
        )
    };
    entries.iter().map(line).collect::<String>().into_bytes()
}

/// 2023-11-14T22:13:00Z.
const MINUTE: i64 = 1_699_999_980;

fn local(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for (time, text) in entries {
        let mut record = vec![0x0a, 6];
        record.extend(b"stdout");
        record.push(0x10);
        let mut rest = time.cast_unsigned();
        while rest >= 0x80 {
            record.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        record.push(rest as u8);
        record.extend([0x1a, text.len() as u8]);
        record.extend(text.as_bytes());
        let length = (record.len() as u32).to_be_bytes();
        all.extend([&length[..], &record, &length].concat());
    }
    all
}

/// A second of that minute, in nanoseconds.
fn at(second: i64) -> i64 {
    (MINUTE + second) * 1_000_000_000
}

/// A container that has ended, whose log is these entries; its name.
fn with_log(engine: &Engine, cli: &Client, driver: &str, entries: &[Entry<'_>]) -> Result<String> {
    let name = unique("times");
    cli.ok(["run", "--name", &name, "--log-driver", driver, "busybox", "true"])?;
    let id = cli.inspect(&name, "{{.Id}}")?;
    let folder = engine.data_root().join("containers").join(&id);
    let (file, bytes) = match driver {
        "local" => (folder.join("local-logs/container.log"), local(entries)),
        _ => (folder.join(format!("{id}-json.log")), json_file(entries)),
    };
    write(engine, &file, &bytes)?;
    Ok(name)
}

/// Writes a file of the engine's, where it sees it.
fn write(engine: &Engine, file: &Path, bytes: &[u8]) -> Result<()> {
    let aside = std::env::temp_dir().join(unique("log-file"));
    std::fs::write(&aside, bytes)?;
    let copied = engine.world().command("cp").arg(&aside).arg(file).output()?;
    std::fs::remove_file(&aside)?;
    ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    Ok(())
}

#[test]
fn times_and_numbers_choose() -> Result<()> {
    let engine = shared()?;
    let cli = engine.docker();
    let entries: Vec<(i64, String)> = (0..10).map(|n| (at(10 + n), format!("line {n}"))).collect();
    let entries: Vec<Entry<'_>> = entries.iter().map(|(time, text)| (*time, text.as_str())).collect();
    for driver in DRIVERS {
        let name = with_log(engine, &cli, driver, &entries)?;
        let chosen = |flags: &[&str]| -> Result<String> {
            let said = cli.ok([&["logs"], flags, &[&name]].concat())?;
            Ok(said.lines().map(|line| line.rsplit(' ').next().unwrap_or_default()).collect())
        };
        let second = |n: i64| (MINUTE + n).to_string();
        for (flags, expected) in [
            (&[][..], "0123456789"),
            (&["--since", &second(13)], "3456789"),
            (&["--since", &format!("{}.000000001", second(13))], "456789"),
            (&["--since", "2023-11-14T22:13:17Z"], "789"),
            (&["--until", &second(12)], "012"),
            (&["--until", &format!("{}.999999999", second(11))], "01"),
            (&["--since", &second(12), "--until", &second(15)], "2345"),
            (&["--since", &second(30)], ""),
            (&["--until", &second(1)], ""),
            (&["-n", "0"], ""),
            (&["-n", "3"], "789"),
            (&["-n", "30"], "0123456789"),
            (&["-n", "all"], "0123456789"),
            (&["-n", "2", "--since", &second(15)], "89"),
            (&["-f", "-n", "2"], "89"),
            (&["-f", "--until", &second(12)], "012"),
        ] {
            assert_eq!(chosen(flags)?, expected, "{driver} {flags:?}");
        }
        if Target::from_env() == Target::Naru {
            // dockerd takes the last lines first.
            assert_eq!(chosen(&["-n", "2", "--until", &second(15)])?, "45", "{driver}");
        }
        let told = cli.run(["logs", "-t", "-n", "1", &name])?.stdout;
        assert_eq!(told, "2023-11-14T22:13:19.000000000Z line 9\n", "{driver}");
        let told = cli.run(["logs", "-t", "--details", "-n", "1", &name])?.stdout;
        assert_eq!(told, "2023-11-14T22:13:19.000000000Z  line 9\n", "{driver}");
        cli.ok(["rm", &name])?;
    }
    Ok(())
}

#[test]
fn a_clock_that_jumps_hides_nothing() -> Result<()> {
    if only_naru("dockerd stops at the first line that is too late") {
        return Ok(());
    }
    let engine = shared()?;
    let cli = engine.docker();
    // Ten seconds ahead, back, and further back than the beginning.
    let times = [(20, "a"), (21, "b"), (31, "c"), (22, "d"), (23, "e"), (5, "f"), (6, "g")];
    let entries: Vec<Entry<'_>> = times.iter().map(|(second, text)| (at(*second), *text)).collect();
    for driver in DRIVERS {
        let name = with_log(engine, &cli, driver, &entries)?;
        let second = |n: i64| (MINUTE + n).to_string();
        for (flags, expected) in [
            (&[][..], "abcdefg"),
            (&["--since", &second(22)], "cde"),
            (&["--until", &second(22)], "abdfg"),
            (&["--since", &second(6), "--until", &second(21)], "abg"),
            (&["-n", "3"], "efg"),
            (&["-n", "2", "--since", &second(20)], "de"),
            (&["-f", "-n", "3"], "efg"),
        ] {
            let said = cli.ok([&["logs"], flags, &[&name]].concat())?;
            assert_eq!(said.lines().collect::<String>(), expected, "{driver} {flags:?}");
        }
        cli.ok(["rm", &name])?;
    }
    Ok(())
}

#[test]
fn a_line_without_an_end_takes_no_memory() -> Result<()> {
    if only_naru("its monitor is looked at") {
        return Ok(());
    }
    const MEGABYTES: u64 = 100;
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.docker();
    for driver in DRIVERS {
        let script = format!(
            "tr '\\0' x </dev/zero | head -c {}; touch /dev/shm/said; while [ ! -e /dev/shm/end ]; do sleep 0.05; done",
            MEGABYTES << 20
        );
        let flags = ["--log-driver", driver, "--log-opt", "max-size=4m", "--log-opt", "max-file=2"];
        cli.ok([&["run", "-d", "--name", "endless"], &flags[..], &["busybox", "sh", "-c", &script]].concat())?;
        eventually("it to be said", || cli.ok(["exec", "endless", "test", "-e", "/dev/shm/said"]))?;
        let pid = cli.inspect("endless", "{{.State.Pid}}")?;
        let parent = parent(&engine, &pid)?;
        let status =
            String::from_utf8(engine.world().command("cat").arg(format!("/proc/{parent}/status")).output()?.stdout)?;
        let peak: u64 = field(&status, "VmHWM:")?.trim_end_matches(" kB").trim().parse()?;
        ensure!(peak < 32 << 10, "the monitor took {peak} kB");
        // What is kept is pieces of it, and following it ends.
        let follow = cli.start(["logs", "-f", "-n", "3", "endless"])?;
        cli.ok(["exec", "endless", "touch", "/dev/shm/end"])?;
        let told = follow.finish()?;
        let text = told.stdout.bytes().filter(|b| *b == b'x').count();
        ensure!(told.code == 0 && text >= 2 * 16384, "{driver}: {text} bytes");
        ensure!(told.stdout.len() < 1 << 20, "{driver}: {} bytes", told.stdout.len());
        let whole = cli.run(["logs", "endless"])?.stdout.len() as u64;
        ensure!(whole > 1 << 18 && whole < MEGABYTES << 20, "{driver}: {whole} bytes");
        cli.ok(["rm", "endless"])?;
    }
    engine.finish()
}

fn field<'a>(status: &'a str, key: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    Ok(line.with_context(|| format!("no {key} in {status}"))?.trim())
}

/// The monitor of a container, by its first process: that one's parent.
fn parent(engine: &Engine, pid: &str) -> Result<String> {
    let output = engine.world().command("cat").arg(format!("/proc/{pid}/status")).output()?;
    Ok(field(&String::from_utf8(output.stdout)?, "PPid:")?.to_owned())
}

#[test]
fn what_is_lost_is_in_inspect() -> Result<()> {
    if only_naru("dockerd counts nothing") {
        return Ok(());
    }
    let (cli, name) = (shared()?.naru(), unique("lossy"));
    // Far more than a buffer of a few bytes can take.
    let flags = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=1k"];
    cli.ok([&["run", "-d", "--name", &name], &flags[..], &["busybox", "seq", "1", "300000"]].concat())?;
    cli.ok(["wait", &name])?;
    let kept = cli.ok(["logs", &name])?.lines().count();
    let lost = cli.inspect(&name, "{{json .State.LogLost}}")?;
    if kept == 300_000 {
        assert_eq!(lost, "null");
    } else {
        let lost: serde_json::Value = serde_json::from_str(&lost)?;
        ensure!(lost["Reason"].as_str().is_some_and(|r| r.contains("max-buffer-size")), "{lost}");
        ensure!(lost["LastAt"].as_str().is_some_and(|t| t.ends_with('Z')), "{lost}");
        let records = lost["Records"].as_u64().unwrap_or_default();
        ensure!(records + kept as u64 == 300_000, "{lost}, {kept} kept");
    }
    cli.ok(["rm", &name])?;
    Ok(())
}
