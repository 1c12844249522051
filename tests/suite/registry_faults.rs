//! Every fault at every phase of a pull: the right bytes, or a clear error; never a half image, and what came of a layer is not fetched again.

use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, Phase, Phases, Registry, Spoil, Tar, Target, eventually, image};
use serde_json::json;

/// A layer is at least so long, in bytes; a manifest or a configuration is not.
const LAYER: usize = 100_000;

/// What may come of a pull with one bad answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// It goes well.
    Well,
    /// It goes well, or ends with an error: the registry said something that is wrong in itself.
    Either,
    /// It ends with an error.
    Error,
}

/// Each fault, and what comes of it once and always.
const FAULTS: [(Spoil, Want, Want); 12] = [
    (Spoil::CutBefore, Want::Well, Want::Error),
    (Spoil::CutInHead, Want::Well, Want::Error),
    (Spoil::CutInBody, Want::Well, Want::Either),
    (Spoil::WrongByte, Want::Either, Want::Error),
    (Spoil::Shorter, Want::Either, Want::Error),
    (Spoil::Longer, Want::Either, Want::Error),
    (Spoil::Slow, Want::Well, Want::Well),
    (Spoil::Status(429), Want::Well, Want::Error),
    (Spoil::Status(500), Want::Well, Want::Error),
    (Spoil::Status(503), Want::Well, Want::Error),
    (Spoil::Redirect, Want::Well, Want::Well),
    (Spoil::RedirectInCircles, Want::Either, Want::Error),
];

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

struct Setup {
    engine: Engine,
    phase: Phase,
}

impl Setup {
    fn run(&self) -> Result<()> {
        static PORT: AtomicU16 = AtomicU16::new(5300);
        let port = PORT.fetch_add(2, Ordering::Relaxed);
        let registry = Registry::start(&self.engine, port)?;
        let proxy = Phases::start(&self.engine, port + 1, port, LAYER)?;
        let content = random(1 << 20, u64::from(port));
        let layers = [image::busybox_rootfs()?, Tar::new().file("large", 0o644, &content).finish()];
        let config = json!({"Env": ["PATH=/bin"], "Labels": {"kit": "x".repeat(500)}});
        registry.fill(&image::archive("kit/faults:1", &layers, &config), "faults:1", &[])?;
        let reference = format!("{}/faults:1", proxy.address());
        // Busybox's layer is there already: one layer is asked for.
        self.engine.load_busybox()?;
        let sum = image::sha256(&content);
        for (spoil, once, always) in FAULTS {
            self.pull(&proxy, &reference, &sum, spoil, 1, once)
                .with_context(|| format!("{:?}: {spoil:?}", self.phase))?;
            // Those that are tried again take their time: one of each kind, and for one phase.
            let patient = matches!(spoil, Spoil::CutBefore | Spoil::Status(500)) && self.phase == Phase::Layer;
            if patient || !matches!(spoil, Spoil::Status(_) | Spoil::CutBefore | Spoil::CutInHead) {
                let all = usize::MAX;
                self.pull(&proxy, &reference, &sum, spoil, all, always)
                    .with_context(|| format!("{:?}: always {spoil:?}", self.phase))?;
            }
        }
        Ok(())
    }

    fn pull(&self, proxy: &Phases, reference: &str, sum: &str, spoil: Spoil, times: usize, want: Want) -> Result<()> {
        let cli = self.engine.cli();
        let naru = self.engine.target() == Target::Naru;
        proxy.spoil(self.phase, spoil, times)?;
        let done = cli.run(["pull", reference])?;
        let said = format!("{}{}", done.stdout, done.stderr);
        let (spoilt, ranges) = proxy.seen()?;
        ensure!(spoilt > 0 || !naru, "nothing of it was asked for: {said}");
        let well = done.code == 0;
        // dockerd may be less patient; it may not take what is wrong.
        ensure!(want == Want::Either || well == (want == Want::Well) || (!naru && !well), "{}: {said}", done.code);
        if !well {
            ensure!(cli.run(["inspect", reference])?.code == 1, "half an image is there: {said}");
            let clear = done.stderr.trim();
            ensure!(!clear.is_empty() && !clear.contains("panicked"), "no clear error: {said}");
            if spoil == Spoil::Status(429) && naru {
                ensure!(said.contains("the kit says no"), "the registry's word is not told: {said}");
            }
            // And it goes well with a registry that does.
            proxy.spoil(self.phase, spoil, 0)?;
            eventually("an honest pull", || cli.ok(["pull", reference]).map(drop))?;
        } else if naru && self.phase == Phase::Layer && spoil == Spoil::CutInBody {
            ensure!(ranges > 0, "it was fetched again from its beginning");
        }
        let own = cli.ok(["run", "--rm", reference, "sha256sum", "/large"])?;
        ensure!(own.starts_with(sum), "other bytes: {own}");
        cli.ok(["rmi", reference])?;
        if naru {
            let check = self.engine.http().post("/system/check", &serde_json::Value::Null)?.json()?;
            ensure!(check["Problems"] == json!([]), "the check found {check}");
        }
        Ok(())
    }
}

fn at(phase: Phase) -> Result<()> {
    let mut setup = Setup { engine: Engine::start()?, phase };
    setup.run()?;
    setup.engine.finish()
}

#[test]
fn of_a_manifest() -> Result<()> {
    at(Phase::Manifest)
}

#[test]
fn of_a_configuration() -> Result<()> {
    at(Phase::Config)
}

#[test]
fn of_a_layer() -> Result<()> {
    at(Phase::Layer)
}
