//! The table of routes.

use crate::router::Route;
use crate::version::{OLDEST, v1};
use crate::{
    absent, archive, container_streams, containers, events, exec, exposed, images, logs, networks, stats, system,
    transfer, volumes, why,
};
use http::Method;
use std::sync::LazyLock;

macro_rules! table {
    ($($method:ident $pattern:literal $since:expr, $handler:path $(, $over:ident)?;)*) => {
        vec![$(Route {
            method: Method::$method,
            pattern: $pattern,
            since: $since,
            takes_over: table!(@ $($over)?),
            handler: |call| Box::pin($handler(call)),
        }),*]
    };
    (@ takes_over) => { true };
    (@) => { false };
}

/// Every route; the first that fits is taken.
pub(crate) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    table! {
        HEAD "/_ping" OLDEST, system::ping_head;
        GET "/_ping" OLDEST, system::ping;
        GET "/version" OLDEST, system::version;
        GET "/info" OLDEST, system::info;
        POST "/auth" OLDEST, system::login;
        GET "/events" OLDEST, events::events;
        GET "/system/df" v1(25), system::disk_usage;
        POST "/system/check" OLDEST, system::check;

        GET "/naru/containers/*/why" OLDEST, why::why;
        GET "/naru/exposed" OLDEST, exposed::list;

        GET "/containers/json" OLDEST, containers::list;
        POST "/containers/create" OLDEST, containers::create;
        POST "/containers/prune" v1(25), containers::prune;
        HEAD "/containers/*/archive" OLDEST, archive::stat;
        GET "/containers/*/archive" OLDEST, archive::get;
        PUT "/containers/*/archive" OLDEST, archive::put;
        GET "/containers/*/export" OLDEST, transfer::export;
        GET "/containers/*/changes" OLDEST, containers::changes;
        GET "/containers/*/json" OLDEST, containers::inspect;
        GET "/containers/*/top" OLDEST, containers::top;
        GET "/containers/*/logs" OLDEST, logs::logs;
        GET "/containers/*/stats" OLDEST, stats::stats;
        GET "/containers/*/attach/ws" OLDEST, absent::websocket;
        GET "/containers/*/checkpoints" v1(25), absent::experimental;
        POST "/containers/*/checkpoints" v1(25), absent::experimental;
        POST "/containers/*/kill" OLDEST, containers::kill;
        POST "/containers/*/pause" OLDEST, containers::pause;
        POST "/containers/*/unpause" OLDEST, containers::unpause;
        POST "/containers/*/restart" OLDEST, containers::restart;
        POST "/containers/*/start" OLDEST, containers::start;
        POST "/containers/*/stop" OLDEST, containers::stop;
        POST "/containers/*/wait" OLDEST, container_streams::wait;
        POST "/containers/*/resize" OLDEST, containers::resize;
        POST "/containers/*/attach" OLDEST, container_streams::attach, takes_over;
        POST "/containers/*/exec" OLDEST, exec::create;
        POST "/containers/*/rename" OLDEST, containers::rename;
        POST "/containers/*/update" OLDEST, containers::update;
        DELETE "/containers/*" OLDEST, containers::remove;
        POST "/commit" OLDEST, images::commit;

        POST "/exec/*/start" OLDEST, exec::start, takes_over;
        POST "/exec/*/resize" OLDEST, exec::resize;
        GET "/exec/*/json" OLDEST, exec::inspect;

        GET "/images/json" OLDEST, images::list;
        GET "/images/search" OLDEST, images::search;
        GET "/images/get" OLDEST, transfer::save;
        POST "/images/create" OLDEST, images::create;
        POST "/images/load" OLDEST, transfer::load;
        POST "/images/prune" v1(25), images::prune;
        GET "/images/*/get" OLDEST, transfer::save;
        GET "/images/*/history" OLDEST, images::history;
        GET "/images/*/json" OLDEST, images::inspect;
        POST "/images/*/push" OLDEST, images::push;
        POST "/images/*/tag" OLDEST, images::tag;
        DELETE "/images/*" OLDEST, images::remove;
        GET "/distribution/*/json" v1(30), images::distribution;

        GET "/networks" OLDEST, networks::list;
        GET "/networks/" OLDEST, networks::list;
        GET "/networks/*" OLDEST, networks::inspect;
        POST "/networks/create" OLDEST, networks::create;
        POST "/networks/prune" v1(25), networks::prune;
        POST "/networks/*/connect" OLDEST, networks::connect;
        POST "/networks/*/disconnect" OLDEST, networks::disconnect;
        DELETE "/networks/*" OLDEST, networks::remove;

        GET "/volumes" OLDEST, volumes::list;
        POST "/volumes/create" OLDEST, volumes::create;
        POST "/volumes/prune" v1(25), volumes::prune;
        GET "/volumes/*" OLDEST, volumes::inspect;
        PUT "/volumes/*" v1(42), absent::swarm;
        DELETE "/volumes/*" OLDEST, volumes::remove;

        POST "/build" OLDEST, absent::build;
        POST "/build/prune" v1(31), system::prune_builds;
        POST "/build/cancel" v1(31), absent::build;
        POST "/session" v1(31), absent::buildkit;
        POST "/grpc" OLDEST, absent::buildkit;

        GET "/plugins" OLDEST, absent::no_plugins;
        GET "/plugins/*/json" OLDEST, absent::no_plugin;
        GET "/plugins/*" OLDEST, absent::plugins;
        POST "/plugins/*" OLDEST, absent::plugins;
        DELETE "/plugins/*" OLDEST, absent::plugins;

        POST "/swarm/leave" OLDEST, absent::no_swarm_to_leave;
        POST "/swarm/init" OLDEST, absent::swarm_init;
        POST "/swarm/join" OLDEST, absent::swarm_init;
        GET "/swarm" OLDEST, absent::swarm;
        GET "/swarm/unlockkey" OLDEST, absent::swarm;
        POST "/swarm/*" OLDEST, absent::swarm;
        GET "/nodes" OLDEST, absent::swarm;
        GET "/nodes/*" OLDEST, absent::swarm;
        POST "/nodes/*" OLDEST, absent::swarm;
        DELETE "/nodes/*" OLDEST, absent::swarm;
        GET "/services" OLDEST, absent::swarm;
        GET "/services/*" OLDEST, absent::swarm;
        POST "/services/*" OLDEST, absent::swarm;
        DELETE "/services/*" OLDEST, absent::swarm;
        GET "/tasks" OLDEST, absent::swarm;
        GET "/tasks/*" OLDEST, absent::swarm;
        GET "/secrets" v1(25), absent::swarm;
        GET "/secrets/*" v1(25), absent::swarm;
        POST "/secrets/*" v1(25), absent::swarm;
        DELETE "/secrets/*" v1(25), absent::swarm;
        GET "/configs" v1(30), absent::swarm;
        GET "/configs/*" v1(30), absent::swarm;
        POST "/configs/*" v1(30), absent::swarm;
        DELETE "/configs/*" v1(30), absent::swarm;
    }
});
