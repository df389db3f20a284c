//! What late increments went on from, told by whoever hands them in.
//!
//! An increment says what its origin has added by then, and so must be told what had been added
//! before. As a rule the counter part is there, or the log has it; but a region that has started
//! with nothing finds a part that the others have folded or dropped in neither.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "it is about increments, and about nothing else"
)]

use std::collections::{BTreeMap, HashMap};

use crdt::{Change, Dot, Increment, Number, Op, Origin, Raised, Slot, State, Time};

/// A string, field or member, and whose part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thing {
    origin: Origin,
    key: Box<[u8]>,
    name: Option<Box<[u8]>>,
}

/// The last increment before late ones: its place, and what had been added by then.
type Last<S> = Option<(Dot, Increment<S>)>;

/// See the module. Of one shard.
#[derive(Debug, Default)]
pub struct Known {
    numbers: HashMap<Thing, Last<Number>>,
    scores: HashMap<Thing, Last<f64>>,
}

/// Takes what comes last.
fn note<S>(of: &mut HashMap<Thing, Last<S>>, thing: &Thing, (at, increment): (Dot, Increment<S>)) {
    if let Some(last) = of.get_mut(thing)
        && last.as_ref().is_none_or(|(known, _)| *known < at)
    {
        *last = Some((at, increment));
    }
}

impl Known {
    /// Looks at an op of an origin of which all have everything up to `end`: what late increments
    /// went on from that all have is wanted.
    pub fn want(&mut self, op: &Op<'_>, end: Time) {
        if op.stamp.time <= end {
            return;
        }
        each(op, |thing, _, step| match step {
            Step::Number(Increment { birth, .. }) if birth.time <= end => {
                self.numbers.entry(thing).or_default();
            }
            Step::Score(Increment { birth, .. }) if birth.time <= end => {
                self.scores.entry(thing).or_default();
            }
            Step::Number(_) | Step::Score(_) => {}
        });
    }

    /// Takes what is wanted from an op that all have.
    pub fn note(&mut self, op: &Op<'_>, end: Time) {
        if end < op.stamp.time || !self.wants() {
            return;
        }
        each(op, |thing, at, step| match step {
            Step::Number(increment) => note(&mut self.numbers, &thing, (at, increment)),
            Step::Score(increment) => note(&mut self.scores, &thing, (at, increment)),
        });
    }

    /// Takes what is wanted from a state, as far as all have it.
    pub fn note_state(&mut self, state: &State, end: impl Fn(Origin) -> Time) {
        let mut by_slot: BTreeMap<Slot, Vec<(Thing, bool)>> = BTreeMap::new();
        let things = self.numbers.keys().map(|thing| (thing, false));
        let things = things.chain(self.scores.keys().map(|thing| (thing, true)));
        for (thing, is_score) in things {
            let slot = state.seed().key(&thing.key).slot;
            if 0 < state.places(slot) {
                let of_slot = by_slot.entry(slot).or_default();
                of_slot.push((thing.clone(), is_score));
            }
        }
        for (thing, is_score) in by_slot.into_values().flatten() {
            let (key, origin) = (state.seed().key(&thing.key), thing.origin);
            let is_had = |at: Dot| at.time <= end(origin);
            if is_score {
                let member = thing.name.as_deref().unwrap_or_default();
                let part = state.score_part_of(&key, member, origin);
                if let Some(part) = part.filter(|part| is_had(part.at)) {
                    let (birth, sum) = (part.birth, part.sum);
                    note(
                        &mut self.scores,
                        &thing,
                        (part.at, Increment { birth, sum }),
                    );
                }
            } else {
                let part = state.part_of(&key, thing.name.as_deref(), origin);
                if let Some(part) = part.filter(|part| is_had(part.at)) {
                    let (birth, sum) = (part.birth, part.sum);
                    note(
                        &mut self.numbers,
                        &thing,
                        (part.at, Increment { birth, sum }),
                    );
                }
            }
        }
    }

    /// Whether anything is wanted.
    pub fn wants(&self) -> bool {
        !self.numbers.is_empty() || !self.scores.is_empty()
    }

    pub(super) fn number(&self, origin: Origin, key: &[u8], field: Option<&[u8]>) -> Last<Number> {
        if self.numbers.is_empty() {
            return None;
        }
        self.numbers.get(&thing(origin, key, field)).copied()?
    }

    pub(super) fn score(&self, origin: Origin, key: &[u8], member: &[u8]) -> Last<f64> {
        if self.scores.is_empty() {
            return None;
        }
        self.scores
            .get(&thing(origin, key, Some(member)))
            .copied()?
    }
}

fn thing(origin: Origin, key: &[u8], name: Option<&[u8]>) -> Thing {
    Thing {
        origin,
        key: key.into(),
        name: name.map(Box::from),
    }
}

/// What an increment has come to.
enum Step {
    Number(Increment<Number>),
    Score(Increment<f64>),
}

/// The increments of an op, those of earlier lives that it issues again included.
fn each(op: &Op<'_>, mut visit: impl FnMut(Thing, Dot, Step)) {
    let own = op.stamp.origin;
    for (index, effect) in (0..).zip(op.effects()) {
        let time = op.stamp.time;
        let here = Dot { time, index };
        let (origin, name, at, step) = match &effect.change {
            Change::StringAdd { increment, .. } => (own, None, here, Step::Number(*increment)),
            Change::FieldAdd {
                field, increment, ..
            } => (own, Some(*field), here, Step::Number(*increment)),
            Change::ScoreAdd { member, increment } => {
                (own, Some(*member), here, Step::Score(*increment))
            }
            Change::RaisePart { field, raised } => {
                let Raised { birth, sum, .. } = **raised;
                let step = Step::Number(Increment { birth, sum });
                (raised.origin, *field, raised.at, step)
            }
            Change::RaiseScore { member, raised } => {
                let Raised { birth, sum, .. } = **raised;
                let step = Step::Score(Increment { birth, sum });
                (raised.origin, Some(*member), raised.at, step)
            }
            _ => continue,
        };
        visit(thing(origin, effect.key, name), at, step);
    }
}
