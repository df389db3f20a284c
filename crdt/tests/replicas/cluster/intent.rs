//! What commands do, decided from what the model sees: the rules for what a write ships besides.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a function is about some commands, and no others"
)]

use crdt::{
    Attached, Bodies, Change, Deadline, Edit, End, Increment, Kind, Number, Position, SeenPart,
    parse_integer,
};

use super::Issuing;
use crate::model::{Model, Part, Place, Sum};

/// A command, without its key. Names of fields and members are single bytes.
#[derive(Clone, Debug)]
pub(crate) enum Intent {
    Set(Vec<u8>, Attached),
    Append(Vec<u8>),
    Overwrite(u64, Vec<u8>),
    SetBit(u64, bool),
    Add(i64),
    AddDecimal(i64),
    Delete,
    Flush,
    End(Deadline),
    /// Removes what is past its deadline, but the deadline.
    Reap,
    FieldSet(u8, Vec<u8>, Attached),
    FieldAdd(u8, i64),
    FieldRemove(u8),
    FieldEnd(u8, Deadline),
    /// Removes a field that is past its deadline, but the deadline.
    FieldReap(u8),
    MemberAdd(u8),
    MemberRemove(u8),
    ScoreSet(u8, f64),
    ScoreAdd(u8, f64),
    ScoreRemove(u8),
    Push(End, Vec<u8>),
    /// From this end, so many.
    Pop(End, usize),
    Insert(usize, Vec<u8>),
    ElementSet(usize, Vec<u8>),
}

const FINITE: fn(Attached, Option<u64>) -> Attached = |attached, ends_at| match (attached, ends_at)
{
    (Attached::Nothing, Some(ms)) => Attached::Deadline(Deadline::At(ms)),
    (attached, _) => attached,
};

