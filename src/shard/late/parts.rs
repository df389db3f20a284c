//! Increments that turn up late: each raises the counter part of its origin from where that stood.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each part deals with some changes, and with no others"
)]

use crdt::{
    Bodies, Change, Deadline, Dot, Increment, Key, Number, Origin, Raised, SeenPart, Stamp,
};

use super::Again;
use crate::shard::txn::Txn;

/// What an increment went on from.
enum Before<S> {
    /// A sum, at an earlier increment, or at none.
    From(Dot, S),
    /// It is known already, or what it added to was removed by its own origin.
    Done,
    /// Nobody here knows.
    Unknown,
}

impl Txn<'_> {
    pub(super) fn add_again(
        &mut self,
        again: &mut Again,
        (key, field): (&Key<'_>, Option<&[u8]>),
        at: Dot,
        (increment, carried): (Increment<Number>, Option<u64>),
    ) {
        let Increment { birth, sum } = increment;
        let origin = again.op.origin;
        let part = self.shard.state.part_of(key, field, origin);
        let known = || self.shard.known.number(origin, key.name, field);
        let before = self.before(again, part, (birth, at), || {
            let known = known().filter(|(dot, _)| *dot < at);
            if known.is_some() {
                return known;
            }
            self.in_log(key.name, (origin, at), |dot, change| match change {
                Change::StringAdd { increment, .. } if field.is_none() => Some((dot?, *increment)),
                Change::FieldAdd {
                    field: other,
                    increment,
                    ..
                } if field == Some(other) => Some((dot?, *increment)),
                Change::RaisePart {
                    field: other,
                    raised,
                } if field == *other && raised.origin == origin => {
                    let Raised { birth, sum, .. } = **raised;
                    Some((raised.at, Increment { birth, sum }))
                }
                _ => None,
            })
        });
        let Some((from, from_sum)) = settle(before, again) else {
            return;
        };
        let survey = self.shard.state.survey(key, self.shard.origin);
        let raised = Box::new(Raised {
            origin,
            birth,
            from,
            from_sum,
            at,
            sum,
        });
        self.emit(key, Change::RaisePart { field, raised });
        // What nobody else has a deadline for ends as its writer knew it.
        let is_new = survey.bodies == Bodies::NONE && !survey.deadlines;
        if let Some(ms) = carried.filter(|_| is_new) {
            let deadline = Deadline::At(ms);
            let change = match field {
                None => Change::Deadline(deadline),
                Some(field) => Change::FieldDeadline { field, deadline },
            };
            self.emit(key, change);
        }
    }

    pub(super) fn add_score_again(
        &mut self,
        again: &mut Again,
        (key, member): (&Key<'_>, &[u8]),
        at: Dot,
        increment: Increment<f64>,
    ) {
        let Increment { birth, sum } = increment;
        let origin = again.op.origin;
        let part = self.shard.state.score_part_of(key, member, origin);
        let known = || self.shard.known.score(origin, key.name, member);
        let before = self.before(again, part, (birth, at), || {
            let known = known().filter(|(dot, _)| *dot < at);
            if known.is_some() {
                return known;
            }
            self.in_log(key.name, (origin, at), |dot, change| match change {
                Change::ScoreAdd {
                    member: other,
                    increment,
                } if member == *other => Some((dot?, *increment)),
                Change::RaiseScore {
                    member: other,
                    raised,
                } if member == *other && raised.origin == origin => {
                    let Raised { birth, sum, .. } = **raised;
                    Some((raised.at, Increment { birth, sum }))
                }
                _ => None,
            })
        });
        let Some((from, from_sum)) = settle(before, again) else {
            return;
        };
        let raised = Box::new(Raised {
            origin,
            birth,
            from,
            from_sum,
            at,
            sum,
        });
        self.emit(key, Change::RaiseScore { member, raised });
    }

    /// What an increment went on from: the part that is here; nothing, where it or a late one that
    /// never came began the part; or what the log has of a part that was folded or collected.
    fn before<S: Default>(
        &self,
        again: &Again,
        part: Option<SeenPart<S>>,
        (birth, at): (Dot, Dot),
        logged: impl FnOnce() -> Option<(Dot, Increment<S>)>,
    ) -> Before<S> {
        match part {
            Some(part) if birth < part.birth => return Before::Done,
            Some(part) if birth == part.birth && at <= part.at => return Before::Done,
            Some(part) if birth == part.birth => return Before::From(part.at, part.sum),
            Some(_) | None => {}
        }
        let begun_by = Stamp {
            time: birth.time,
            origin: again.op.origin,
        };
        let never_came = again.end < birth.time && self.shard.state.reissued(begun_by).is_none();
        if birth == at || never_came {
            return Before::From(Dot::default(), S::default());
        }
        match logged() {
            Some((dot, increment)) if increment.birth == birth => Before::From(dot, increment.sum),
            _ => Before::Unknown,
        }
    }

    /// The last increment of an origin before another in the log, of those that `pick` picks: with
    /// its own place where it is that origin's own op.
    fn in_log<S>(
        &self,
        key: &[u8],
        (origin, until): (Origin, Dot),
        pick: impl Fn(Option<Dot>, &Change<'_>) -> Option<(Dot, Increment<S>)>,
    ) -> Option<(Dot, Increment<S>)> {
        let mut last: Option<(Dot, Increment<S>)> = None;
        for op in self.shard.log.frames().flat_map(|frame| frame.iter()) {
            for (index, effect) in (0..).zip(op.effects()) {
                let time = op.stamp.time;
                let own = (op.stamp.origin == origin).then_some(Dot { time, index });
                let found = if effect.key == key {
                    pick(own, &effect.change)
                } else {
                    None
                };
                let is_later = |dot: Dot| last.as_ref().is_none_or(|last| last.0 < dot);
                last = match found {
                    Some((dot, increment)) if dot < until && is_later(dot) => {
                        Some((dot, increment))
                    }
                    _ => last,
                };
            }
        }
        last
    }
}

/// What to raise from, if anything is to be raised.
fn settle<S>(before: Before<S>, again: &mut Again) -> Option<(Dot, S)> {
    match before {
        Before::From(from, sum) => Some((from, sum)),
        Before::Done => {
            again.done.skipped += 1;
            None
        }
        Before::Unknown => {
            again.done.lost += 1;
            None
        }
    }
}
