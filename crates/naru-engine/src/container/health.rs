//! Health checks: what a container's settings mean, decided once for its monitor, which does the checking; and what becomes of its reports.

use super::history::{What, note};
use super::{Container, Record};
use crate::Engine;
use crate::types::{ContainerConfig, ExecSettings, HealthState, HealthStatus, Healthcheck, Status};
use naru_base::{Error, Result, signal};
use naru_monitor::protocol::{HealthPlan, HealthReport, OnUnhealthy, Probe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Asks for what is done with a container that becomes unhealthy: `none`, `kill`, `stop` or `restart`.
pub(crate) const ON_FAILURE_LABEL: &str = "naru.health-on-failure";
const SIGTERM: i32 = 15;
/// docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The port of an `http://` address without one.
const HTTP_PORT: u16 = 80;

/// A check as asked for.
#[derive(Debug, PartialEq, Eq)]
enum Test {
    Command(Vec<String>),
    Http { address: SocketAddr, other: Option<SocketAddr>, host: String, path: String },
    Tcp { address: SocketAddr, other: Option<SocketAddr> },
}

impl Engine {
    /// How its health is to be checked, if it is.
    pub(crate) fn health_plan(&self, record: &Record) -> Result<Option<HealthPlan>> {
        let Some(check) = &record.config.healthcheck else { return Ok(None) };
        let Some(test) = test(&record.config, check)? else { return Ok(None) };
        let probe = match test {
            Test::Command(command) => {
                let settings = ExecSettings { command, ..ExecSettings::default() };
                Probe::Command(Box::new(self.exec_process(record, &settings)?))
            }
            Test::Http { address, other, host, path } => Probe::Http { address, other, host, path },
            Test::Tcp { address, other } => Probe::Tcp { address, other },
        };
        let stop_signal = record.config.stop_signal.as_deref().and_then(|s| signal::parse(s).ok());
        Ok(Some(HealthPlan {
            probe,
            interval: duration_or(check.interval, INTERVAL),
            timeout: duration_or(check.timeout, TIMEOUT),
            start_period: duration_or(check.start_period, Duration::ZERO),
            start_interval: duration_or(check.start_interval, START_INTERVAL),
            retries: u32::try_from(check.retries).ok().filter(|n| *n > 0).unwrap_or(RETRIES),
            on_unhealthy: on_unhealthy(&record.config)?,
            stop_signal: stop_signal.unwrap_or(SIGTERM),
            stop_timeout: record
                .config
                .stop_timeout
                .and_then(|s| u64::try_from(s).ok())
                .map_or(STOP_TIMEOUT, Duration::from_secs),
        }))
    }

    /// A check has ended. docker tells of it as of any exec.
    pub(crate) fn health_checked(&self, container: &Container, report: HealthReport) {
        let HealthReport { check, result, status, failing_streak, .. } = report;
        self.counters.health_checks.add();
        if result.exit_code != 0 {
            self.counters.health_checks_failed.add();
        }
        let exit_code = result.exit_code.to_string();
        let (command, changed) = container.change(|r| {
            let health = r.state.health.get_or_insert_default();
            // Not what the monitor says: a pause has changed it, too.
            let changed = std::mem::replace(&mut health.status, status) != status;
            health.failing_streak = failing_streak;
            let said = result.output.clone();
            health.remember(result);
            if changed {
                note(&mut r.state.history, crate::clock::now(), What::health(status, &said));
            }
            let test = r.config.healthcheck.as_ref().and_then(|check| test(&r.config, check).ok().flatten());
            let command = match test {
                Some(Test::Command(command)) => Some(command.join(" ")),
                _ => None,
            };
            (command, changed)
        });
        if let Some(command) = command {
            let id = ("execID", check.as_str());
            self.container_event(container, &format!("exec_create: {command}"), &[id]);
            self.container_event(container, &format!("exec_start: {command}"), &[id]);
            self.container_event(container, "exec_die", &[id, ("exitCode", &exit_code)]);
        }
        if changed {
            self.container_event(container, &format!("health_status: {}", status.as_str()), &[]);
        }
    }
}

impl Engine {
    /// What a monitor knows that an engine has met: what has changed without an engine is told now, with the time at which it did.
    pub(crate) fn health_taken_up(&self, container: &Container, state: &HealthState) {
        let now = container.change(|r| {
            let health = r.state.health.get_or_insert_default();
            for result in &state.log {
                if !health.log.contains(result) {
                    health.remember(result.clone());
                }
            }
            health.failing_streak = state.failing_streak;
            let status = if r.state.status == Status::Paused { HealthStatus::Unhealthy } else { state.status };
            let changed = std::mem::replace(&mut health.status, status) != status;
            let last = health.log.last().cloned();
            if let (true, Some(last)) = (changed, last) {
                note(&mut r.state.history, last.end, What::health(status, &last.output));
            }
            changed.then_some(status)
        });
        if let Some(status) = now {
            self.container_event(container, &format!("health_status: {}", status.as_str()), &[]);
        }
    }
}

/// What a container that begins to run is, and what one that has ended is, as docker has it.
pub(crate) fn after_change(record: &mut Record, runs: bool) {
    let checked = record.config.healthcheck.as_ref().is_some_and(|c| matches!(test(&record.config, c), Ok(Some(_))));
    record.state.health = match (checked, runs) {
        (false, _) => None,
        (true, true) => {
            let log = record.state.health.take().unwrap_or_default().log;
            Some(HealthState { log, ..HealthState::default() })
        }
        (true, false) => {
            let last = record.state.health.take().unwrap_or_default();
            Some(HealthState { status: HealthStatus::Unhealthy, ..last })
        }
    };
}

/// Refuses a check that can't be done.
///
/// # Errors
/// The text names what is wrong.
pub(crate) fn check(config: &ContainerConfig) -> Result<()> {
    on_unhealthy(config)?;
    config.healthcheck.as_ref().map_or(Ok(()), |check| test(config, check).map(|_| ()))
}

fn on_unhealthy(config: &ContainerConfig) -> Result<OnUnhealthy> {
    match config.labels.get(ON_FAILURE_LABEL).map(String::as_str) {
        None | Some("" | "none") => Ok(OnUnhealthy::None),
        Some("kill") => Ok(OnUnhealthy::Kill),
        Some("stop") => Ok(OnUnhealthy::Stop),
        Some("restart") => Ok(OnUnhealthy::Restart),
        Some(other) => Err(Error::invalid(format!(
            "invalid value {other:?} of {ON_FAILURE_LABEL}: use one of none, kill, stop, restart"
        ))),
    }
}

/// `NONE`, an empty test and an unknown first word check nothing, as in docker. One word that is an `http://` or `tcp://` address is a probe.
fn test(config: &ContainerConfig, check: &Healthcheck) -> Result<Option<Test>> {
    let Some((kind, rest)) = check.test.split_first() else { return Ok(None) };
    let command = match kind.as_str() {
        "CMD" | "CMD-SHELL" if rest.is_empty() => return Ok(None),
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => {
            let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            shell.into_iter().chain(rest.iter().cloned()).collect()
        }
        _ => return Ok(None),
    };
    if let [word] = rest
        && let Some((scheme, address)) = word.trim().split_once("://")
        && !address.contains(char::is_whitespace)
    {
        return match scheme {
            "http" => http(address).map(Some),
            "tcp" => socket_address(address, None).map(|(address, other)| Some(Test::Tcp { address, other })),
            "https" => Err(bad(word, "https is not spoken; use a command")),
            _ => Ok(Some(Test::Command(command))),
        };
    }
    Ok(Some(Test::Command(command)))
}

fn bad(given: &str, why: &str) -> Error {
    Error::invalid(format!("invalid health check {given:?}: {why}"))
}

fn http(rest: &str) -> Result<Test> {
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(rest, "a path is of printable ASCII characters"));
    }
    let (address, other) = socket_address(host, Some(HTTP_PORT))?;
    Ok(Test::Http { address, other, host: host.to_owned(), path: path.to_owned() })
}

