//! A fake hub for `search`.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::Result;

use crate::engine::Engine;
use crate::server::{Message, Server};

/// A hub that answers `/v1/search` (and the pings that come before it).
pub struct HubSearch {
    server: Server,
}

impl HubSearch {
    /// Starts one on `port` of the engine's loopback. It knows the images `names`, each with a description.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(engine: &Engine, port: u16, names: &[(&str, &str, u32)]) -> Result<HubSearch> {
        let results: Vec<serde_json::Value> = names
            .iter()
            .map(|(name, description, stars)| {
                serde_json::json!({"name": name, "description": description, "star_count": stars,
                    "is_official": !name.contains('/'), "is_automated": false, "is_trusted": false})
            })
            .collect();
        let server = Server::start(engine, port, Arc::default(), move |stream| answer_search(stream, &results))?;
        Ok(HubSearch { server })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }
}

fn answer_search(mut stream: TcpStream, results: &[serde_json::Value]) -> Result<()> {
    let request = Message::request(&stream)?;
    let path = request.head[0].split(' ').nth(1).unwrap_or("/");
    let (status, body) = if path.starts_with("/v1/_ping") {
        ("200 OK", serde_json::json!({"standalone": true}))
    } else if let Some(query) = path.strip_prefix("/v1/search?") {
        let term = query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default();
        let found: Vec<_> = results.iter().filter(|r| r["name"].as_str().is_some_and(|n| n.contains(term))).collect();
        ("200 OK", serde_json::json!({"query": term, "num_results": found.len(), "results": found}))
    } else {
        ("404 Not Found", serde_json::json!({}))
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Docker-Registry-Version: 0.9\r\n\
         X-Docker-Registry-Standalone: true\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(())
}
