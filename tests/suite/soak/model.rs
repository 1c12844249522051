//! What must be true after what has been acknowledged.

use super::plan::{Kind, NAMES, Op, Step};

/// What is known of one container; `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub kind: Option<Kind>,
    pub present: Option<bool>,
    pub running: Option<bool>,
    /// Whether a user stopped it last.
    pub stopped: bool,
}

/// An operation with the status of its answer, if there was one.
pub type Done = (Op, Option<u16>);

/// All containers.
#[derive(Debug)]
pub struct Model {
    pub known: Vec<Known>,
}

impl Model {
    /// Nothing is there.
    pub fn new() -> Model {
        Model { known: vec![Known { present: Some(false), running: Some(false), ..Known::default() }; NAMES] }
    }

    /// Takes what was done in a step. Of a container that several operations met at nothing is known, nor of one that something befell.
    pub fn take(&mut self, step: &Step, done: &[Done]) {
        for (name, known) in self.known.iter_mut().enumerate() {
            let about: Vec<&Done> = done.iter().filter(|(op, _)| op.target() == Some(name)).collect();
            match about.as_slice() {
                [] => {}
                [(op, status)] => known.take(*op, *status),
                _ => *known = Known::default(),
            }
            let comes_back = match known.kind {
                Some(Kind::Crashing) => true,
                Some(Kind::Unless) => !known.stopped && known.running == Some(false),
                _ => false,
            };
            if comes_back && step.iter().any(|op| matches!(op, Op::KillEngine(_))) {
                // A new engine starts what is to be always there, as docker has it, also when a user had stopped it; and what could not be
                // started again before.
                known.running = None;
            }
            if step.iter().any(|op| matches!(op, Op::KillMonitor(_) | Op::Prune)) {
                known.running = known.running.filter(|running| !running);
                // One that removes itself may have ended.
                if known.present == Some(true) {
                    known.present = None;
                }
            }
        }
    }
}

impl Known {
    fn take(&mut self, op: Op, status: Option<u16>) {
        let Some(status) = status else {
            // Never answered: it may have been done, in part or in whole.
            if !op.is_harmless() {
                *self = Known::default();
            }
            return;
        };
        // What isn't there may be the network.
        if matches!(op, Op::Connect(..) | Op::Disconnect(..)) {
            return;
        }
        let lasts = matches!(self.kind, Some(kind) if kind.lasts());
        let goes = !matches!(self.kind, Some(kind) if !matches!(kind, Kind::Fleeting | Kind::FleetingShort));
        match (op, status) {
            // What isn't there may be a network that it was on.
            (Op::Start(_) | Op::Restart(_), 404) => *self = Known::default(),
            (_, 404) => *self = Known { present: Some(false), running: Some(false), ..Known::default() },
            (Op::Create(_, kind), 201) => {
                let (present, running) = (Some(true), Some(false));
                *self = Known { kind: Some(kind), present, running, stopped: false };
            }
            (Op::Start(_) | Op::Restart(_), 204 | 304) => {
                self.running = lasts.then_some(true);
                self.stopped = false;
                if self.kind == Some(Kind::FleetingShort) || self.kind.is_none() {
                    self.present = None;
                }
            }
            (Op::Stop(_) | Op::Kill(_), 204 | 304) => {
                self.running = Some(false);
                self.stopped = true;
                self.present = if goes { None } else { Some(true) };
            }
            (Op::Remove(..), 204) => {
                *self = Known { present: Some(false), running: Some(false), ..Known::default() };
            }
            // Refused for want of the right state: nothing has changed.
            (Op::Unpause(_), 500) | (_, 200..500) if !matches!(op, Op::KillInit(_)) => {}
            _ => *self = Known::default(),
        }
    }
}
