//! Issuing again what turned up late: ops of closed origins of our region.
//!
//! Nobody has applied such an op, and nobody may apply it as it is: on the word that nothing of its
//! origin could come any more, replicas have folded and dropped, each in its own time, and their
//! removals cover the origin whole. So it is decided anew, here, from what it had seen, and what
//! comes of that is an ordinary op of ours, which names the late one: what it adds is added; what
//! it takes away is taken of what it had seen and no more; a plain write that a newer one has
//! replaced is skipped, and so is an add to a key that a newer write made another type; an element
//! goes to its old place. An increment raises the part of the closed origin itself, from where it
//! stood, which counts once however often it is done, and the same where that part is folded.
//! Whose turn it is, and how a late op gets there, is in `geo::proto` (`delivery::late`).

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each part deals with some changes, and with no others"
)]

mod known;
mod parts;
mod removals;
#[cfg(test)]
mod tests;

use crdt::{
    Attached, Bodies, Change, Deadline, Dot, End, FactId, Frame, Key, Kind, Number, Op, Past,
    Position, SeenPart, Side, Stamp, Time,
};

use super::Shard;
use super::txn::Txn;
pub use known::Known;

/// What has become of ops that turned up late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateOps {
    /// Ops that were issued again.
    pub reissued: u64,
    /// Effects of these that came to nothing, because a newer write had replaced them.
    pub skipped: u64,
    /// Increments of these that are lost: what they went on from is not known here any more.
    pub lost: u64,
}

impl LateOps {
    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.reissued += other.reissued;
        self.skipped += other.skipped;
        self.lost += other.lost;
    }
}

/// What a late op has seen of a counter part, and removes with what follows.
struct Named<S> {
    key: Box<[u8]>,
    /// The field or member; `None` for the string.
    name: Option<Box<[u8]>>,
    seen: SeenPart<S>,
}

/// A late op while it is issued again.
struct Again {
    op: Stamp,
    /// Everything of its origin up to this is held.
    end: Time,
    past: Past,
    parts: Vec<Named<Number>>,
    scores: Vec<Named<f64>>,
    done: LateOps,
}

/// Those of one thing.
fn named<S: Copy>(all: &[Named<S>], key: &Key<'_>, name: Option<&[u8]>) -> Vec<SeenPart<S>> {
    let of_thing = |part: &&Named<S>| *part.key == *key.name && part.name.as_deref() == name;
    all.iter().filter(of_thing).map(|part| part.seen).collect()
}

impl Again {
    fn parts(&self, key: &Key<'_>, field: Option<&[u8]>) -> Vec<SeenPart<Number>> {
        named(&self.parts, key, field)
    }

    fn scores(&self, key: &Key<'_>, member: &[u8]) -> Vec<SeenPart<f64>> {
        named(&self.scores, key, Some(member))
    }
}

impl Shard {
    /// What has become of ops that turned up late.
    pub const fn late_ops(&self) -> LateOps {
        self.late
    }

    /// What late increments went on from is known from elsewhere, until other things are.
    pub fn know(&mut self, known: Known) {
        self.known = known;
    }

    /// Issues again what turned up late and is ours to issue, and drops what has been.
    pub(super) fn reissue_late(&mut self, now_ms: u64) {
        if self.delivery.late().is_empty() || self.is_ahead() {
            return;
        }
        for frame in self.delivery.late().to_vec() {
            if self.delivery.can_reissue(&frame) {
                self.reissue(&frame, now_ms);
            }
        }
        let state = &self.state;
        self.delivery.drop_late(|frame, end| {
            let mut late = frame.iter().filter(|op| end < op.stamp.time);
            late.all(|op| state.reissued(op.stamp).is_some())
        });
    }

    fn reissue(&mut self, frame: &Frame, now_ms: u64) {
        let end = self.delivery.closed_at(frame.origin());
        for op in frame.iter().filter(|op| end < op.stamp.time) {
            if self.state.reissued(op.stamp).is_some() {
                continue;
            }
            self.seal(); // What was issued before is looked for in the log.
            let done = self.transact(now_ms, None, |txn| txn.reissue(&op, end));
            self.late.add(LateOps {
                reissued: 1,
                ..done
            });
            let LateOps { skipped, lost, .. } = done;
            // There may be millions; whoever hands them in says how many there were.
            tracing::debug!(stamp = %op.stamp, skipped, lost, "a late op was issued again");
            if 0 < lost {
                tracing::error!(
                    stamp = %op.stamp, lost,
                    "increments of a late op are lost: what they went on from is not known"
                );
            }
        }
    }
}

