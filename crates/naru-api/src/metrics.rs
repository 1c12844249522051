//! Numbers for Prometheus, in its text format, under docker's names where docker has them.

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

fn text(engine: &Engine) -> String {
    let info = engine.info();
    let counts = engine.counts();
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in values {
            out.push_str(&format!("{name}{labels} {value}\n"));
        }
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    metric(
        "engine_daemon_container_states_containers",
        "gauge",
        "The count of containers in various states",
        &[
            ("{state=\"paused\"}", count(info.paused)),
            ("{state=\"running\"}", count(info.running)),
            ("{state=\"stopped\"}", count(info.stopped)),
        ],
    );
    metric(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        &[("", count(info.cpus))],
    );
    metric(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        &[("", info.memory)],
    );
    metric("engine_daemon_events_total", "counter", "The number of events logged", &[("", counts.events)]);
    metric(
        "engine_daemon_health_checks_total",
        "counter",
        "The total number of health checks",
        &[("", counts.health_checks)],
    );
    metric(
        "engine_daemon_health_checks_failed_total",
        "counter",
        "The total number of failed health checks",
        &[("", counts.health_checks_failed)],
    );
    metric(
        "naru_container_restarts_total",
        "counter",
        "Containers that were started again by their policies",
        &[("", counts.restarts)],
    );
    metric("naru_container_deaths_total", "counter", "Ends of containers", &[("", counts.deaths)]);
    metric(
        "naru_log_records_lost_total",
        "counter",
        "Records of output that are in no log: the disk was full, or the buffer of the non-blocking mode",
        &[("", counts.log_records_lost)],
    );
    metric("naru_images", "gauge", "Images that are here", &[("", count(info.images))]);
    out
}
