//! Real services as Debian packages them: data that outlives its container, a published port, a name, and who reaches none of it.

use std::process::Command;

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, eventually, image};
use naru_tests::neighbour::Neighbour;

/// PostgreSQL as an official image starts it: it makes its cluster where there is none.
const POSTGRES: &str =
    "cd /; D=/var/lib/postgresql/data; test -s $D/PG_VERSION || initdb -D $D -A trust >/dev/null || exit 1
echo 'host all all all trust' >>$D/pg_hba.conf; exec postgres -D $D -c listen_addresses='*' -c jit=off";
const DATA: &str = "pgdata:/var/lib/postgresql/data";

fn engine() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load(&image::services()?)?;
    Ok(engine)
}

/// Runs PostgreSQL as `name` and waits until it answers.
fn postgres(cli: &Client, name: &str) -> Result<()> {
    let owned = format!(
        "mkdir -p /var/lib/postgresql/data; chown postgres: /var/lib/postgresql/data; exec setpriv --reuid postgres --regid postgres --init-groups sh -c '{}'",
        POSTGRES.replace('\'', "'\\''")
    );
    cli.ok(["run", "-d", "--name", name, "--stop-signal", "INT", "-v", DATA, "services", "sh", "-c", &owned])?;
    eventually("PostgreSQL to answer", || query(cli, name, "select 1").map(drop))
}

