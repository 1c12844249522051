//! docker's table for `cp`, cell by cell: what becomes of each kind of source at each kind of target, out of a container and into one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, shared, unique};

/// Targets: two that aren't there, a file, a folder, links to both, and a link to what isn't there.
const TARGETS: [&str; 8] = ["miss", "miss/", "file", "dir", "dir/", "tofile", "todir", "todang"];
const NO_FOLDER: &str = "!no such directory";
const ON_FILE: &str = "!";

/// A source with the flags, and what is new at each target: `path=content`, `path@link`, `path/`. One that is refused begins with `!` and has
/// what is said.
struct Row {
    flags: &'static [&'static str],
    source: &'static str,
    outcomes: [&'static str; 8],
}

const ROWS: [Row; 8] = [
    Row {
        flags: &[],
        source: "f",
        outcomes: ["miss=new", NO_FOLDER, "file=new", "dir/f=new", "dir/f=new", "file=new", "dir/f=new", "later=new"],
    },
    // A link is copied as it is …
    Row {
        flags: &[],
        source: "lf",
        outcomes: ["miss@f", NO_FOLDER, "file@f", "dir/lf@f", "dir/lf@f", "file@f", "dir/lf@f", "later@f"],
    },
    Row {
        flags: &[],
        source: "ld",
        outcomes: ["miss@d", NO_FOLDER, "file@d", "dir/ld@d", "dir/ld@d", "file@d", "dir/ld@d", "later@d"],
    },
    // … or where it leads, when that is asked for, or a slash follows.
    Row {
        flags: &["-L"],
        source: "lf",
        outcomes: [
            "miss=new",
            NO_FOLDER,
            "file=new",
            "dir/lf=new",
            "dir/lf=new",
            "file=new",
            "dir/lf=new",
            "later=new",
        ],
    },
    Row {
        flags: &["-L"],
        source: "ld",
        outcomes: [
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            ON_FILE,
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            ON_FILE,
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            "later/ later/a=a later/s/ later/s/b=b",
        ],
    },
    Row {
        flags: &[],
        source: "ld/",
        outcomes: [
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            ON_FILE,
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            ON_FILE,
            "dir/ld/ dir/ld/a=a dir/ld/s/ dir/ld/s/b=b",
            "later/ later/a=a later/s/ later/s/b=b",
        ],
    },
    Row {
        flags: &[],
        source: "d",
        outcomes: [
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "!cannot copy directory",
            "dir/d/ dir/d/a=a dir/d/s/ dir/d/s/b=b",
            "dir/d/ dir/d/a=a dir/d/s/ dir/d/s/b=b",
            "!cannot copy directory",
            "dir/d/ dir/d/a=a dir/d/s/ dir/d/s/b=b",
            "later/ later/a=a later/s/ later/s/b=b",
        ],
    },
    // The contents alone.
    Row {
        flags: &[],
        source: "d/.",
        outcomes: [
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "miss/ miss/a=a miss/s/ miss/s/b=b",
            "!cannot copy directory",
            "dir/a=a dir/s/ dir/s/b=b",
            "dir/a=a dir/s/ dir/s/b=b",
            "!cannot copy directory",
            "dir/a=a dir/s/ dir/s/b=b",
            "later/ later/a=a later/s/ later/s/b=b",
        ],
    },
];

/// What every target is made from, and what it shows when nothing has come.
const RESET: &str =
    "rm -rf /t; mkdir -p /t/dir; cd /t; printf old >file; ln -s file tofile; ln -s dir todir; ln -s later todang";
const UNTOUCHED: [&str; 5] = ["dir/", "file=old", "todang@later", "todir@dir", "tofile@file"];
/// Shows the tree that `in_folder` would, a line each.
const SHOW: &str = "cd /t; find . | sed 1d | while read -r p; do n=${p#./}; if [ -L $p ]; then echo $n@$(readlink $p); elif [ -d $p ]; \
                    then echo $n/; else echo $n=$(cat $p); fi; done";

