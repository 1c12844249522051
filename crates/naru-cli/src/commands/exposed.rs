//! `network exposed`: which ports of which containers other machines reach, and by which rule.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

const HEADER: [&str; 5] = ["CONTAINER", "PORT", "ADDRESS", "REACH", "BY"];

/// Runs the command.
pub fn exposed(context: &mut Context, m: &Matches) -> Outcome {
    let format = m.str("format");
    if !matches!(format, "" | "json") {
        return Err(Failure::new(format!("unknown format {format:?}: it can be json")));
    }
    let all: Vec<Value> = context.get("/naru/exposed")?;
    if format == "json" {
        context.printer.line(Value::from(all).to_string())?;
        return Ok(0);
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(all.iter().flat_map(of_port));
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        context.printer.line(format!("{line}{}", row[4]).trim_end())?;
    }
    Ok(0)
}

/// A line for each address at which others see a port.
fn of_port(port: &Value) -> Vec<[String; 5]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = port["HostPort"].as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    let address = |ip: &str| match ip.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, number).to_string(),
        Err(_) => format!("{ip}:{number}"),
    };
    let row = |ip: &Value, reach: &str, by: String| {
        [text(&port["Name"]), text(&port["Port"]), address(ip.as_str().unwrap_or_default()), reach.to_owned(), by]
    };
    let at = port["At"].as_array().map(Vec::as_slice).unwrap_or_default();
    if at.is_empty() {
        let by = "no other machine has a way to this address".to_owned();
        return vec![row(&port["HostIp"], "local", by)];
    }
    at.iter()
        .map(|at| {
            let rules: Vec<String> = at["Rules"].as_array().into_iter().flatten().map(text).collect();
            let by = if rules.is_empty() { "no rule drops it".to_owned() } else { rules.join("; ") };
            row(&at["Address"], &text(&at["Reach"]), by)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_address() {
        let at = json!([
            {"Address": "192.0.2.1", "Reach": "open", "Rules": []},
            {"Address": "198.51.100.1", "Reach": "limited", "Rules": ["a", "b"]},
        ]);
        let port = json!({"Name": "web", "Port": "80/tcp", "HostIp": "0.0.0.0", "HostPort": 8080, "At": at});
        let rows = of_port(&port);
        assert_eq!(rows[0], ["web", "80/tcp", "192.0.2.1:8080", "open", "no rule drops it"]);
        assert_eq!(rows[1][4], "a; b");
        let alone = json!({"Name": "web", "Port": "80/tcp", "HostIp": "::1", "HostPort": 8080, "At": []});
        assert_eq!(of_port(&alone)[0][2..4], ["[::1]:8080", "local"]);
    }
}