fn query(cli: &Client, name: &str, sql: &str) -> Result<String> {
    cli.ok(["exec", "-u", "postgres", "-w", "/", name, "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql])
}

#[test]
fn a_database_outlives_its_container() -> Result<()> {
    let engine = engine()?;
    let cli = engine.cli();
    postgres(&cli, "first")?;
    query(&cli, "first", "create table ferry (name text, seats int)")?;
    query(&cli, "first", "insert into ferry select 'boat ' || n, n from generate_series(1, 5000) n")?;
    // Its own way down, and one that it has no say in.
    cli.ok(["stop", "-t", "60", "first"])?;
    assert_eq!(cli.inspect("first", "{{.State.ExitCode}}")?, "0", "{}", cli.run(["logs", "first"])?.stderr);
    cli.ok(["rm", "first"])?;
    postgres(&cli, "second")?;
    assert_eq!(query(&cli, "second", "select count(*), sum(seats) from ferry")?, "5000|12502500");
    query(&cli, "second", "insert into ferry values ('last', 1)")?;
    cli.ok(["rm", "-f", "second"])?;
    assert_eq!(cli.ok(["volume", "ls", "-q"])?, "pgdata");
    postgres(&cli, "third")?;
    assert_eq!(query(&cli, "third", "select count(*) from ferry where name = 'last'")?, "1");
    cli.ok(["rm", "-f", "third"])?;
    cli.ok(["volume", "rm", "pgdata"])?;
    Ok(())
}

#[test]
fn a_web_server_is_reached_from_everywhere() -> Result<()> {
    let engine = engine()?;
    let (cli, world) = (engine.cli(), engine.world());
    let neighbour = Neighbour::beside(world)?;
    cli.ok(["volume", "create", "site"])?;
    cli.ok(["run", "--rm", "-v", "site:/site", "services", "sh", "-c", "echo landing >/site/index.html"])?;
    let serve = ["nginx", "-g", "daemon off; error_log /dev/stderr;"];
    let run = ["run", "-d", "--name", "web", "-p", "8080:80", "-v", "site:/var/www/html:ro", "services"];
    cli.ok(run.into_iter().chain(serve))?;
    // busybox' wget, linked statically, looks names up even where there are none, and dies of it.
    let fetch = |who: &mut Command, host: &str| -> Result<()> {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {host} 8080");
        let output = who.args(["-c", &script]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nlanding\n"), "{said:?}");
        Ok(())
    };
    for host in ["127.0.0.1", "192.0.2.1"] {
        eventually(&format!("the host to fetch from {host}"), || fetch(&mut world.command("sh"), host))?;
    }
    eventually("another machine to fetch", || fetch(&mut neighbour.command(world, "sh"), "192.0.2.1"))?;
    // nginx's log names who asked: the other machine itself, not a bridge.
    let log = cli.ok(["exec", "web", "cat", "/var/log/nginx/access.log"])?;
    assert!(log.lines().any(|line| line.starts_with("192.0.2.2 ")), "{log}");
    cli.ok(["stop", "-t", "60", "web"])?;
    assert_eq!(cli.inspect("web", "{{.State.ExitCode}}")?, "0");
    cli.ok(["rm", "web"])?;
    cli.ok(["volume", "rm", "site"])?;
    Ok(())
}

#[test]
fn a_store_is_reached_by_its_name_and_by_nobody_else() -> Result<()> {
    let engine = engine()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "app"])?;
    cli.ok(["network", "create", "other"])?;
    let serve = ["redis-server", "--protected-mode", "no", "--bind", "0.0.0.0", "--save", ""];
    cli.ok(["run", "-d", "--name", "cache", "--network", "app", "services"].into_iter().chain(serve))?;
    let idle = ["services", "sleep", "100000"];
    cli.ok(["run", "-d", "--name", "client", "--network", "app"].into_iter().chain(idle))?;
    cli.ok(["run", "-d", "--name", "stranger", "--network", "other"].into_iter().chain(idle))?;
    // A web server beside it, published for the host alone.
    let web = ["run", "-d", "--name", "web", "--network", "app", "-p", "127.0.0.1:8080:80", "services"];
    cli.ok(web.into_iter().chain(["nginx", "-g", "daemon off; error_log /dev/stderr;"]))?;
    let page = |who: &str, host: &str| {
        let script = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 bash -c 'exec 3<>/dev/tcp/{host}/80; cat >&3; cat <&3'"
        );
        cli.run(["exec", who, "bash", "-c", &script])
    };
    eventually("the client to fetch by name", || {
        let done = page("client", "web")?;
        ensure!(done.stdout.starts_with("HTTP/1.1 200 OK"), "{done:?}");
        Ok(())
    })?;
    eventually("redis to answer by its name", || {
        let said = cli.ok(["exec", "client", "redis-cli", "-h", "cache", "set", "port", "7"])?;
        ensure!(said == "OK", "{said:?}");
        Ok(())
    })?;
    assert_eq!(cli.ok(["exec", "client", "redis-cli", "-h", "cache", "get", "port"])?, "7");
    let at = cli.inspect("cache", "{{.NetworkSettings.Networks.app.IPAddress}}")?;
    // It has neither the name, nor a way to the address.
    let by_name = cli.run(["exec", "stranger", "redis-cli", "-h", "cache", "ping"])?;
    assert!(!by_name.stdout.contains("PONG"), "{by_name:?}");
    let by_address = cli.run(["exec", "stranger", "timeout", "2", "redis-cli", "-h", &at, "ping"])?;
    assert!(!by_address.stdout.contains("PONG"), "{by_address:?}");
    let web_at = cli.inspect("web", "{{.NetworkSettings.Networks.app.IPAddress}}")?;
    for host in ["web", &web_at] {
        let done = page("stranger", host)?;
        assert!(done.code != 0 && !done.stdout.contains("HTTP/"), "{host}: {done:?}");
    }
    // The same network makes it known; leaving it, unknown again.
    cli.ok(["network", "connect", "app", "stranger"])?;
    eventually("the stranger to be let in", || {
        let said = cli.ok(["exec", "stranger", "redis-cli", "-h", "cache", "get", "port"])?;
        ensure!(said == "7", "{said:?}");
        Ok(())
    })?;
    cli.ok(["network", "disconnect", "app", "stranger"])?;
    let by_address = cli.run(["exec", "stranger", "timeout", "2", "redis-cli", "-h", &at, "ping"])?;
    assert!(!by_address.stdout.contains("PONG"), "{by_address:?}");
    cli.ok(["rm", "-f", "cache", "client", "stranger", "web"])?;
    cli.ok(["network", "rm", "app", "other"])?;
    Ok(())
}
