//! The Docker Engine API: routes, versions, streams; error class to status.
//!
//! A request's way: [`server`] accepts, [`socket`] looks at its first line, hyper (or, for streams that take the connection over,
//! [`takeover`]) reads it, [`dispatch`] finds its line in the [`routes`] table and checks the version, a handler named after its
//! resource decodes it ([`decode`]), asks the engine, and shows what it says ([`dto`]). Handlers do no business; nothing here knows
//! how a container is made.

mod absent;
mod archive;
mod call;
mod container_streams;
mod containers;
mod decode;
mod dispatch;
mod dto;
mod errors;
mod events;
mod exec;
mod exposed;
mod images;
mod listen;
mod logs;
mod metrics;
mod networks;
mod progress;
mod query;
mod reply;
mod router;
mod routes;
mod server;
mod socket;
mod stats;
mod streams;
mod system;
mod takeover;
mod transfer;
mod version;
mod volumes;
mod why;

pub use listen::{Listener, activated, bind};
pub use metrics::serve_metrics;
pub use server::serve;
pub use version::{ApiVersion, NEWEST, OLDEST};