impl Txn<'_> {
    fn reissue(&mut self, op: &Op<'_>, end: Time) -> LateOps {
        let nowhere = self.shard.state.any_key();
        self.emit(&nowhere, Change::Reissue(op.stamp));
        let mut again = Again {
            op: op.stamp,
            end,
            past: self.shard.state.past(op.stamp, &op.deps),
            parts: Vec::new(),
            scores: Vec::new(),
            done: LateOps::default(),
        };
        for (index, effect) in (0..).zip(op.effects()) {
            if let Change::Reissue(of) = effect.change {
                if self.shard.state.reissued(of).is_some() {
                    break; // It was itself one that is issued again, and that has been.
                }
                self.emit(&nowhere, effect.change);
                continue;
            }
            let key = self.shard.state.seed().key(effect.key);
            let dot = Dot {
                time: op.stamp.time,
                index,
            };
            self.write_again(&mut again, &key, dot, effect.change);
        }
        again.done
    }

    /// Whether a write that came after the late one has made the key another type.
    fn is_retyped(&self, again: &mut Again, key: &Key<'_>, kind: Kind) -> bool {
        let newer = self.shard.state.newer_kind(key, again.op);
        let is_retyped = newer.is_some_and(|newer| newer != kind);
        again.done.skipped += u64::from(is_retyped);
        is_retyped
    }

    /// Ends deadlines of a life that is over, where a late write begins a new one: those that stand
    /// alone have perhaps been dropped here, and not elsewhere.
    fn begin_again(&mut self, key: &Key<'_>, change: &Change<'_>) {
        let field = match change {
            Change::StringAdd { .. }
            | Change::StringSet { .. }
            | Change::StringEdit { .. }
            | Change::ScoreAdd { .. }
            | Change::ScoreSet { .. }
            | Change::RaiseScore { .. }
            | Change::MemberAdd { .. }
            | Change::Push { .. }
            | Change::Insert { .. } => None,
            Change::RaisePart { field, .. } => *field,
            Change::FieldAdd { field, .. } | Change::FieldSet { field, .. } => Some(*field),
            _ => return,
        };
        let state = &self.shard.state;
        let holds_field = field.is_some_and(|field| state.holds_field(key, field));
        if state.survey(key, self.shard.origin).bodies == Bodies::NONE {
            let (bodies, deadlines) = (Bodies::NONE, true);
            self.emit(key, Change::Remove { bodies, deadlines });
        }
        if let Some(field) = field.filter(|_| !holds_field) {
            let deadlines = true;
            self.emit(key, Change::FieldRemove { field, deadlines });
        }
    }

    fn write_again(&mut self, again: &mut Again, key: &Key<'_>, dot: Dot, change: Change<'_>) {
        self.begin_again(key, &change);
        match change {
            Change::Reissue(_) => {}
            Change::RaisePart { .. } | Change::RaiseScore { .. } => {
                self.emit(key, change);
            }
            Change::ForgetPart { field, seen } => {
                let (key, name) = (key.name.into(), field.map(Box::from));
                again.parts.push(Named { key, name, seen });
            }
            Change::ForgetScore { member, seen } => {
                let (key, name) = (key.name.into(), Some(member.into()));
                again.scores.push(Named { key, name, seen });
            }
            Change::Remove { .. }
            | Change::Flush
            | Change::FieldRemove { .. }
            | Change::MemberRemove { .. }
            | Change::ScoreRemove { .. }
            | Change::ElementsRemove { .. } => self.remove_again(again, key, &change),
            Change::Deadline(deadline) => self.end_again(again, key, None, deadline),
            Change::FieldDeadline { field, deadline } => {
                self.end_again(again, key, Some(field), deadline);
            }
            Change::StringAdd { increment, carried } => {
                self.add_again(again, (key, None), dot, (increment, carried));
            }
            Change::FieldAdd {
                field,
                increment,
                carried,
            } => self.add_again(again, (key, Some(field)), dot, (increment, carried)),
            Change::ScoreAdd { member, increment } => {
                self.add_score_again(again, (key, member), dot, increment);
            }
            Change::StringSet { value, attached } => {
                self.set_again(again, (key, None), value, attached);
            }
            Change::FieldSet {
                field,
                value,
                attached,
            } => self.set_again(again, (key, Some(field)), value, attached),
            Change::StringEdit { .. } | Change::MemberAdd { .. } | Change::ScoreSet { .. } => {
                self.put_again(again, key, change);
            }
            Change::Push { .. } | Change::Insert { .. } | Change::ElementSet { .. } => {
                self.place_again(again, key, dot, change);
            }
        }
    }

    fn end_again(&mut self, again: &Again, key: &Key<'_>, field: Option<&[u8]>, to: Deadline) {
        let left = self.shard.state.deadline_left(key, field, &again.past);
        let loses = left.is_some_and(|left| to <= left);
        if loses || self.shard.state.survey(key, self.shard.origin).bodies == Bodies::NONE {
            return;
        }
        let change = match field {
            None => Change::Deadline(to),
            Some(field) => Change::FieldDeadline {
                field,
                deadline: to,
            },
        };
        self.emit(key, change);
    }

    /// Sets a string or a field to what was set, with what that had not seen.
    fn set_again(
        &mut self,
        again: &mut Again,
        (key, field): (&Key<'_>, Option<&[u8]>),
        value: &[u8],
        attached: Attached,
    ) {
        let kind = field.map_or(Kind::String, |_| Kind::Hash);
        if self.is_retyped(again, key, kind) {
            return;
        }
        let named = again.parts(key, field);
        let state = &self.shard.state;
        let left = state.left(key, field, &again.past, &named, Some(value));
        if left.is_newer {
            again.done.skipped += 1;
            return;
        }
        let value = left.value.unwrap_or_default();
        self.replace(key, field, &value, attached);
    }

    /// Replaces a string or a field by a base, with the counter parts that are there.
    fn replace(&mut self, key: &Key<'_>, field: Option<&[u8]>, value: &[u8], attached: Attached) {
        match field {
            None => {
                self.forget_parts(key, Bodies::STRING);
                self.emit(key, Change::StringSet { value, attached });
            }
            Some(field) => {
                self.forget_field(key, field);
                let change = Change::FieldSet {
                    field,
                    value,
                    attached,
                };
                self.emit(key, change);
            }
        }
    }

    fn put_again(&mut self, again: &mut Again, key: &Key<'_>, change: Change<'_>) {
        match change {
            Change::StringEdit { .. } if !self.is_retyped(again, key, Kind::String) => {
                let survey = self.shard.state.survey(key, self.shard.origin);
                if survey.counts {
                    self.rewrite(key, survey);
                }
                self.emit(key, change);
            }
            Change::MemberAdd { .. } if !self.is_retyped(again, key, Kind::Set) => {
                self.emit(key, change);
            }
            Change::ScoreSet { member, score } if !self.is_retyped(again, key, Kind::SortedSet) => {
                let named = again.scores(key, member);
                let state = &self.shard.state;
                let left = state.score_left(key, member, &again.past, &named, Some(score));
                if left.is_newer {
                    again.done.skipped += 1;
                    return;
                }
                self.forget_score(key, member);
                let score = score_in(left.value.as_deref()).unwrap_or(score);
                self.emit(key, Change::ScoreSet { member, score });
            }
            _ => {}
        }
    }

    fn place_again(&mut self, again: &mut Again, key: &Key<'_>, dot: Dot, change: Change<'_>) {
        if self.is_retyped(again, key, Kind::List) {
            return;
        }
        match change {
            Change::Push { end, value } => {
                let side = match end {
                    End::Head => Side::Left,
                    End::Tail => Side::Right,
                };
                let id = FactId {
                    stamp: again.op,
                    index: dot.index,
                };
                let at = Position::pushed(side, id);
                self.emit(key, Change::Insert { at, value });
            }
            Change::ElementSet { at, value, .. } => {
                match self.shard.state.element_to_set(key, &at, &again.past) {
                    Some(born) => {
                        self.emit(key, Change::ElementSet { at, born, value });
                    }
                    None => again.done.skipped += 1,
                }
            }
            _ => {
                self.emit(key, change);
            }
        }
    }
}

/// The score in eight bytes.
fn score_in(value: Option<&[u8]>) -> Option<f64> {
    value?.try_into().ok().map(f64::from_le_bytes)
}
