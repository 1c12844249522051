//! Numbers for Prometheus, in its text format, under docker's names where docker has them.

use crate::version::ENGINE_VERSION;
use bytes::Bytes;
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_engine::Engine;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The head of a request is no longer.
const HEAD_LIMIT: usize = 8 << 10;
/// A client has so long to ask and to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` on this address for as long as the future is polled.
///
/// # Errors
/// When the address can't be listened on; the text names it.
pub async fn serve_metrics(engine: Arc<Engine>, address: &str) -> Result<impl Future<Output = ()> + Send + use<>> {
    let parsed: std::net::SocketAddr = address
        .parse()
        .map_err(|_| Error::invalid(format!("invalid metrics address {address:?}: ADDRESS:PORT is needed")))?;
    let listener = TcpListener::bind(parsed).await.system(format!("cannot listen on {address} for metrics"))?;
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let engine = Arc::clone(&engine);
                    // A client that says nothing, or reads nothing, is let go.
                    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
                        if let Err(error) = answer(stream, &engine).await {
                            tracing::debug!("a client of the metrics: {error}");
                        }
                    }));
                }
                // Out of descriptors, most likely: that passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
}

async fn answer(mut stream: TcpStream, engine: &Engine) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let asked = head.starts_with(b"GET /metrics ") || head.starts_with(b"GET /metrics?");
    let (status, body) = if asked { ("200 OK", text(engine)) } else { ("404 Not Found", String::new()) };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&Bytes::from(head + &body)).await?;
    stream.shutdown().await
}

/// The page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A family of samples: labels with their braces, and values.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, String)]) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            self.0.push_str(&format!("{name}{labels} {value}\n"));
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help, &[("", value.to_string())]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help, &[("", value.to_string())]);
    }
}

fn text(engine: &Engine) -> String {
    let info = engine.info();
    let counts = engine.counts();
    let mut page = Page::default();
    let states = [("paused", info.paused), ("running", info.running), ("stopped", info.stopped)]
        .map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.to_string()));
    page.family(
        "engine_daemon_container_states_containers",
        "gauge",
        "The count of containers in various states",
        &states.each_ref().map(|(labels, value)| (labels.as_str(), value.clone())),
    );
    let cpus = "The number of cpus that the host system of the engine has";
    page.gauge("engine_daemon_engine_cpus_cpus", cpus, info.cpus);
    let labels = labels(&[
        ("architecture", &info.architecture),
        ("commit", ENGINE_VERSION),
        ("daemon_id", &info.id),
        ("graphdriver", "overlay2"),
        ("kernel", &info.kernel_version),
        ("os", &info.operating_system),
        ("os_type", "linux"),
        ("os_version", &info.os_version),
        ("version", ENGINE_VERSION),
    ]);
    let help = "The information related to the engine and the OS it is running on";
    page.family("engine_daemon_engine_info", "gauge", help, &[(&labels, "1".to_owned())]);
    let memory = "The number of bytes of memory that the host system of the engine has";
    page.gauge("engine_daemon_engine_memory_bytes", memory, info.memory);
    page.counter("engine_daemon_events_total", "The number of events logged", counts.events);
    page.counter("engine_daemon_health_checks_total", "The total number of health checks", counts.health_checks);
    let failed = "The total number of failed health checks";
    page.counter("engine_daemon_health_checks_failed_total", failed, counts.health_checks_failed);
    let restarts = "Containers that were started again by their policies";
    page.counter("naru_container_restarts_total", restarts, counts.restarts);
    page.counter("naru_container_deaths_total", "Ends of containers", counts.deaths);
    let lost = "Records of output that are in no log: the disk was full, or the buffer of the non-blocking mode";
    page.counter("naru_log_records_lost_total", lost, counts.log_records_lost);
    page.gauge("naru_images", "Images that are here", info.images);
    process(&mut page);
    page.0
}

/// What clients of Prometheus tell of their own process.
fn process(page: &mut Page) {
    const TICKS: f64 = 100.0;
    const KIB: u64 = 1024;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses: the state is field 3 (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let help = "Total user and system CPU time spent in seconds.";
        page.family("process_cpu_seconds_total", "counter", help, &[("", ((user + system) / TICKS).to_string())]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?;
        text.trim().parse::<u64>().ok().map(|n| n * KIB)
    };
    if let Some(bytes) = kib("VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Some(bytes) = kib("VmSize:") {
        page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes);
    }
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    page.gauge("process_open_fds", "Number of open file descriptors.", open);
}

/// Labels in their braces; values escaped as the text format demands.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[("a", "x"), ("b", "q\"\\\n")]), "{a=\"x\",b=\"q\\\"\\\\\\n\"}");
    }
}
