//! `system` and the commands without a family: names, flags and help. Data, and nothing else.

use crate::commands::{check, df, events, info, inspect, login, logout, prune, search, version};
use crate::flag::{Kind::*, flag};
use crate::spec::{Args, Command};

/// All of them.
pub static COMMANDS: &[Command] = &[
    Command {
        paths: &["system check"],
        usage: "[OPTIONS]",
        about: "Look for what is damaged, missing or nobody's on the engine's disk",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output: 'table' or 'json'"),
            flag("repair", Bool, "Put right what can be"),
        ]],
        run: check::check,
    },
    Command {
        paths: &["system df"],
        usage: "[OPTIONS]",
        about: "Show docker disk usage",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output: 'table', 'table TEMPLATE', 'json' or a Go template"),
            flag("verbose", Bool, "Show detailed information on space usage").short('v'),
        ]],
        run: df::df,
    },
    Command {
        paths: &["system events", "events"],
        usage: "[OPTIONS]",
        about: "Get real time events from the server",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("filter", Filter, "Filter output based on conditions provided").short('f'),
            flag("format", Str, "Format the output with a Go template, or 'json'"),
            flag("since", Str, "Show all events created since timestamp"),
            flag("until", Str, "Stream events until this timestamp"),
        ]],
        run: events::events,
    },
    Command {
        paths: &["system info", "info"],
        usage: "[OPTIONS]",
        about: "Display system-wide information",
        args: Args::None,
        interspersed: true,
        flags: &[&[flag("format", Str, "Format the output with a Go template, or 'json'").short('f')]],
        run: info::info,
    },
    Command {
        paths: &["system prune"],
        usage: "[OPTIONS]",
        about: "Remove unused data",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("all", Bool, "Remove all unused images not just dangling ones").short('a'),
            flag("filter", Filter, "Provide filter values (e.g. \"label=<key>=<value>\")"),
            flag("force", Bool, "Do not prompt for confirmation").short('f'),
            flag("volumes", Bool, "Prune anonymous volumes"),
        ]],
        run: prune::system,
    },
    Command {
        paths: &["version"],
        usage: "[OPTIONS]",
        about: "Show the Docker version information",
        args: Args::None,
        interspersed: true,
        flags: &[&[flag("format", Str, "Format the output with a Go template, or 'json'").short('f')]],
        run: version::version,
    },
    Command {
        paths: &["login"],
        usage: "[OPTIONS] [SERVER]",
        about: "Authenticate to a registry.",
        args: Args::Max(1),
        interspersed: true,
        flags: &[&[
            flag("password", Str, "Password or Personal Access Token (PAT)").short('p'),
            flag("password-stdin", Bool, "Take the Password or Personal Access Token (PAT) from stdin"),
            flag("username", Str, "Username").short('u'),
        ]],
        run: login::login,
    },
    Command {
        paths: &["logout"],
        usage: "[SERVER]",
        about: "Log out from a registry.",
        args: Args::Max(1),
        interspersed: true,
        flags: &[],
        run: logout::logout,
    },
    Command {
        paths: &["search"],
        usage: "[OPTIONS] TERM",
        about: "Search Docker Hub for images",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("filter", Filter, "Filter output based on conditions provided").short('f'),
            flag("format", Str, "Format the output with a Go template, or 'json'"),
            flag("limit", Int, "Max number of search results"),
            flag("no-trunc", Bool, "Don't truncate output"),
        ]],
        run: search::search,
    },
    Command {
        paths: &["inspect"],
        usage: "[OPTIONS] NAME|ID [NAME|ID...]",
        about: "Return low-level information on Docker objects",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output with a Go template, or 'json'").short('f'),
            flag("size", Bool, "Display total file sizes if the type is container").short('s'),
            flag("type", Str, "Only inspect objects of the given type"),
        ]],
        run: inspect::any,
    },
];
