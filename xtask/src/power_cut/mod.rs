//! `cargo xtask power-cut`: the part of `tools/power-cut` that runs the machines and judges.

mod disk;
mod story;

use anyhow::{Context as _, Result, bail, ensure};
use disk::Journal;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use story::Story;

/// As many disks as one machine gets.
const DISKS: usize = 16;

/// What is to be done.
struct Options {
    kernel: PathBuf,
    work: PathBuf,
    seed: u64,
    steps: u32,
    cuts: usize,
    limit: Duration,
    log: Option<PathBuf>,
}

/// Runs it with the arguments of the command line.
///
/// # Errors
/// When a machine can't be run, or something that was acknowledged is lost; the text tells what after which cut.
pub fn run(args: impl Iterator<Item = String>) -> Result<()> {
    let options = Options::parse(args)?;
    let journal = Journal::default();
    let began = Instant::now();
    let story = record(&options, &journal)?;
    let (first, last) = (story.beginning(), journal.position());
    ensure!(first < last, "nothing was acknowledged");
    say(&format!(
        "power-cut: seed {}: {} acknowledgements, {last} writes and flushes ({:.0} s)",
        options.seed,
        story.acknowledged(),
        began.elapsed().as_secs_f64()
    ));
    let mut random = Random(options.seed);
    let positions: Vec<usize> = (0..options.cuts).map(|_| first + random.below(last - first)).collect();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (index, positions) in positions.chunks(DISKS).enumerate() {
        let mut disks = Vec::new();
        for (number, &position) in positions.iter().enumerate() {
            disks.push(cut(&options, &journal, position, number, &mut random)?);
        }
        let said = verify(&options, &disks, index)?;
        ensure!(said.len() == positions.len(), "{} of {} disks were looked at", said.len(), positions.len());
        for (&position, said) in positions.iter().zip(&said) {
            let (of_this, problems) = story.judge(position, said);
            checked += of_this;
            wrong.extend(problems.iter().map(|problem| format!("cut at {position}: {problem}")));
        }
    }
    say(&format!(
        "power-cut: {} cuts, {checked} acknowledged states looked for, {} wrong ({:.0} s)",
        positions.len(),
        wrong.len(),
        began.elapsed().as_secs_f64()
    ));
    if wrong.is_empty() { Ok(()) } else { bail!("with seed {}:\n{}", options.seed, wrong.join("\n")) }
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let limit = std::env::var("NARU_GUEST_LIMIT").ok().map(|text| text.parse()).transpose();
        let mut options = Self {
            kernel: PathBuf::new(),
            work: PathBuf::new(),
            seed: 1,
            steps: 40,
            cuts: 6,
            limit: Duration::from_secs(limit.context("NARU_GUEST_LIMIT")?.unwrap_or(600)),
            log: std::env::var_os("NARU_GUEST_LOG").map(PathBuf::from),
        };
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u32>().with_context(|| format!("{name} {value}"));
            match name.as_str() {
                "--kernel" => options.kernel = value.into(),
                "--work" => options.work = value.into(),
                "--seed" => options.seed = number()?.into(),
                "--steps" => options.steps = number()?,
                "--cuts" => options.cuts = number()? as usize,
                _ => bail!("there is no option {name}; there are --seed, --steps and --cuts"),
            }
        }
        Ok(options)
    }
}

/// The first machine: what it said, and in the journal what it wrote.
fn record(options: &Options, journal: &Journal) -> Result<Story> {
    let disk = options.work.join("disk-of-work");
    copy(&options.work.join("disk"), &disk)?;
    let socket = options.work.join("socket");
    let listener = UnixListener::bind(&socket).context("listen for the machine")?;
    let server = std::thread::spawn({
        let journal = journal.clone();
        move || disk::serve(listener.accept().context("accept the machine")?.0, &disk, &journal)
    });
    let drive = format!("driver=nbd,server.type=unix,server.path={},if=virtio,cache=writeback", socket.display());
    let mut machine = Machine::start(options, &format!("work {} {}", options.seed, options.steps), &[drive], "work")?;
    let mut story = Story::default();
    let ended = machine.listen(|line| {
        story.hear(line, journal.position());
        story::marked(line).is_some_and(|(verb, _)| verb == "end")
    });
    drop(machine);
    ended?;
    match server.join() {
        Ok(served) => served?,
        Err(_) => bail!("the server of the disk has panicked"),
    }
    Ok(story)
}