impl Intent {
    /// The type that the command is for, if it is for one.
    fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Set(..)
            | Self::Delete
            | Self::Flush
            | Self::End(_)
            | Self::Reap
            | Self::FieldReap(_) => return None,
            Self::Append(_)
            | Self::Overwrite(..)
            | Self::SetBit(..)
            | Self::Add(_)
            | Self::AddDecimal(_) => Kind::String,
            Self::FieldSet(..) | Self::FieldAdd(..) | Self::FieldRemove(_) | Self::FieldEnd(..) => {
                Kind::Hash
            }
            Self::MemberAdd(_) | Self::MemberRemove(_) => Kind::Set,
            Self::ScoreSet(..) | Self::ScoreAdd(..) | Self::ScoreRemove(_) => Kind::SortedSet,
            Self::Push(..) | Self::Pop(..) | Self::Insert(..) | Self::ElementSet(..) => Kind::List,
        })
    }

    /// Runs the command; one that Redis would refuse does nothing.
    pub(crate) fn run(&self, op: &mut Issuing<'_>, key: &[u8]) {
        let seen = op.replica.model.kind(key, op.now_ms);
        if let (Some(wanted), Some(seen)) = (self.kind(), seen)
            && wanted != seen
        {
            return;
        }
        match self {
            Self::Set(value, attached) => {
                let ends_at = op.prepare(key, Kind::String);
                op.replace_string(key, value, *attached, ends_at);
            }
            Self::Append(bytes) => op.edit(key, Edit::Append(bytes)),
            Self::Overwrite(offset, bytes) => op.edit(
                key,
                Edit::Overwrite {
                    offset: *offset,
                    bytes,
                },
            ),
            Self::SetBit(offset, bit) => op.edit(
                key,
                Edit::Bits {
                    offset: *offset,
                    width: 1,
                    value: u64::from(*bit),
                },
            ),
            Self::Add(by) => op.add(key, Number::int((*by).into())),
            Self::AddDecimal(by) => op.add(key, Number::dec((*by).into())),
            Self::Delete => op.remove_all(key),
            Self::Flush => op.flush(),
            Self::End(deadline) => {
                if seen.is_some() {
                    op.emit(key, Change::Deadline(*deadline));
                }
            }
            Self::Reap => op.reap(key),
            Self::FieldReap(name) => op.reap_field(key, &[*name]),
            Self::FieldSet(..) | Self::FieldAdd(..) | Self::FieldRemove(_) | Self::FieldEnd(..) => {
                self.run_hash(op, key);
            }
            Self::MemberAdd(_)
            | Self::MemberRemove(_)
            | Self::ScoreSet(..)
            | Self::ScoreAdd(..)
            | Self::ScoreRemove(_) => self.run_set(op, key),
            Self::Push(..) | Self::Pop(..) | Self::Insert(..) | Self::ElementSet(..) => {
                self.run_list(op, key);
            }
        }
    }

    fn run_hash(&self, op: &mut Issuing<'_>, key: &[u8]) {
        let (Self::FieldSet(name, ..)
        | Self::FieldAdd(name, _)
        | Self::FieldRemove(name)
        | Self::FieldEnd(name, _)) = self
        else {
            return;
        };
        let field = &[*name];
        op.prepare(key, Kind::Hash);
        let place = Place::Field(field.into());
        let fields = op.replica.model.look(key, op.now_ms).fields;
        let found = fields.get(field.as_slice()).cloned();
        if found.is_none() && op.replica.model.has_deadlines(key, &place) {
            op.remove_field(key, field);
        }
        let ends_at = found.as_ref().and_then(|found| found.1);
        match self {
            Self::FieldSet(_, value, attached) => {
                op.forget(key, &place);
                let attached = FINITE(*attached, ends_at);
                op.emit(
                    key,
                    Change::FieldSet {
                        field,
                        value,
                        attached,
                    },
                );
            }
            Self::FieldAdd(_, by) => {
                if found.is_some_and(|found| parse_integer(&found.0).is_none()) {
                    return;
                }
                let increment = op.increment_number(key, &place, Number::int((*by).into()));
                let carried = ends_at;
                op.emit(
                    key,
                    Change::FieldAdd {
                        field,
                        increment,
                        carried,
                    },
                );
            }
            Self::FieldRemove(_) if found.is_some() => op.remove_field(key, field),
            Self::FieldEnd(_, deadline) if found.is_some() => {
                let deadline = *deadline;
                op.emit(key, Change::FieldDeadline { field, deadline });
            }
            _ => {}
        }
    }

    fn run_set(&self, op: &mut Issuing<'_>, key: &[u8]) {
        match self {
            Self::MemberAdd(name) => {
                op.prepare(key, Kind::Set);
                op.emit(key, Change::MemberAdd { member: &[*name] });
            }
            Self::MemberRemove(name) => {
                op.prepare(key, Kind::Set);
                if op.replica.model.exists(key, &Place::Member(vec![*name])) {
                    op.emit(key, Change::MemberRemove { member: &[*name] });
                }
            }
            Self::ScoreSet(name, score) => {
                op.prepare(key, Kind::SortedSet);
                let (member, score) = (&[*name], *score);
                op.forget(key, &Place::Score(member.into()));
                op.emit(key, Change::ScoreSet { member, score });
            }
            Self::ScoreAdd(name, by) => {
                op.prepare(key, Kind::SortedSet);
                let member = &[*name];
                let own = op.own_part(key, &Place::Score(member.into()));
                let increment = match own.map(|part| (part.birth, part.sum)) {
                    Some((birth, Sum::Score(sum))) => Increment {
                        birth,
                        sum: sum + by,
                    },
                    _ => Increment {
                        birth: op.next_dot(),
                        sum: *by,
                    },
                };
                let score = op.replica.model.score(key, member).unwrap_or(0.0) + by;
                if score.is_nan() {
                    return;
                }
                if increment.sum.is_nan() {
                    op.forget(key, &Place::Score(member.into()));
                    op.emit(key, Change::ScoreSet { member, score });
                    return;
                }
                op.emit(key, Change::ScoreAdd { member, increment });
            }
            Self::ScoreRemove(name) => {
                op.prepare(key, Kind::SortedSet);
                let place = Place::Score(vec![*name]);
                if op.replica.model.exists(key, &place) {
                    op.forget(key, &place);
                    op.emit(key, Change::ScoreRemove { member: &[*name] });
                }
            }
            _ => {}
        }
    }

    fn run_list(&self, op: &mut Issuing<'_>, key: &[u8]) {
        op.prepare(key, Kind::List);
        let elements = op.replica.model.elements(key);
        let position = |rank: usize| elements.get(rank).map(|element| &element.0);
        match self {
            Self::Push(end, value) => op.emit(key, Change::Push { end: *end, value }),
            Self::Pop(end, count) if !elements.is_empty() => {
                let count = (*count).clamp(1, elements.len());
                let start = match end {
                    End::Head => 0,
                    End::Tail => elements.len() - count,
                };
                let (first, last) = (&elements[start].0, &elements[start + count - 1].0);
                let (first, last) = (first.clone(), last.clone());
                op.emit(key, Change::ElementsRemove { first, last });
            }
            Self::Insert(rank, value) if !elements.is_empty() => {
                let rank = rank % (elements.len() + 1);
                let before = rank.checked_sub(1).and_then(position);
                let at = Position::between(before, position(rank), op.next_id());
                op.emit(key, Change::Insert { at, value });
            }
            Self::ElementSet(rank, value) if !elements.is_empty() => {
                let (at, born, _) = elements[rank % elements.len()].clone();
                op.emit(key, Change::ElementSet { at, born, value });
            }
            _ => {}
        }
    }
}