fn sources(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("d/s"))?;
    fs::write(folder.join("f"), "new")?;
    fs::write(folder.join("d/a"), "a")?;
    fs::write(folder.join("d/s/b"), "b")?;
    symlink("f", folder.join("lf"))?;
    symlink("d", folder.join("ld"))?;
    Ok(())
}

fn reset(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder.join("dir"))?;
    fs::write(folder.join("file"), "old")?;
    for (name, to) in [("tofile", "file"), ("todir", "dir"), ("todang", "later")] {
        symlink(to, folder.join(name))?;
    }
    Ok(())
}

/// What [`SHOW`] shows.
fn in_folder(top: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(top)?.display().to_string();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_symlink() {
                lines.push(format!("{name}@{}", fs::read_link(&path)?.display()));
            } else if kind.is_dir() {
                lines.push(format!("{name}/"));
                folders.push(path);
            } else {
                lines.push(format!("{name}={}", fs::read_to_string(&path)?));
            }
        }
    }
    Ok(lines)
}

/// Compares what a cell has led to with the table.
fn check(what: &str, done: &naru_testkit::Done, outcome: &str, mut shown: Vec<String>) -> Result<()> {
    shown.retain(|line| !UNTOUCHED.contains(&line.as_str()));
    shown.sort();
    if let Some(why) = outcome.strip_prefix('!') {
        ensure!(done.code == 1 && done.stderr.contains(why), "{what}: {} {}", done.code, done.stderr);
        ensure!(shown.is_empty(), "{what} failed, and made {shown:?}");
        return Ok(());
    }
    ensure!(done.code == 0, "{what}: {} {}", done.code, done.stderr);
    ensure!(shown == outcome.split(' ').collect::<Vec<_>>(), "{what}: {shown:?}, not {outcome}");
    Ok(())
}

fn into(cli: &Client, name: &str) -> Result<()> {
    let again = format!("{SHOW}; {RESET}");
    cli.ok(["exec", name, "sh", "-c", RESET])?;
    for row in &ROWS {
        for (target, outcome) in TARGETS.iter().zip(row.outcomes) {
            let (source, target) = (format!("src/{}", row.source), format!("{name}:/t/{target}"));
            let done = cli.run([&["cp"][..], row.flags, &[&source, &target]].concat())?;
            let shown = cli.ok(["exec", name, "sh", "-c", &again])?;
            let what = format!("{:?} {source} to {target}", row.flags);
            check(&what, &done, outcome, shown.lines().map(ToOwned::to_owned).collect())?;
        }
    }
    Ok(())
}

fn out_of(cli: &Client, name: &str, folder: &Path) -> Result<()> {
    let targets = folder.join("t");
    for row in &ROWS {
        for (target, outcome) in TARGETS.iter().zip(row.outcomes) {
            reset(&targets)?;
            let (source, target) = (format!("{name}:/src/{}", row.source), format!("t/{target}"));
            let done = cli.run([&["cp"][..], row.flags, &[&source, &target]].concat())?;
            check(&format!("{:?} {source} to {target}", row.flags), &done, outcome, in_folder(&targets)?)?;
        }
    }
    Ok(())
}

#[test]
fn every_cell_in_both_directions() -> Result<()> {
    let engine = shared()?;
    // Both clients have to know the rules.
    for cli in [engine.docker(), engine.naru()] {
        let folder = engine.scratch("cp-table")?;
        sources(&folder.join("src"))?;
        let (cli, name) = (cli.in_folder(&folder), unique("cp-table"));
        cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "100000"])?;
        cli.ok(["cp", "src", &format!("{name}:/")])?;
        into(&cli, &name).and_then(|()| out_of(&cli, &name, &folder)).context(if cli.is_naru() {
            "naru"
        } else {
            "docker"
        })?;
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}
