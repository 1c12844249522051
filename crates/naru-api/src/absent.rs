//! Routes of docker's that this engine answers with what it doesn't do.

use crate::call::Call;
use crate::reply::Reply;
use naru_base::{Error, Result};

/// What needs a swarm.
pub(crate) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm \
                        and try again.";

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $class:ident $text:expr;)*) => {
        $($(#[$doc])* pub(crate) async fn $name(mut call: Call) -> Result<Reply> {
            // An unread body would break the connection under a client that still sends it.
            call.skip_body().await;
            Err(Error::$class($text))
        })*
    };
}

refusals! {
    /// Attaching by websocket.
    websocket not_implemented "attaching by websocket is not available: POST to /containers/{id}/attach instead";
    /// Checkpoints.
    experimental not_implemented "checkpoints are only supported on a daemon with experimental features enabled";
    /// Builds.
    build not_implemented "building images is not available yet";
    /// BuildKit's connection.
    buildkit not_implemented "BuildKit sessions are not available";
    /// Managed plugins.
    plugins not_implemented "managed plugins are not available";
    /// Everything that needs a swarm.
    swarm unavailable NO_SWARM;
    /// Leaving one.
    no_swarm_to_leave unavailable "This node is not part of a swarm";
    /// Making or joining one.
    swarm_init not_implemented "swarm mode is not available: this engine serves one machine";
}

/// A plugin: there is none.
pub(crate) async fn no_plugin(call: Call) -> Result<Reply> {
    Err(Error::not_found(format!("plugin \"{}\" not found", call.name)))
}

/// No plugins are installed.
pub(crate) async fn no_plugins(_call: Call) -> Result<Reply> {
    Reply::ok::<[(); 0]>(&[])
}
