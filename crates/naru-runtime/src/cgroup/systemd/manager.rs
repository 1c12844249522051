//! What is asked of systemd's manager (org.freedesktop.systemd1(5), "The Manager Object").

use super::properties::{self, Property};
use super::{Placeholder, Scope};
use crate::plan::Resources;
use naru_base::{Error, Result};
use naru_dbus::{Call, Connection, Message, Value};
use std::path::Path;
use std::time::{Duration, Instant};

/// systemd's own socket, for root alone: no bus in between, which needs not be there, and which many containers would load.
const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
/// How long systemd may take for one of our requests: it may be busy with a whole boot.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two tries while an old scope of the same name goes.
const PAUSE: Duration = Duration::from_millis(10);

const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// A connection to systemd.
#[derive(Debug)]
pub(in super::super) struct Manager {
    connection: Connection,
    deadline: Instant,
}

impl Manager {
    /// # Errors
    /// systemd can't be reached.
    pub(in super::super) fn connect() -> Result<Self> {
        let deadline = Instant::now() + LIMIT;
        let mut connection = match Connection::open(Path::new(PRIVATE), deadline) {
            Ok(connection) => connection,
            Err(direct) => on_bus(deadline).map_err(|e| {
                let text = format!("cannot reach systemd at {PRIVATE} ({direct}) nor at {BUS} ({e})");
                Error::new(naru_base::Class::Unavailable, text)
            })?,
        };
        connection.keep_signals("JobRemoved");
        Ok(Self { connection, deadline })
    }

    #[cfg(test)]
    fn over(socket: std::os::unix::net::UnixStream) -> Self {
        let deadline = Instant::now() + LIMIT;
        let mut connection = Connection::over(socket.into(), deadline).unwrap();
        connection.keep_signals("JobRemoved");
        Self { connection, deadline }
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> naru_dbus::Result<Vec<Value>> {
        let call = Call { destination: DESTINATION, path: OBJECT, interface: INTERFACE, member };
        self.connection.call(call, body)
    }

    /// Makes `scope` with `placeholder` in it. One of the same name that is just going is waited for.
    ///
    /// # Errors
    /// systemd refuses it, or can't.
    pub(in super::super) fn start(
        &mut self,
        scope: &Scope,
        placeholder: &Placeholder,
        resources: &Resources,
    ) -> Result<()> {
        let description = format!("container {}", scope.name.trim_end_matches(".scope"));
        let mut all = properties::of_scope(&scope.slice, &description, placeholder.pid());
        all.extend(properties::limits(resources)?);
        self.start_with(scope, all)
    }

    fn start_with(&mut self, scope: &Scope, all: Vec<Property>) -> Result<()> {
        let fail =
            |e: &dyn std::fmt::Display| Error::system(format!("systemd can't make the scope {}: {e}", scope.name));
        let body = vec![
            Value::text(&scope.name),
            Value::text("fail"),
            properties::to_value(all),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let job = loop {
            match self.call("StartTransientUnit", body.clone()) {
                Ok(answer) => break answer,
                Err(e) if e.is(UNIT_EXISTS) && Instant::now() < self.deadline => {
                    // Whether it had failed or not: the stop tells.
                    let _ = self.call("ResetFailedUnit", vec![Value::text(&scope.name)]);
                    self.stop(&scope.name)?;
                    std::thread::sleep(PAUSE);
                }
                Err(e) => return Err(fail(&e)),
            }
        };
        match self.wait_for_job(&job) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => Err(fail(&format!("its job ended with {result:?}"))),
            Err(e) => Err(fail(&e)),
        }
    }

    /// Changes the limits that `resources` has.
    ///
    /// # Errors
    /// The scope is gone, or systemd refuses a value.
    pub(in super::super) fn set(&mut self, unit: &str, resources: &Resources) -> Result<()> {
        let limits = properties::limits(resources)?;
        if limits.is_empty() {
            return Ok(());
        }
        // At runtime: the unit is gone after a reboot.
        let body = vec![Value::text(unit), Value::Bool(true), properties::to_value(limits)];
        let fail = |e| Error::system(format!("systemd can't change the limits of {unit}: {e}"));
        self.call("SetUnitProperties", body).map(drop).map_err(fail)
    }

    /// Ends the unit, and waits until it is gone. One that isn't there is fine.
    ///
    /// # Errors
    /// It doesn't end.
    pub(in super::super) fn stop(&mut self, unit: &str) -> Result<()> {
        let fail = |e: &dyn std::fmt::Display| Error::system(format!("systemd can't end the scope {unit}: {e}"));
        let job = match self.call("StopUnit", vec![Value::text(unit), Value::text("replace")]) {
            Ok(job) => job,
            Err(e) if e.is(NO_SUCH_UNIT) => return Ok(()),
            Err(e) => return Err(fail(&e)),
        };
        self.wait_for_job(&job).map(drop).map_err(|e| fail(&e))
    }

    /// How the job that an answer names has ended: `done`, `failed`, `timeout`, …
    fn wait_for_job(&mut self, answer: &[Value]) -> naru_dbus::Result<String> {
        let Some(Value::Path(job)) = answer.first() else {
            return Err(naru_dbus::Error::Malformed("systemd's answer names no job"));
        };
        // Its number, its object, its unit, its result.
        let result = |message: &Message| match message.body.as_slice() {
            [_, Value::Path(object), _, Value::Text(result)] if object == job => Some(result.clone()),
            _ => None,
        };
        self.connection.signal(result)
    }
}

/// By way of the system's bus, which has to be told that we want to hear of jobs; systemd itself, too.
fn on_bus(deadline: Instant) -> naru_dbus::Result<Connection> {
    const BUS_NAME: &str = "org.freedesktop.DBus";
    let bus = |member| Call { destination: BUS_NAME, path: "/org/freedesktop/DBus", interface: BUS_NAME, member };
    let mut connection = Connection::open(Path::new(BUS), deadline)?;
    connection.call(bus("Hello"), Vec::new())?;
    let rule =
        format!("type='signal',sender='{DESTINATION}',path='{OBJECT}',interface='{INTERFACE}',member='JobRemoved'");
    connection.call(bus("AddMatch"), vec![Value::text(rule)])?;
    let subscribe = Call { destination: DESTINATION, path: OBJECT, interface: INTERFACE, member: "Subscribe" };
    connection.call(subscribe, Vec::new())?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_dbus::Kind;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// A manager that answers each call by what `answer` makes of it: messages without numbers.
    fn manager(mut answer: impl FnMut(Message) -> Vec<Message> + Send + 'static) -> Manager {
        let (client, mut server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut hello = vec![0; 256];
            let _ = server.read(&mut hello).unwrap();
            server.write_all(b"OK 00\r\n").unwrap();
            server.read_exact(&mut hello[..7]).unwrap();
            let mut buffer = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = server.read(&mut chunk) {
                buffer.extend_from_slice(&chunk[..count]);
                let Ok(call) = Message::read(&buffer) else { continue };
                buffer.clear();
                let serial = call.serial;
                for message in answer(call) {
                    let reply_to = (message.kind != Kind::Signal).then_some(serial);
                    server.write_all(&Message { reply_to, ..message }.write().unwrap()).unwrap();
                }
            }
        });
        Manager::over(client)
    }