/// A disk as a power cut at `position` leaves it: nothing, half, or nearly all is there of what was not flushed.
fn cut(options: &Options, journal: &Journal, position: usize, number: usize, random: &mut Random) -> Result<PathBuf> {
    let path = options.work.join(format!("cut{number}"));
    copy(&options.work.join("disk"), &path)?;
    let disk = File::options().write(true).open(&path).context("open a disk")?;
    let kept_of_ten = [0, 5, 9][random.below(3)];
    journal.replay(&disk, position, || random.below(10) < kept_of_ten)?;
    Ok(path)
}

/// The second machine: what it said about each disk.
fn verify(options: &Options, disks: &[PathBuf], index: usize) -> Result<Vec<Vec<String>>> {
    let drives: Vec<String> =
        disks.iter().map(|disk| format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())).collect();
    let mut machine = Machine::start(options, "verify", &drives, &format!("verify{index}"))?;
    let mut said: Vec<Vec<String>> = Vec::new();
    machine.listen(|line| match story::marked(line) {
        Some(("disk", _)) => {
            said.push(Vec::new());
            false
        }
        Some(("end", _)) => true,
        Some(_) => {
            if let Some(of_disk) = said.last_mut() {
                of_disk.push(line.to_owned());
            }
            false
        }
        None => false,
    })?;
    Ok(said)
}

/// A virtual machine; switched off when dropped.
struct Machine {
    child: Child,
    log: Option<File>,
    until: Instant,
}

impl Machine {
    /// Starts one that does `task`, with these disks.
    fn start(options: &Options, task: &str, drives: &[String], name: &str) -> Result<Self> {
        let initrd = options.work.join(format!("initramfs-{name}"));
        let mut archive = std::fs::read(options.work.join("initramfs")).context("read the initramfs")?;
        // The kernel looks for the next archive at a multiple of four.
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(task_archive(task));
        std::fs::write(&initrd, archive).context("write the initramfs")?;
        let mut command = Command::new("qemu-system-x86_64");
        // As in tools/guest.
        command.args(["-accel", "tcg", "-cpu", "max,cx16=off,la57=off", "-smp", "2", "-m", "1024"]);
        command.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel"]).arg(&options.kernel);
        command.arg("-initrd").arg(&initrd);
        command.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4 random.trust_cpu=on mitigations=off"]);
        for drive in drives {
            command.args(["-drive", drive]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start qemu-system-x86_64")?;
        let log = options.log.as_ref().map(|folder| -> Result<File> {
            std::fs::create_dir_all(folder)?;
            Ok(File::create(folder.join(name))?)
        });
        Ok(Self { child, log: log.transpose()?, until: Instant::now() + options.limit })
    }

    /// Hands each line of the console to `hear`, until that has heard enough.
    fn listen(&mut self, mut hear: impl FnMut(&str) -> bool) -> Result<()> {
        let console = self.child.stdout.take().context("the console is gone")?;
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut last = Vec::new();
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                let why =
                    if left.is_zero() { "was not done in time (NARU_GUEST_LIMIT)" } else { "has ended too early" };
                bail!("the machine {why}; it said last:\n{}", last.join("\n"));
            };
            if let Some(log) = &mut self.log {
                writeln!(log, "{line}").context("write the log")?;
            }
            if hear(&line) {
                return Ok(());
            }
            last.push(line);
            if last.len() > 40 {
                last.remove(0);
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An archive (cpio's "newc" form) with nothing but `/etc/chosen-checks`.
fn task_archive(task: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |name: &str, mode: usize, content: &str| {
        let fields =
            [1, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0].map(|field| format!("{field:08x}"));
        archive.extend(b"070701");
        archive.extend(fields.concat().bytes());
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content.bytes());
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    entry("etc/chosen-checks", 0o100_644, task);
    entry("TRAILER!!!", 0, "");
    archive
}

/// A copy that takes no more room than its original.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status().context("run cp")?;
    ensure!(done.success(), "{} can't be copied", from.display());
    Ok(())
}

/// Random numbers that can be had again (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        let mut x = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        let mixed = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).unwrap_or(0) % limit.max(1)
    }
}

#[expect(clippy::print_stdout, reason = "a developer's tool speaks to the terminal")]
fn say(text: &str) {
    println!("{text}");
}
