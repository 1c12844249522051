//! What a run does, decided before it begins.

/// How many containers there can be.
pub const NAMES: usize = 8;
/// How many networks and volumes there can be, beside those that are always there.
pub const OTHERS: usize = 2;
/// How many operations are done at once.
const AT_ONCE: u64 = 4;

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs until it is ended.
    Steady,
    /// Writes consecutive numbers, and runs until it is ended.
    Counter,
    /// Ends at once with code 3.
    Short,
    /// Runs until it is ended, and is removed then.
    Fleeting,
    /// Ends at once, and is removed then.
    FleetingShort,
    /// Runs until it is ended, and is started again unless a user stopped it.
    Unless,
    /// Fails at once, and is started again for ever.
    Crashing,
    /// Runs, and its health is checked all the time.
    Checked,
    /// Runs with published ports and a volume with a name.
    Served,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Steady,
        Kind::Counter,
        Kind::Short,
        Kind::Fleeting,
        Kind::FleetingShort,
        Kind::Unless,
        Kind::Crashing,
        Kind::Checked,
        Kind::Served,
    ];
    /// Whether it runs until it is ended.
    pub fn lasts(self) -> bool {
        !matches!(self, Kind::Short | Kind::FleetingShort | Kind::Crashing)
    }

    /// So many of them are made in a run of the suite.
    const NARROW: u64 = 8;
}

/// One thing that a client does, or that befalls the engine. Numbers are containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create(usize, Kind),
    Start(usize),
    Stop(usize),
    Kill(usize),
    Restart(usize),
    Pause(usize),
    Unpause(usize),
    Remove(usize, bool),
    Exec(usize),
    Update(usize),
    Logs(usize),
    Inspect(usize),
    List,
    Prune,
    MakeVolume(usize),
    RemoveVolume(usize),
    MakeNetwork(usize),
    RemoveNetwork(usize),
    Connect(usize, usize),
    Disconnect(usize, usize),
    Commit(usize),
    RemoveImage(usize),
    /// Reads what it says for a moment, and leaves.
    Follow(usize),
    /// The engine is killed so many milliseconds into the step.
    KillEngine(u64),
    /// Some monitor is.
    KillMonitor(u64),
    /// The first process of a container is, from outside.
    KillInit(usize),
}

impl Op {
    /// The container that it is about.
    pub fn target(self) -> Option<usize> {
        match self {
            Op::Create(n, _)
            | Op::Start(n)
            | Op::Stop(n)
            | Op::Kill(n)
            | Op::Restart(n)
            | Op::Pause(n)
            | Op::Unpause(n)
            | Op::Remove(n, _)
            | Op::Exec(n)
            | Op::Update(n)
            | Op::Logs(n)
            | Op::Inspect(n)
            | Op::Connect(n, _)
            | Op::Disconnect(n, _)
            | Op::Commit(n)
            | Op::Follow(n)
            | Op::KillInit(n) => Some(n),
            Op::List
            | Op::Prune
            | Op::MakeVolume(_)
            | Op::RemoveVolume(_)
            | Op::MakeNetwork(_)
            | Op::RemoveNetwork(_)
            | Op::RemoveImage(_)
            | Op::KillEngine(_)
            | Op::KillMonitor(_) => None,
        }
    }

    /// Whether a container is as it was after it, done or not.
    pub fn is_harmless(self) -> bool {
        matches!(
            self,
            Op::Exec(_)
                | Op::Update(_)
                | Op::Logs(_)
                | Op::Inspect(_)
                | Op::Connect(..)
                | Op::Disconnect(..)
                | Op::Commit(_)
                | Op::Follow(_)
        )
    }

    /// Whether things may fail beside it that must not fail otherwise.
    pub fn is_disaster(self) -> bool {
        matches!(self, Op::KillEngine(_) | Op::KillMonitor(_) | Op::KillInit(_))
    }
}

/// Operations that are done at the same time.
pub type Step = Vec<Op>;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    /// The one that the seed means; `wide` with networks, volumes, images and followed logs.
    pub fn random(seed: u64, operations: usize, wide: bool) -> Plan {
        let mut random = Random(seed, wide);
        let (mut steps, mut count) = (Vec::new(), 0);
        while count < operations {
            let step = random.step();
            count += step.len();
            steps.push(step);
        }
        Plan { steps }
    }
}

/// Splitmix64: small, and the same everywhere.
struct Random(u64, bool);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn name(&mut self) -> usize {
        (self.next() % NAMES as u64) as usize
    }

    fn other(&mut self) -> usize {
        (self.next() % OTHERS as u64) as usize
    }

    /// Mostly operations on containers of their own; sometimes all on one, so that they meet.
    fn step(&mut self) -> Step {
        let meet = (self.below(4) == 0).then(|| self.name());
        let mut step: Step = Vec::new();
        for _ in 0..=self.below(AT_ONCE) {
            let mut name = meet.unwrap_or_else(|| self.name());
            while meet.is_none() && step.iter().any(|op| op.target() == Some(name)) {
                name = self.name();
            }
            step.push(self.op(name));
        }
        match self.below(10) {
            0 => step.push(Op::KillEngine(self.below(40))),
            1 => step.push(Op::KillMonitor(self.next() % 64)),
            2 => step.extend([Op::KillEngine(self.below(40)), Op::KillMonitor(self.next() % 64)]),
            3 => {
                let name = self.name();
                if !step.iter().any(|op| op.target() == Some(name)) {
                    step.push(Op::KillInit(name));
                }
            }
            _ => {}
        }
        step
    }

    fn op(&mut self, name: usize) -> Op {
        let (operations, kinds) = if self.1 { (40, Kind::ALL.len() as u64) } else { (28, Kind::NARROW) };
        match self.below(operations) {
            0..=5 => Op::Create(name, Kind::ALL[(self.next() % kinds) as usize]),
            6..=11 => Op::Start(name),
            12 | 13 => Op::Stop(name),
            14 => Op::Kill(name),
            15 | 16 => Op::Restart(name),
            17 => Op::Pause(name),
            18 => Op::Unpause(name),
            19 => Op::Remove(name, false),
            20 | 21 => Op::Remove(name, true),
            22 => Op::Exec(name),
            23 => Op::Update(name),
            24 => Op::Logs(name),
            25 => Op::Inspect(name),
            26 => Op::List,
            28 => Op::MakeVolume(self.other()),
            29 => Op::RemoveVolume(self.other()),
            30 | 31 => Op::MakeNetwork(self.other()),
            32 => Op::RemoveNetwork(self.other()),
            33 | 34 => Op::Connect(name, self.other()),
            35 => Op::Disconnect(name, self.other()),
            36 => Op::Commit(name),
            37 => Op::RemoveImage(name),
            38 | 39 => Op::Follow(name),
            _ if self.below(4) == 0 => Op::Prune,
            _ => Op::List,
        }
    }
}
