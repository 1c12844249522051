//! The commands of the `manifest` family: names, flags and help. Data, and nothing else.

use crate::commands::manifest;
use crate::flag::{Kind::*, flag};
use crate::spec::{Args, Command};

/// All of them.
pub static COMMANDS: &[Command] = &[
    Command {
        paths: &["manifest annotate"],
        usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
        about: "Add additional information to a local image manifest",
        args: Args::Exact(2),
        interspersed: true,
        flags: &[&[
            flag("arch", Str, "Set architecture"),
            flag("os", Str, "Set operating system"),
            flag("os-features", Strings, "Set operating system feature"),
            flag("os-version", Str, "Set operating system version"),
            flag("variant", Str, "Set architecture variant"),
        ]],
        run: manifest::annotate,
    },
    Command {
        paths: &["manifest create"],
        usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
        about: "Create a local manifest list for annotating and pushing to a registry",
        args: Args::Min(2),
        interspersed: true,
        flags: &[&[
            flag("amend", Bool, "Amend an existing manifest list").short('a'),
            flag("insecure", Bool, "Allow communication with an insecure registry"),
        ]],
        run: manifest::create,
    },
    Command {
        paths: &["manifest inspect"],
        usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        about: "Display an image manifest, or manifest list",
        args: Args::Range(1, 2),
        interspersed: true,
        flags: &[&[
            flag("insecure", Bool, "Allow communication with an insecure registry"),
            flag("verbose", Bool, "Output additional info including layers and platform").short('v'),
        ]],
        run: manifest::inspect,
    },
    Command {
        paths: &["manifest push"],
        usage: "[OPTIONS] MANIFEST_LIST",
        about: "Push a manifest list to a repository",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("insecure", Bool, "Allow push to an insecure registry"),
            flag("purge", Bool, "Remove the local manifest list after push").short('p'),
        ]],
        run: manifest::push,
    },
    Command {
        paths: &["manifest rm"],
        usage: "MANIFEST_LIST [MANIFEST_LIST...]",
        about: "Delete one or more manifest lists from local storage",
        args: Args::Min(1),
        interspersed: true,
        flags: &[],
        run: manifest::rm,
    },
];
