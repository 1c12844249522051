//! What runs: docker's `Config`.

use super::ports;
use crate::dto::config::{CreateBody, HealthConfig};
use naru_base::{Error, Result};
use naru_engine::types::ContainerConfig;

/// Least duration of a health check's settings, in nanoseconds.
const MIN_HEALTH_DURATION: i64 = 1_000_000;

/// The engine's form of it, checked.
///
/// # Errors
/// With docker's texts.
pub(crate) fn decode(body: &mut CreateBody) -> Result<ContainerConfig> {
    use std::mem::take;
    if !body.working_dir.is_empty() && !body.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            body.working_dir
        )));
    }
    if let Some(bad) = body.env.iter().find(|e| e.is_empty() || e.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {bad}")));
    }
    if !body.stop_signal.is_empty() && naru_base::signal::parse(&body.stop_signal).is_err() {
        return Err(Error::invalid(format!("Invalid signal: {}", body.stop_signal)));
    }
    if let Some(check) = &body.healthcheck {
        health(check)?;
    }
    Ok(ContainerConfig {
        hostname: take(&mut body.hostname),
        domainname: take(&mut body.domainname),
        user: take(&mut body.user),
        attach_stdin: body.attach_stdin,
        attach_stdout: body.attach_stdout,
        attach_stderr: body.attach_stderr,
        exposed_ports: ports::exposed(&body.exposed_ports.0)?,
        tty: body.tty,
        open_stdin: body.open_stdin,
        stdin_once: body.stdin_once,
        env: take(&mut body.env),
        cmd: body.cmd.take(),
        healthcheck: body.healthcheck.take().map(HealthConfig::into_engine),
        image: take(&mut body.image),
        volumes: take(&mut body.volumes.0),
        working_dir: take(&mut body.working_dir),
        entrypoint: body.entrypoint.take(),
        network_disabled: body.network_disabled,
        on_build: take(&mut body.on_build),
        labels: take(&mut body.labels),
        stop_signal: Some(take(&mut body.stop_signal)).filter(|s| !s.is_empty()),
        stop_timeout: body.stop_timeout,
        shell: body.shell.take(),
    })
}

fn health(check: &HealthConfig) -> Result<()> {
    for (value, name) in [
        (check.interval, "Interval"),
        (check.timeout, "Timeout"),
        (check.start_period, "StartPeriod"),
        (check.start_interval, "StartInterval"),
    ] {
        if value != 0 && value < MIN_HEALTH_DURATION {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tolerant;

    fn read(json: &str) -> Result<ContainerConfig> {
        decode(&mut tolerant::from_slice(json.as_bytes()).unwrap())
    }

    #[test]
    fn everything_is_taken_over() {
        let got = read(
            r#"{"Image":"bb","Cmd":"top","Entrypoint":["a","b"],"Env":["A=b","C"],"ExposedPorts":{"80":{}},"Volumes":{"/v":{}},
                "StopSignal":"SIGINT","StopTimeout":3,"Labels":{"a":"b"},"Healthcheck":{"Test":["CMD","true"],"Interval":5000000000}}"#,
        )
        .unwrap();
        assert_eq!(got.cmd, Some(vec!["top".into()]));
        assert_eq!(got.entrypoint.as_ref().map(Vec::len), Some(2));
        assert!(got.exposed_ports.contains("80/tcp") && got.volumes.contains("/v"));
        assert_eq!((got.stop_signal.as_deref(), got.stop_timeout), (Some("SIGINT"), Some(3)));
        assert_eq!(got.healthcheck.unwrap().interval, 5_000_000_000);
        assert_eq!(read(r#"{"Image":"x","Entrypoint":[]}"#).unwrap().entrypoint, Some(vec![]));
        assert_eq!(read(r#"{"Image":"x"}"#).unwrap().entrypoint, None);
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (json, text) in [
            (r#"{"WorkingDir":"foo"}"#, "the working directory 'foo' is invalid, it needs to be an absolute path"),
            (r#"{"Env":["=x"]}"#, "invalid environment variable: =x"),
            (r#"{"StopSignal":"foo"}"#, "Invalid signal: foo"),
            (r#"{"Healthcheck":{"Timeout":5}}"#, "Timeout in Healthcheck cannot be less than 1ms"),
            (r#"{"Healthcheck":{"Retries":-1}}"#, "Retries in Healthcheck cannot be negative"),
            (r#"{"ExposedPorts":{"foo":{}}}"#, "invalid port specification: \"foo\""),
        ] {
            assert_eq!(read(json).unwrap_err().message(), text);
        }
    }
}
