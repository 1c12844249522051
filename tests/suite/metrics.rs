//! Numbers for Prometheus.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use naru_tests::only_naru;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn prometheus_reads_them() -> Result<()> {
    if only_naru("Debian's dockerd wants its experimental mode for this") {
        return Ok(());
    }
    let args = vec!["--metrics-addr".into(), "127.0.0.1:9323".into()];
    let mut engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let ask = |path: &str| -> Result<String> {
        let address = format!("http://127.0.0.1:9323{path}");
        let output = engine.world().command("busybox").args(["wget", "-q", "-O", "-", &address]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let number = |name: &str| -> Result<u64> {
        let text = ask("/metrics")?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name} in {text}"))?;
        Ok(line.trim().parse()?)
    };
    cli.ok(["run", "-d", "--name", "up", "busybox", "sleep", "1000"])?;
    cli.ok(["run", "-d", "--name", "fails", "--restart", "on-failure:1", "busybox", "false"])?;
    cli.wait_for("fails", "{{.State.Status}} {{.RestartCount}}", "exited 1")?;
    assert_eq!(number("engine_daemon_container_states_containers{state=\"running\"} ")?, 1);
    assert_eq!(number("engine_daemon_container_states_containers{state=\"stopped\"} ")?, 1);
    assert_eq!(number("naru_container_restarts_total ")?, 1);
    assert_eq!(number("naru_container_deaths_total ")?, 2);
    assert!(number("engine_daemon_events_total ")? > 3);
    let page = ask("/metrics")?;
    let families = parse(&page).with_context(|| page.clone())?;
    for (name, kind) in [
        ("engine_daemon_engine_info", "gauge"),
        ("engine_daemon_engine_cpus_cpus", "gauge"),
        ("engine_daemon_engine_memory_bytes", "gauge"),
        ("engine_daemon_health_checks_total", "counter"),
        ("engine_daemon_health_checks_failed_total", "counter"),
        ("naru_log_records_lost_total", "counter"),
        ("naru_images", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
    ] {
        assert_eq!(families.get(name).map(String::as_str), Some(kind), "{name}");
    }
    assert!(ask("/else").is_err());
    cli.ok(["stop", "-t", "0", "up"])?;
    eventually("a third death", || {
        ensure!(number("naru_container_deaths_total ")? == 3, "not yet");
        Ok::<_, anyhow::Error>(())
    })?;
    engine.finish()
}

/// The families of a page and their types, after a strict reading of Prometheus' text format: each family stands together, behind its own HELP
/// and TYPE, and has samples; names, labels and values are of the form that they have to be; no sample comes twice.
fn parse(page: &str) -> Result<BTreeMap<String, String>> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .enumerate()
                .all(|(at, b)| b == b'_' || b == b':' || b.is_ascii_alphabetic() || at > 0 && b.is_ascii_digit())
    };
    ensure!(page.ends_with('\n') && !page.contains('\r'), "line ends");
    let (mut families, mut samples) = (BTreeMap::new(), BTreeSet::new());
    let (mut helped, mut current) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("a help text")?;
            ensure!(is_name(name) && !help.is_empty(), "{line}");
            ensure!(
                samples.iter().any(|s: &String| s.starts_with(&current)) || current.is_empty(),
                "no sample: {current}"
            );
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type")?;
            ensure!(name == helped && ["counter", "gauge"].contains(&kind), "{line}");
            ensure!((kind == "counter") == name.ends_with("_total"), "{line}");
            ensure!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {name}");
            name.clone_into(&mut current);
        } else {
            let (key, value) = line.rsplit_once(' ').context("a value")?;
            let (name, labels) = key.split_once('{').map_or((key, None), |(n, l)| (n, Some(l)));
            ensure!(name == current && is_name(name), "out of its family: {line}");
            ensure!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            if let Some(labels) = labels {
                let mut rest = labels.strip_suffix('}').context("a brace")?;
                while !rest.is_empty() {
                    let (label, after) = rest.split_once("=\"").context("a label")?;
                    ensure!(is_name(label) && !label.contains(':'), "{line}");
                    let mut end = None;
                    let mut escaped = false;
                    for (at, c) in after.char_indices() {
                        match c {
                            _ if escaped => {
                                ensure!(['\\', '"', 'n'].contains(&c), "escaped {c}: {line}");
                                escaped = false;
                            }
                            '\\' => escaped = true,
                            '"' => {
                                end = Some(at);
                                break;
                            }
                            _ => {}
                        }
                    }
                    rest = &after[end.context("a quote")? + 1..];
                    rest = rest.strip_prefix(',').unwrap_or(rest);
                }
            }
            ensure!(samples.insert(key.to_owned()), "twice: {key}");
        }
    }
    Ok(families)
}