/// What commands have in common.
impl Issuing<'_> {
    fn model(&self) -> &Model {
        &self.replica.model
    }

    /// The bodies that hold something at a key.
    fn bodies(&self, key: &[u8]) -> Bodies {
        let kinds = [
            Kind::String,
            Kind::Hash,
            Kind::Set,
            Kind::SortedSet,
            Kind::List,
        ];
        let there = |kind: &Kind| !self.model().existing(key, *kind).is_empty();
        let kinds = kinds.into_iter().filter(there);
        kinds.fold(Bodies::NONE, |all, kind| all.and(kind.bodies()))
    }

    /// Makes way for a write of a kind. Returns when a key that lives on ends.
    fn prepare(&mut self, key: &[u8], kind: Kind) -> Option<u64> {
        let deadline = self.model().deadline(key, &Place::String);
        self.make_way(key, kind)?;
        deadline.and_then(Deadline::finite)
    }

    /// Removes what is of another life or type. Returns whether the key lives on.
    fn make_way(&mut self, key: &[u8], kind: Kind) -> Option<()> {
        if self.model().kind(key, self.now_ms).is_none() {
            self.remove_all(key);
            return None;
        }
        let bodies = self.bodies(key).but(kind.bodies());
        if bodies != Bodies::NONE {
            self.forget_bodies(key, bodies);
            let deadlines = false;
            self.emit(key, Change::Remove { bodies, deadlines });
        }
        Some(())
    }

    fn remove_all(&mut self, key: &[u8]) {
        let bodies = Bodies::ALL;
        let any = self.bodies(key) != Bodies::NONE;
        if any || self.model().has_deadlines(key, &Place::String) {
            self.forget_bodies(key, bodies);
            let deadlines = true;
            self.emit(key, Change::Remove { bodies, deadlines });
        }
    }

    fn reap(&mut self, key: &[u8]) {
        let deadline = self.model().deadline(key, &Place::String);
        let past = deadline
            .and_then(Deadline::finite)
            .is_some_and(|ms| ms <= self.now_ms);
        if past && self.bodies(key) != Bodies::NONE {
            self.forget_bodies(key, Bodies::ALL);
            let (bodies, deadlines) = (Bodies::ALL, false);
            self.emit(key, Change::Remove { bodies, deadlines });
        }
    }

    fn reap_field(&mut self, key: &[u8], field: &[u8]) {
        let place = Place::Field(field.into());
        let model = self.model();
        if model.is_past(key, &place, self.now_ms) && model.exists(key, &place) {
            self.forget(key, &place);
            let deadlines = false;
            self.emit(key, Change::FieldRemove { field, deadlines });
        }
    }

    fn flush(&mut self) {
        for key in self.model().keys() {
            self.forget_bodies(&key, Bodies::ALL);
        }
        self.emit(b"", Change::Flush);
    }

    /// Ships what was seen of the counter parts of some bodies.
    fn forget_bodies(&mut self, key: &[u8], bodies: Bodies) {
        for kind in [Kind::String, Kind::Hash, Kind::SortedSet] {
            if bodies.has(kind.bodies()) {
                for place in self.model().existing(key, kind) {
                    self.forget(key, &place);
                }
            }
        }
    }

    /// Whether the state holds a counter part as such: it may have folded it.
    fn holds(&self, key: &[u8], place: &Place, part: &Part) -> bool {
        let state = &self.replica.state;
        let key = state.seed().key(key);
        let birth = match place {
            Place::Score(member) => state
                .score_part_of(&key, member, part.origin)
                .map(|seen| seen.birth),
            Place::Field(field) => state
                .part_of(&key, Some(field), part.origin)
                .map(|seen| seen.birth),
            _ => state
                .part_of(&key, None, part.origin)
                .map(|seen| seen.birth),
        };
        birth == Some(part.birth)
    }

    /// Ships what was seen of the counter parts of a thing.
    fn forget(&mut self, key: &[u8], place: &Place) {
        for part in self.model().live_parts(key, place) {
            if !self.holds(key, place, &part) {
                continue;
            }
            let Part {
                origin, birth, at, ..
            } = part;
            let change = match (place, part.sum) {
                (Place::Score(member), Sum::Score(sum)) => Change::ForgetScore {
                    member,
                    seen: SeenPart {
                        origin,
                        birth,
                        at,
                        sum,
                    },
                },
                (place, Sum::Number(sum)) => Change::ForgetPart {
                    field: match place {
                        Place::Field(field) => Some(field),
                        _ => None,
                    },
                    seen: SeenPart {
                        origin,
                        birth,
                        at,
                        sum,
                    },
                },
                _ => continue,
            };
            self.emit(key, change);
        }
    }

    fn own_part(&self, key: &[u8], place: &Place) -> Option<Part> {
        let parts = self.model().live_parts(key, place);
        parts.into_iter().find(|part| part.origin == self.origin())
    }

    fn increment_number(&self, key: &[u8], place: &Place, by: Number) -> Increment<Number> {
        match self.own_part(key, place).map(|part| (part.birth, part.sum)) {
            Some((birth, Sum::Number(sum))) => Increment {
                birth,
                sum: sum + by,
            },
            _ => Increment {
                birth: self.next_dot(),
                sum: by,
            },
        }
    }

    fn remove_field(&mut self, key: &[u8], field: &[u8]) {
        self.forget(key, &Place::Field(field.into()));
        let deadlines = true;
        self.emit(key, Change::FieldRemove { field, deadlines });
    }

    fn replace_string(
        &mut self,
        key: &[u8],
        value: &[u8],
        attached: Attached,
        ends_at: Option<u64>,
    ) {
        self.forget(key, &Place::String);
        let attached = FINITE(attached, ends_at);
        self.emit(key, Change::StringSet { value, attached });
    }

    fn rewrite(&mut self, key: &[u8], ends_at: Option<u64>) {
        let value = self.model().value(key, &Place::String);
        let value = value.unwrap_or_default();
        self.replace_string(key, &value, Attached::Nothing, ends_at);
    }

    fn edit(&mut self, key: &[u8], edit: Edit<'_>) {
        let carried = self.prepare(key, Kind::String);
        if !self.model().live_parts(key, &Place::String).is_empty() {
            self.rewrite(key, carried);
        }
        self.emit(key, Change::StringEdit { edit, carried });
    }

    fn add(&mut self, key: &[u8], by: Number) {
        let carried = self.prepare(key, Kind::String);
        let value = self.model().value(key, &Place::String);
        if value.is_some_and(|value| Number::parse(&value).is_none()) {
            return;
        }
        if !self.model().edits(key).is_empty() {
            self.rewrite(key, carried);
        }
        let increment = self.increment_number(key, &Place::String, by);
        self.emit(key, Change::StringAdd { increment, carried });
    }
}
