//! The commands of the `volume` family: names, flags and help. Data, and nothing else.

use crate::commands::{inspect, prune, volume};
use crate::flag::{Kind::*, flag};
use crate::run::check;
use crate::spec::{Args, Command};

/// All of them.
pub static COMMANDS: &[Command] = &[
    Command {
        paths: &["volume create"],
        usage: "[OPTIONS] [VOLUME]",
        about: "Create a volume",
        args: Args::Max(1),
        interspersed: true,
        flags: &[&[
            flag("availability", Str, "Cluster Volume availability (\"active\", \"pause\", \"drain\")")
                .default("active"),
            flag("driver", Str, "Specify volume driver name").short('d').default("local"),
            flag("group", Str, "Cluster Volume group (cluster volumes)"),
            flag("label", Checked(check::label), "Set metadata for a volume"),
            flag("limit-bytes", Bytes, "Minimum size of the Cluster Volume in bytes"),
            flag("opt", Map, "Set driver specific options").short('o'),
            flag("required-bytes", Bytes, "Maximum size of the Cluster Volume in bytes"),
            flag("scope", Str, "Cluster Volume access scope (\"single\", \"multi\")").default("single"),
            flag("secret", Map, "Cluster Volume secrets"),
            flag("sharing", Str, "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\")")
                .default("none"),
            flag("topology-preferred", List, "A topology that the Cluster Volume would be preferred in"),
            flag("topology-required", List, "A topology that the Cluster Volume must be accessible from"),
            flag("type", Str, "Cluster Volume access type (\"mount\", \"block\")").default("block"),
        ]],
        run: volume::create,
    },
    Command {
        paths: &["volume inspect"],
        usage: "[OPTIONS] VOLUME [VOLUME...]",
        about: "Display detailed information on one or more volumes",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[flag("format", Str, "Format the output with a Go template, or 'json'").short('f')]],
        run: inspect::volume,
    },
    Command {
        paths: &["volume ls", "volume list"],
        usage: "[OPTIONS]",
        about: "List volumes",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("cluster", Bool, "Display only cluster volumes, and use cluster volume list formatting"),
            flag("filter", Filter, "Provide filter values (e.g. \"dangling=true\")").short('f'),
            flag("format", Str, "Format the output: 'table', 'table TEMPLATE', 'json' or a Go template"),
            flag("quiet", Bool, "Only display volume names").short('q'),
        ]],
        run: volume::ls,
    },
    Command {
        paths: &["volume prune"],
        usage: "[OPTIONS]",
        about: "Remove unused local volumes",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("all", Bool, "Remove all unused volumes, not just anonymous ones").short('a'),
            flag("filter", Filter, "Provide filter values (e.g. \"label=<label>\")"),
            flag("force", Bool, "Do not prompt for confirmation").short('f'),
        ]],
        run: prune::volumes,
    },
    Command {
        paths: &["volume rm", "volume remove"],
        usage: "[OPTIONS] VOLUME [VOLUME...]",
        about: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[flag("force", Bool, "Force the removal of one or more volumes").short('f')]],
        run: volume::rm,
    },
    Command {
        paths: &["volume update"],
        usage: "[OPTIONS] [VOLUME]",
        about: "Update a volume (cluster volumes only)",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[flag("availability", Str, "Cluster Volume availability (\"active\", \"pause\", \"drain\")")
            .default("active")]],
        run: volume::update,
    },
];
