//! The commands of the `image` family: names, flags and help. Data, and nothing else.

use crate::commands::{archive, history, image, images, inspect, prune, pull, push};
use crate::flag::{Kind::*, flag};
use crate::spec::{Args, Command};

/// All of them.
pub static COMMANDS: &[Command] = &[
    Command {
        paths: &["image history", "history"],
        usage: "[OPTIONS] IMAGE",
        about: "Show the history of an image",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output: 'table', 'table TEMPLATE', 'json' or a Go template"),
            flag("human", Bool, "Print sizes and dates in human readable format").short('H').default("true"),
            flag("no-trunc", Bool, "Don't truncate output"),
            flag(
                "platform",
                Str,
                "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
            flag("quiet", Bool, "Only show image IDs").short('q'),
        ]],
        run: history::history,
    },
    Command {
        paths: &["image import", "import"],
        usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        about: "Import the contents from a tarball to create a filesystem image",
        args: Args::Range(1, 2),
        interspersed: true,
        flags: &[&[
            flag("change", List, "Apply Dockerfile instruction to the created image").short('c'),
            flag("message", Str, "Set commit message for imported image").short('m'),
            flag("platform", Str, "Set platform if server is multi-platform capable"),
        ]],
        run: archive::import,
    },
    Command {
        paths: &["image inspect"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Display detailed information on one or more images",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[
            flag("format", Str, "Format the output with a Go template, or 'json'").short('f'),
            flag(
                "platform",
                Str,
                "Inspect a specific platform of the multi-platform image. If the image or the server is not multi-platform capable, the command will error out if the platform does not match. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
        ]],
        run: inspect::image,
    },
    Command {
        paths: &["image load", "load"],
        usage: "[OPTIONS]",
        about: "Load an image from a tar archive or STDIN",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("input", Str, "Read from tar archive file, instead of STDIN").short('i'),
            flag(
                "platform",
                Str,
                "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
            flag("quiet", Bool, "Suppress the load output").short('q'),
        ]],
        run: archive::load,
    },
    Command {
        paths: &["image ls", "image list", "images"],
        usage: "[OPTIONS] [REPOSITORY[:TAG]]",
        about: "List images",
        args: Args::Max(1),
        interspersed: true,
        flags: &[&[
            flag("all", Bool, "Show all images (default hides intermediate images)").short('a'),
            flag("digests", Bool, "Show digests"),
            flag("filter", Filter, "Filter output based on conditions provided").short('f'),
            flag("format", Str, "Format the output: 'table', 'table TEMPLATE', 'json' or a Go template"),
            flag("no-trunc", Bool, "Don't truncate output"),
            flag("quiet", Bool, "Only show image IDs").short('q'),
            flag("tree", Bool, "List multi-platform images as a tree (EXPERIMENTAL)"),
        ]],
        run: images::images,
    },
    Command {
        paths: &["image prune"],
        usage: "[OPTIONS]",
        about: "Remove unused images",
        args: Args::None,
        interspersed: true,
        flags: &[&[
            flag("all", Bool, "Remove all unused images, not just dangling ones").short('a'),
            flag("filter", Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
            flag("force", Bool, "Do not prompt for confirmation").short('f'),
        ]],
        run: prune::images,
    },
    Command {
        paths: &["image pull", "pull"],
        usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
        about: "Download an image from a registry",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("all-tags", Bool, "Download all tagged images in the repository").short('a'),
            flag("disable-content-trust", Bool, "Skip image verification").default("true"),
            flag("platform", Str, "Set platform if server is multi-platform capable"),
            flag("quiet", Bool, "Suppress verbose output").short('q'),
        ]],
        run: pull::pull,
    },
    Command {
        paths: &["image push", "push"],
        usage: "[OPTIONS] NAME[:TAG]",
        about: "Upload an image to a registry",
        args: Args::Exact(1),
        interspersed: true,
        flags: &[&[
            flag("all-tags", Bool, "Push all tags of an image to the repository").short('a'),
            flag("disable-content-trust", Bool, "Skip image signing").default("true"),
            flag(
                "platform",
                Str,
                "Push a platform-specific manifest as a single-platform image to the registry. Image index won't be pushed, meaning that other manifests, including attestations won't be preserved. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            flag("quiet", Bool, "Suppress verbose output").short('q'),
        ]],
        run: push::push,
    },
    Command {
        paths: &["image rm", "image remove", "rmi"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Remove one or more images",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[
            flag("force", Bool, "Force removal of the image").short('f'),
            flag("no-prune", Bool, "Do not delete untagged parents"),
            flag(
                "platform",
                Strings,
                "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
        ]],
        run: image::rm,
    },
    Command {
        paths: &["image save", "save"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
        args: Args::Min(1),
        interspersed: true,
        flags: &[&[
            flag("output", Str, "Write to a file, instead of STDOUT").short('o'),
            flag(
                "platform",
                Str,
                "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
        ]],
        run: archive::save,
    },
    Command {
        paths: &["image tag", "tag"],
        usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        args: Args::Exact(2),
        interspersed: true,
        flags: &[],
        run: image::tag,
    },
];
