//! `naru network exposed`: what it says of a port is what another machine finds.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Engine, eventually};
use naru_tests::firewalld;
use naru_tests::neighbour::Neighbour;
use naru_tests::only_naru;
use serde_json::Value;

use crate::ports::{expect, server};

/// Steps of a firewall, and what is said of port 8080 after each: its reach, and a part of the reason.
struct Step<'a> {
    program: &'a str,
    arguments: &'a [&'a str],
    reach: &'a str,
    by: &'a str,
}

fn nft<'a>(arguments: &'a [&'a str], reach: &'a str, by: &'a str) -> Step<'a> {
    Step { program: "nft", arguments, reach, by }
}

/// What is said is what is so: `limited` rules let this machine in.
fn follow(steps: &[Step<'_>]) -> Result<()> {
    if only_naru("docker tells nothing of the host's firewall") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, naru, world) = (engine.cli(), engine.naru(), engine.world());
    let neighbour = Neighbour::beside(world)?;
    let script = server(7000, "seen");
    let ports = ["-p", "0.0.0.0:8080:7000", "-p", "127.0.0.1:8081:7000", "-p", "[::1]:8082:7000"];
    cli.ok([&["run", "-d", "--name", "web"], &ports[..], &["busybox", "sh", "-c", &script]].concat())?;
    expect(world, "127.0.0.1", 8080, "seen")?;
    for step in steps {
        if !step.arguments.is_empty() {
            let output = world.command(step.program).args(step.arguments).output().context("the firewall's program")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{} {:?}: {said}", step.program, step.arguments);
        }
        let all: Vec<Value> = serde_json::from_str(&naru.ok(["network", "exposed", "--format", "json"])?)?;
        ensure!(all.len() == 3 && all.iter().all(|p| p["Name"] == "web" && p["Port"] == "7000/tcp"), "{all:?}");
        let at = all.iter().find(|p| p["HostPort"] == 8080).and_then(|p| p["At"].as_array()).context("port 8080")?;
        ensure!(at.len() == 1 && at[0]["Address"] == "192.0.2.1" && at[0]["Interface"] == "out0", "{at:?}");
        let rules: Vec<&str> = at[0]["Rules"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let rules = rules.join("; ");
        ensure!(at[0]["Reach"] == step.reach && rules.contains(step.by), "{:?}: {at:?}", step.arguments);
        for port in all.iter().filter(|p| p["HostPort"] != 8080) {
            ensure!(port["At"].as_array().is_some_and(Vec::is_empty), "{port:?}");
        }
        // And so it is.
        if step.reach == "closed" {
            let said = neighbour.ask(world, 8080)?;
            ensure!(said.is_empty(), "{:?}: said to be closed by {rules}, but {said:?}", step.arguments);
        } else {
            eventually("an answer to another machine", || {
                let said = neighbour.ask(world, 8080)?;
                ensure!(said.trim_end() == "seen", "{said:?}: {rules}");
                Ok(())
            })?;
        }
    }
    let shown = naru.ok(["network", "exposed"])?;
    ensure!(shown.starts_with("CONTAINER") && shown.contains("192.0.2.1:8080") && shown.contains("local"), "{shown}");
    drop(neighbour);
    engine.finish()
}

#[test]
fn what_nft_rules_say() -> Result<()> {
    let table = "table inet filter {
        set open { type inet_service; flags interval; elements = { 8000-8090 }; }
        chain input {
            type filter hook input priority filter; policy drop;
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname lo accept
            tcp dport 22 accept
            ip saddr 198.51.100.0/24 tcp dport 443 accept
        }
    }";
    follow(&[
        nft(&[], "open", ""),
        nft(&[table], "closed", "the policy of inet filter input drops"),
        nft(
            &["add rule inet filter input ip saddr 192.0.2.0/24 tcp dport 8080 accept"],
            "limited",
            "inet filter input accepts some",
        ),
        nft(&["add rule inet filter input tcp dport @open accept"], "open", "of inet filter input accepts"),
        nft(&["insert rule inet filter input iifname out0 tcp dport 8080 drop"], "closed", "rule "),
        nft(&["flush chain inet filter input"], "closed", "the policy of inet filter input drops"),
        nft(&["delete table inet filter"], "open", ""),
        // What is forwarded to containers.
        nft(
            &[
                "table ip other { chain forward { type filter hook forward priority 0; policy drop; ct state established accept; }; }",
            ],
            "closed",
            "the policy of ip other forward drops",
        ),
        nft(&["add rule ip other forward ct status dnat accept"], "open", "of ip other forward accepts"),
    ])
}

#[test]
fn what_ufws_rules_say() -> Result<()> {
    iptables("iptables-nft", "ip filter")
}

#[test]
fn what_ufws_rules_say_by_legacy_iptables() -> Result<()> {
    iptables("iptables-legacy", "ip filter (legacy)")
}

/// ufw's rules by either program, which are shown as those of `table`.
fn iptables(program: &str, table: &str) -> Result<()> {
    let run = |arguments, reach, by| Step { program, arguments, reach, by };
    let (policy, user) = (format!("the policy of {table} INPUT drops"), format!("of {table} ufw-user-input"));
    let (accepts, drops) = (format!("{user} accepts"), format!("{user} drops"));
    let drops_some = format!("{drops} some");
    follow(&[
        run(&["-N", "ufw-user-input"], "open", ""),
        run(&["-A", "ufw-user-input", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"], "open", ""),
        run(&["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"], "open", ""),
        run(&["-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"], "open", ""),
        run(&["-A", "INPUT", "-j", "ufw-user-input"], "open", ""),
        run(&["-P", "INPUT", "DROP"], "closed", &policy),
        run(
            &["-A", "ufw-user-input", "-p", "tcp", "-m", "multiport", "--dports", "80,8080", "-j", "ACCEPT"],
            "open",
            &accepts,
        ),
        run(&["-I", "ufw-user-input", "1", "-s", "203.0.113.0/24", "-j", "DROP"], "limited", &drops_some),
        run(
            &[
                "-I",
                "ufw-user-input",
                "1",
                "-p",
                "tcp",
                "--dport",
                "8080",
                "-m",
                "comment",
                "--comment",
                "no",
                "-j",
                "REJECT",
            ],
            "closed",
            &drops,
        ),
    ])
}

#[test]
fn what_firewallds_rules_say() -> Result<()> {
    let table = firewalld::table("iifname vmap { \"eth9\" : drop };", "");
    follow(&[
        nft(&[&table], "closed", "of inet firewalld filter_INPUT drops"),
        nft(
            &["add rule inet firewalld filter_IN_public_allow tcp dport 8080 accept"],
            "open",
            "of inet firewalld filter_IN_public_allow accepts",
        ),
    ])
}
