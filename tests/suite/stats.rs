//! What containers use, and `top`.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{eventually, shared, unique};
use serde_json::Value;
use std::time::Instant;

/// Processor time of a container and of the machine in nanoseconds, and the processors that are on.
fn times(sample: &Value) -> Result<(u64, u64, u64)> {
    let number = |value: &Value| value.as_u64().with_context(|| format!("a number in {sample}"));
    let cpu = &sample["cpu_stats"];
    Ok((number(&cpu["cpu_usage"]["total_usage"])?, number(&cpu["system_cpu_usage"])?, number(&cpu["online_cpus"])?))
}

#[test]
fn a_busy_loop_is_seen_as_one() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.docker(), unique("busy"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", "while :; do :; done"])?;
    let path = format!("/containers/{name}/stats?stream=0&one-shot=1");
    let sample = || engine.http().get(&path)?.json();
    let begin = Instant::now();
    let first = times(&sample()?)?;
    // However little it gets on a busy machine.
    let second = eventually("it to have run for a while", || {
        let second = times(&sample()?)?;
        ensure!(second.0 >= first.0 + 200_000_000, "{second:?}");
        Ok::<_, anyhow::Error>(second)
    })?;
    // It can't have had more than one processor.
    let (used, passed) = (second.0 - first.0, begin.elapsed().as_nanos());
    ensure!(u128::from(used) <= passed + passed / 20, "{used} of {passed} ns");
    ensure!(second.1 > first.1, "the machine's time stands still");
    let online = std::fs::read_to_string("/proc/stat")?.lines().filter(|l| l.starts_with("cpu")).count() - 1;
    assert_eq!(second.2, online as u64);
    eventually("docker's client to show it", || {
        let shown = cli.ok(["stats", "--no-stream", "--format", "{{.CPUPerc}}", &name])?;
        let percent: f64 = shown.trim_end_matches('%').parse()?;
        ensure!(percent > 0.0 && percent.is_finite(), "{shown}");
        Ok::<_, anyhow::Error>(())
    })?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn samples_stream_for_each_container() -> Result<()> {
    let engine = shared()?;
    let cli = engine.docker();
    let names: Vec<String> = (0..5).map(|_| unique("many")).collect();
    for name in &names {
        cli.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
    }
    let format = ["stats", "--format", "{{.Name}} {{.PIDs}} {{.NetIO}} {{.BlockIO}}"];
    let shown = cli.start(format.into_iter().chain(names.iter().map(String::as_str)))?;
    for name in &names {
        shown.expect(&format!("{name} 1 "))?;
    }
    drop(shown);
    let (_, mut stream) = engine.http().stream("GET", &format!("/containers/{}/stats", names[0]))?;
    let text = String::from_utf8_lossy(&stream.until("\"networks\"")?).into_owned();
    ensure!(text.contains("0001-01-01T00:00:00Z"), "the first one has none before it: {text}");
    stream.until("\"precpu_stats\":{\"cpu_usage\":{\"total_usage\":")?;
    // One that doesn't run has nothing, and one that goes ends the stream.
    cli.ok(["stop", "-t", "0", &names[0]])?;
    let stopped = engine.http().get(&format!("/containers/{}/stats?stream=0", names[0]))?.json()?;
    ensure!(
        stopped["read"] == "0001-01-01T00:00:00Z" && stopped["cpu_stats"]["cpu_usage"]["total_usage"] == 0,
        "{stopped}"
    );
    for name in &names {
        cli.ok(["rm", "-f", name])?;
    }
    stream.until("0\r\n\r\n")?;
    let gone = engine.http().get(&format!("/containers/{}/stats", names[0]))?;
    ensure!(gone.status == 404, "{}", gone.text());
    Ok(())
}

#[test]
fn top_takes_options_of_ps() -> Result<()> {
    let (cli, name) = (shared()?.docker(), unique("top"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", "sleep 1000; true"])?;
    eventually("both processes", || {
        let said = cli.ok(["top", &name])?;
        ensure!(said.contains("sleep 1000") && said.lines().count() == 3, "{said}");
        Ok::<_, anyhow::Error>(())
    })?;
    let titles = |args: &[&str]| -> Result<Vec<String>> {
        let said = cli.ok([&["top", &name], args].concat())?;
        Ok(said.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect())
    };
    assert_eq!(titles(&[])?, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(titles(&["-o", "pid,comm"])?, ["PID", "COMMAND"]);
    assert_eq!(titles(&["-eo", "pid,ppid,args"])?, ["PID", "PPID", "COMMAND"]);
    assert_eq!(titles(&["aux"])?[..3], ["USER", "PID", "%CPU"]);
    let said = cli.ok(["top", &name, "-eo", "pid,args"])?;
    ensure!(said.lines().any(|l| l.trim_end().ends_with("sleep 1000")) && said.lines().count() == 3, "{said}");
    let said = cli.fails(1, ["top", &name, "-o", "comm"])?;
    ensure!(said.contains("Couldn't find PID field in ps output"), "{said}");
    let said = cli.fails(1, ["top", &name, "--nonsense"])?;
    ensure!(said.contains("ps"), "{said}");
    cli.ok(["stop", "-t", "0", &name])?;
    let said = cli.fails(1, ["top", &name])?;
    ensure!(said.contains("is not running"), "{said}");
    cli.ok(["rm", &name])?;
    Ok(())
}