    fn returns(body: Vec<Value>) -> Message {
        Message { body, ..Message::new(Kind::Return, 1) }
    }

    fn refuses(name: &str) -> Message {
        Message { error: name.into(), ..Message::new(Kind::Error, 1) }
    }

    fn job() -> Value {
        Value::Path("/org/freedesktop/systemd1/job/7".into())
    }

    fn ended(result: &str) -> Message {
        Message {
            path: OBJECT.into(),
            member: "JobRemoved".into(),
            body: vec![Value::U32(7), job(), Value::text("x.scope"), Value::text(result)],
            ..Message::new(Kind::Signal, 2)
        }
    }

    #[test]
    fn a_scope_is_there_when_its_job_is_done() {
        let scope = Scope::new("a.slice", "x").unwrap();
        let mut exists = 0;
        let mut systemd = manager(move |call| match call.member.as_str() {
            "StartTransientUnit" if exists < 2 => {
                exists += 1;
                vec![refuses(UNIT_EXISTS)]
            }
            "StartTransientUnit" => {
                let text = format!("{:?}", call.body);
                assert!(text.contains("Delegate") && text.contains("a.slice") && text.contains("TasksMax"), "{text}");
                // The signal may come before the answer.
                vec![ended("done"), returns(vec![job()])]
            }
            "StopUnit" => vec![returns(vec![job()]), ended("done")],
            _ => vec![refuses(NO_SUCH_UNIT)],
        });
        let placeholder = Placeholder::new().unwrap();
        let resources = Resources { pids_limit: Some(5), ..Resources::default() };
        systemd.start(&scope, &placeholder, &resources).unwrap();
    }

    #[test]
    fn failures_name_the_scope() {
        let scope = Scope::new("a.slice", "x").unwrap();
        let mut systemd = manager(|call| match call.member.as_str() {
            "StartTransientUnit" => vec![returns(vec![job()]), ended("failed")],
            _ => vec![refuses("a.b.No")],
        });
        let error = systemd.start_with(&scope, Vec::new()).unwrap_err();
        assert_eq!(error.message(), "systemd can't make the scope x.scope: its job ended with \"failed\"");
        let limits = Resources { memory: Some(5), ..Resources::default() };
        assert_eq!(
            systemd.set("x.scope", &limits).unwrap_err().message(),
            "systemd can't change the limits of x.scope: a.b.No"
        );
        assert!(systemd.stop("x.scope").is_err());
        let mut systemd = manager(|_| vec![refuses(NO_SUCH_UNIT)]);
        systemd.stop("x.scope").unwrap();
    }
}