/// `localhost` or an address, and a port: names are not looked up, so that a check is about the container and nothing else. `localhost` has a
/// second address, for a server that listens on IPv6 alone.
fn socket_address(text: &str, port: Option<u16>) -> Result<(SocketAddr, Option<SocketAddr>)> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()),
        _ => (text, port),
    };
    let ip = match host {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    };
    match (ip, port) {
        (Some(ip), Some(port)) => {
            let other = (host == "localhost").then(|| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
            Ok((SocketAddr::new(ip, port), other))
        }
        (None, _) => Err(bad(text, "the host can be localhost or an IP address")),
        (_, None) => Err(bad(text, "a port is needed, such as localhost:8080")),
    }
}

fn duration_or(nanoseconds: i64, default: Duration) -> Duration {
    u64::try_from(nanoseconds).ok().filter(|n| *n > 0).map_or(default, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Test>> {
        let check = Healthcheck { test: words.iter().map(|w| (*w).to_owned()).collect(), ..Healthcheck::default() };
        test(&ContainerConfig::default(), &check)
    }

    #[test]
    fn commands_and_nothing() {
        let command = |words: &[&str]| Some(Test::Command(words.iter().map(|w| (*w).to_owned()).collect()));
        assert_eq!(parsed(&["CMD", "true", "x"]).unwrap(), command(&["true", "x"]));
        assert_eq!(parsed(&["CMD-SHELL", "a | b"]).unwrap(), command(&["/bin/sh", "-c", "a | b"]));
        let curl = "curl http://localhost/";
        assert_eq!(parsed(&["CMD-SHELL", curl]).unwrap(), command(&["/bin/sh", "-c", curl]));
        for nothing in [&[][..], &["NONE"], &["CMD"], &["else", "true"]] {
            assert_eq!(parsed(nothing).unwrap(), None, "{nothing:?}");
        }
    }

    #[test]
    fn probes_are_addresses() {
        let http = |text: &str| match parsed(&["CMD-SHELL", text]).unwrap() {
            Some(Test::Http { address, host, path, .. }) => format!("{address} {host} {path}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(http("http://localhost"), "127.0.0.1:80 localhost /");
        assert_eq!(http("http://localhost:8080/up?x=1"), "127.0.0.1:8080 localhost:8080 /up?x=1");
        assert_eq!(http(" http://[::1]:81/ "), "[::1]:81 [::1]:81 /");
        assert_eq!(http("http://[::1]/"), "[::1]:80 [::1] /");
        let tcp = |address: &str, other: Option<&str>| {
            let [address, other] = [Some(address), other].map(|a| a.map(|a| a.parse::<SocketAddr>().unwrap()));
            address.map(|address| Test::Tcp { address, other })
        };
        assert_eq!(parsed(&["CMD", "tcp://10.0.0.1:5432"]).unwrap(), tcp("10.0.0.1:5432", None));
        assert_eq!(parsed(&["CMD", "tcp://localhost:53"]).unwrap(), tcp("127.0.0.1:53", Some("[::1]:53")));
        for wrong in ["http://web/", "tcp://localhost", "https://localhost/", "http://localhost:x/", "tcp://web:1"] {
            assert!(parsed(&["CMD-SHELL", wrong]).unwrap_err().message().contains("invalid health check"), "{wrong}");
        }
    }
}
