//! The commands of the `network` family: names, flags and help. Data, and nothing else.

use crate::commands::{exposed, inspect, network, prune};
use crate::flag::{Kind::*, flag};
use crate::run::check;
use crate::spec::{Args, Command};

/// All of them.
pub static COMMANDS: &[Command] = &[
    Command {
        paths: &["network connect"],
        usage: "[OPTIONS] NETWORK CONTAINER",
        about: "Connect a container to a network",
        args: Args::Exact(2),
        interspersed: true,
        flags: &[&[
            flag("alias", Strings, "Add network-scoped alias for the container"),
            flag("driver-opt", Strings, "driver options for the network"),
            flag(
                "gw-priority",
                Int,
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            flag("ip", Str, "IPv4 address (e.g., \"172.30.100.104\")"),
            flag("ip6", Str, "IPv6 address (e.g., \"2001:db8::33\")"),
            flag("link", Checked(check::link), "Add link to another container"),
            flag("link-local-ip", Strings, "Add a link-local address for the container"),
        ]],
        run: network::connect,
    },
    Command {
        paths: &["network create"],
        usage: "[OPTIONS] NETWORK",
        about: "Create a network",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("attachable", Bool, "Enable manual container attachment"),
            flag("aux-address", Map, "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
            flag("config-from", Str, "The network from which to copy the configuration"),
            flag("config-only", Bool, "Create a configuration only network"),
            flag("driver", Str, "Driver to manage the Network").short('d').default("bridge"),
            flag("gateway", Strings, "IPv4 or IPv6 Gateway for the master subnet"),
            flag("ingress", Bool, "Create swarm routing-mesh network"),
            flag("internal", Bool, "Restrict external access to the network"),
            flag("ip-range", Strings, "Allocate container ip from a sub-range"),
            flag("ipam-driver", Str, "IP Address Management Driver").default("default"),
            flag("ipam-opt", Map, "Set IPAM driver specific options"),
            flag("ipv4", Bool, "Enable or disable IPv4 address assignment").default("true"),
            flag("ipv6", Bool, "Enable or disable IPv6 address assignment"),
            flag("label", Checked(check::label), "Set metadata on a network"),
            flag("opt", Map, "Set driver specific options").short('o'),
            flag("scope", Str, "Control the network's scope"),
            flag("subnet", Strings, "Subnet in CIDR format that represents a network segment"),
        ]],
        run: network::create,
    },
    Command {
        paths: &["network disconnect"],
        usage: "[OPTIONS] NETWORK CONTAINER",
        about: "Disconnect a container from a network",
        args: Args::Exact(2),
        interspersed: true,
        flags: &[&[flag("force", Bool, "Force the container to disconnect from a network").short('f')]],
        run: network::disconnect,
    },
    Command {
        paths: &["network exposed"],
        usage: "[OPTIONS]",
        about: "Tell which published ports other machines can reach, and by which rule of the host's firewall",
        args: Args::None,
        interspersed: true,
        flags: &[&[flag("format", Str, "Format the output: 'json', or a table")]],
        run: exposed::exposed,
    },
    Command {
        paths: &["network inspect"],
        usage: "[OPTIONS] NETWORK [NETWORK...]",
        about: "Display detailed information on one or more networks",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output with a Go template, or 'json'").short('f'),
            flag("verbose", Bool, "Verbose output for diagnostics").short('v'),
        ]],
        run: inspect::network,
    },
    Command {
        paths: &["network ls", "network list"],
        usage: "[OPTIONS]",
        about: "List networks",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("filter", Filter, "Provide filter values (e.g. \"driver=bridge\")").short('f'),
            flag("format", Str, "Format the output: 'table', 'table TEMPLATE', 'json' or a Go template"),
            flag("no-trunc", Bool, "Do not truncate the output"),
            flag("quiet", Bool, "Only display network IDs").short('q'),
        ]],
        run: network::ls,
    },
    Command {
        paths: &["network prune"],
        usage: "[OPTIONS]",
        about: "Remove all unused networks",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("filter", Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
            flag("force", Bool, "Do not prompt for confirmation").short('f'),
        ]],
        run: prune::networks,
    },
    Command {
        paths: &["network rm", "network remove"],
        usage: "NETWORK [NETWORK...]",
        about: "Remove one or more networks",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[flag("force", Bool, "Do not error if the network does not exist").short('f')]],
        run: network::rm,
    },
];
