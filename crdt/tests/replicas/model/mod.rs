//! The reference model of docs/semantics.md: facts as a plain list, every read computed from the
//! definitions there, nothing cached, nothing clever. The state of a shard must agree with it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a part of the model is about some kinds of facts, and no others"
)]

pub(crate) mod look;
mod read;

use crdt::{
    Attached, Bodies, Change, Deadline, Dot, Edit, Effect, End, FactId, Increment, Number, Origin,
    Position, Raised, SeenPart, Side, Stamp, Version,
};

/// Which thing a fact is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// The string, and the key's deadlines.
    String,
    /// A field of the hash.
    Field(Vec<u8>),
    /// A member of the set.
    Member(Vec<u8>),
    /// A member of the sorted set.
    Score(Vec<u8>),
    /// An element of the list: where it stands, and its insertion.
    Element(Position, FactId),
}

impl Place {
    /// The name of a field or member.
    pub(crate) fn name(&self) -> Vec<u8> {
        match self {
            Self::Field(name) | Self::Member(name) | Self::Score(name) => name.clone(),
            Self::String | Self::Element(..) => Vec::new(),
        }
    }
}

/// What a counter part adds up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sum {
    Number(Number),
    Score(f64),
}

/// What a fact says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Base(Vec<u8>),
    Score(f64),
    Append(Vec<u8>),
    Overwrite(u64, Vec<u8>),
    Bits(u64, u8, u64),
    /// An increment, by the origin in its identity, and whether it turned up late. Only its part's
    /// removal takes it away.
    Add(Dot, Sum, bool),
    /// What a removal saw of a part.
    Forget(SeenPart<Sum>),
    /// A deadline that stands for itself.
    Deadline(Deadline),
    /// The deadline attached to the base of the same identity.
    Attached(Deadline),
    /// The deadline carried by the edit or increment of the same identity.
    Carried(u64),
}

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) id: FactId,
    pub(crate) key: Vec<u8>,
    pub(crate) place: Place,
    pub(crate) what: What,
}

impl Fact {
    fn is_deadline(&self) -> bool {
        matches!(
            self.what,
            What::Deadline(_) | What::Attached(_) | What::Carried(_)
        )
    }

    fn is_of_part(&self) -> bool {
        matches!(self.what, What::Add(..) | What::Forget(_))
    }

    fn is_value(&self) -> bool {
        !self.is_deadline() && !self.is_of_part()
    }

    fn body(&self) -> Bodies {
        match self.place {
            Place::String => Bodies::STRING,
            Place::Field(_) => Bodies::HASH,
            Place::Member(_) => Bodies::SET,
            Place::Score(_) => Bodies::SORTED_SET,
            Place::Element(..) => Bodies::LIST,
        }
    }
}

/// Everything that a replica knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    facts: Vec<Fact>,
}

impl Model {
    /// Applies one effect. `seen` is what its op had seen, the op itself included.
    #[expect(clippy::too_many_lines, reason = "a table of all changes")]
    pub(crate) fn apply(&mut self, id: FactId, seen: &Version, effect: &Effect<'_>) {
        let at = At {
            id,
            seen,
            key: effect.key,
        };
        match effect.change.clone() {
            Change::Remove { bodies, deadlines } => self.remove_bodies(&at, bodies, deadlines),
            Change::Flush => {
                self.forget_seen(&at, |_| true);
                self.remove(seen, |fact| {
                    !fact.is_of_part() && fact.body() != Bodies::LIST
                });
                self.remove_elements(seen, |_, _| true);
            }
            Change::Deadline(deadline) => self.end(&at, Place::String, deadline),
            Change::ForgetPart { field, seen } => {
                let place = field.map_or(Place::String, |field| Place::Field(field.into()));
                self.forget(&at, place, seen, Sum::Number);
            }
            Change::ForgetScore { member, seen } => {
                self.forget(&at, Place::Score(member.into()), seen, Sum::Score);
            }
            Change::StringSet { value, attached } => {
                self.set(&at, Place::String, What::Base(value.into()), attached);
            }
            Change::StringEdit { edit, carried } => {
                let edit = match edit {
                    Edit::Append(bytes) => What::Append(bytes.into()),
                    Edit::Overwrite { offset, bytes } => What::Overwrite(offset, bytes.into()),
                    Edit::Bits {
                        offset,
                        width,
                        value,
                    } => What::Bits(offset, width, value),
                };
                self.add(&at, Place::String, edit, carried);
            }
            Change::StringAdd { increment, carried } => {
                self.increment(&at, Place::String, increment, Sum::Number, carried);
            }
            Change::FieldSet {
                field,
                value,
                attached,
            } => self.set(
                &at,
                Place::Field(field.into()),
                What::Base(value.into()),
                attached,
            ),
            Change::FieldAdd {
                field,
                increment,
                carried,
            } => self.increment(
                &at,
                Place::Field(field.into()),
                increment,
                Sum::Number,
                carried,
            ),
            Change::FieldRemove { field, deadlines } => {
                let place = Place::Field(field.into());
                self.remove_values(&at, &place);
                if deadlines {
                    self.remove_deadlines(&at, &place);
                }
            }
            Change::FieldDeadline { field, deadline } => {
                self.end(&at, Place::Field(field.into()), deadline);
            }
            Change::MemberAdd { member } => {
                let place = Place::Member(member.into());
                self.set(&at, place, What::Base(Vec::new()), Attached::Nothing);
            }
            Change::MemberRemove { member } => {
                self.remove_values(&at, &Place::Member(member.into()));
            }
            Change::ScoreSet { member, score } => {
                let place = Place::Score(member.into());
                self.set(&at, place, What::Score(score), Attached::Nothing);
            }
            Change::ScoreAdd { member, increment } => {
                let place = Place::Score(member.into());
                self.increment(&at, place, increment, Sum::Score, None);
            }
            Change::ScoreRemove { member } => {
                self.remove_values(&at, &Place::Score(member.into()));
            }
            Change::Reissue(_) => {}
            Change::RaisePart { field, raised } => {
                let place = field.map_or(Place::String, |field| Place::Field(field.into()));
                self.raise(&at, place, *raised, Sum::Number);
            }
            Change::RaiseScore { member, raised } => {
                self.raise(&at, Place::Score(member.into()), *raised, Sum::Score);
            }
            change @ (Change::Push { .. }
            | Change::Insert { .. }
            | Change::ElementsRemove { .. }
            | Change::ElementSet { .. }) => self.change_list(&at, change),
        }
    }

    fn change_list(&mut self, at: &At<'_>, change: Change<'_>) {
        match change {
            Change::Push { end, value } => {
                let side = match end {
                    End::Head => Side::Left,
                    End::Tail => Side::Right,
                };
                let place = Place::Element(Position::pushed(side, at.id), at.id);
                self.add(at, place, What::Base(value.into()), None);
            }
            Change::Insert {
                at: position,
                value,
            } => {
                let place = Place::Element(position, at.id);
                self.add(at, place, What::Base(value.into()), None);
            }
            Change::ElementsRemove { first, last } => {
                self.remove_elements(at.seen, |key, position| {
                    key == at.key && first <= *position && *position <= last
                });
            }
            Change::ElementSet {
                at: position,
                born,
                value,
            } => {
                let place = self.facts.iter().find_map(|fact| match &fact.place {
                    Place::Element(where_it_is, id)
                        if fact.key == at.key
                            && *where_it_is == position
                            && (id.stamp.origin, id.stamp.time, id.index)
                                == (born.origin, born.dot.time, born.dot.index) =>
                    {
                        Some(fact.place.clone())
                    }
                    _ => None,
                });
                if let Some(place) = place {
                    self.add(at, place, What::Base(value.into()), None);
                }
            }
            _ => {}
        }
    }

    /// Merges another replica's facts: what both hold stays, what one holds stays unless the other
    /// had it and has removed it. The history of counter parts is joined.
    pub(crate) fn merge(&mut self, mine: &Version, other: &Self, theirs: &Version) {
        self.facts.retain(|fact| {
            fact.is_of_part() || other.facts.contains(fact) || !theirs.covers(fact.id.stamp)
        });
        for fact in &other.facts {
            let new = fact.is_of_part() || !mine.covers(fact.id.stamp);
            if new && !self.facts.contains(fact) {
                self.facts.push(fact.clone());
            }
        }
    }

    fn remove_bodies(&mut self, at: &At<'_>, bodies: Bodies, deadlines: bool) {
        self.forget_seen(at, |fact| fact.key == at.key && bodies.has(fact.body()));
        self.remove(at.seen, |fact| {
            let of_key = fact.place == Place::String && fact.is_deadline();
            let picked = if of_key {
                deadlines
            } else {
                bodies.has(fact.body()) && !fact.is_of_part() && fact.body() != Bodies::LIST
            };
            fact.key == at.key && picked
        });
        if bodies.has(Bodies::LIST) {
            self.remove_elements(at.seen, |key, _| key == at.key);
        }
    }

    /// Removes the elements that were seen being inserted, with all that was written into them.
    fn remove_elements(&mut self, seen: &Version, pick: impl Fn(&[u8], &Position) -> bool) {
        self.facts.retain(|fact| match &fact.place {
            Place::Element(position, born) => {
                !(seen.covers(born.stamp) && pick(&fact.key, position))
            }
            _ => true,
        });
    }

    fn remove(&mut self, seen: &Version, pick: impl Fn(&Fact) -> bool) {
        self.facts
            .retain(|fact| !(seen.covers(fact.id.stamp) && pick(fact)));
    }

    fn remove_values(&mut self, at: &At<'_>, place: &Place) {
        self.forget_seen(at, |fact| fact.key == at.key && fact.place == *place);
        self.remove(at.seen, |fact| {
            fact.key == at.key && fact.place == *place && fact.is_value()
        });
    }

    fn remove_deadlines(&mut self, at: &At<'_>, place: &Place) {
        self.remove(at.seen, |fact| {
            fact.key == at.key && fact.place == *place && fact.is_deadline()
        });
    }

    fn put(&mut self, at: &At<'_>, place: Place, what: What) {
        let fact = Fact {
            id: at.id,
            key: at.key.into(),
            place,
            what,
        };
        self.facts.push(fact);
    }

    fn add(&mut self, at: &At<'_>, place: Place, what: What, carried: Option<u64>) {
        self.put(at, place.clone(), what);
        if let Some(ms) = carried {
            self.put(at, place, What::Carried(ms));
        }
    }

    fn set(&mut self, at: &At<'_>, place: Place, base: What, attached: Attached) {
        self.remove_values(at, &place);
        if let Attached::Deadline(deadline) = attached {
            self.remove_deadlines(at, &place);
            self.put(at, place.clone(), What::Attached(deadline));
        }
        self.put(at, place, base);
    }

    fn end(&mut self, at: &At<'_>, place: Place, deadline: Deadline) {
        self.remove_deadlines(at, &place);
        self.put(at, place, What::Deadline(deadline));
    }

    fn increment<S>(
        &mut self,
        at: &At<'_>,
        place: Place,
        increment: Increment<S>,
        sum: fn(S) -> Sum,
        carried: Option<u64>,
    ) {
        let add = What::Add(increment.birth, sum(increment.sum), false);
        self.add(at, place, add, carried);
    }

    /// An increment of a closed origin that turned up late: a fact like any other.
    fn raise<S>(&mut self, at: &At<'_>, place: Place, raised: Raised<S>, sum: fn(S) -> Sum) {
        let stamp = Stamp {
            time: raised.at.time,
            origin: raised.origin,
        };
        let id = FactId {
            stamp,
            index: raised.at.index,
        };
        let add = What::Add(raised.birth, sum(raised.sum), true);
        let is_known = self.facts.iter().any(|fact| {
            let is_increment = matches!(fact.what, What::Add(..));
            is_increment && fact.id == id && fact.key == at.key && fact.place == place
        });
        if !is_known {
            self.put(&At { id, ..*at }, place, add);
        }
    }

    /// Removes the counter parts that were seen to their end, what turned up late aside: whoever
    /// has folded one names it no more.
    fn forget_seen(&mut self, at: &At<'_>, pick: impl Fn(&Fact) -> bool) {
        let mut ends: Vec<(Vec<u8>, Place, SeenPart<Sum>)> = Vec::new();
        for fact in self.facts.iter().filter(|fact| pick(fact)) {
            let What::Add(birth, sum, false) = fact.what else {
                continue;
            };
            let seen = SeenPart {
                origin: fact.id.stamp.origin,
                birth,
                at: Dot {
                    time: fact.id.stamp.time,
                    index: fact.id.index,
                },
                sum,
            };
            let same = ends.iter_mut().find(|(key, place, end)| {
                *key == fact.key && *place == fact.place && end.origin == seen.origin
            });
            match same {
                Some((.., end)) if (end.birth, end.at) < (birth, seen.at) => *end = seen,
                Some(_) => {}
                None => ends.push((fact.key.clone(), fact.place.clone(), seen)),
            }
        }
        for (key, place, seen) in ends {
            let (time, origin) = (seen.at.time, seen.origin);
            if at.seen.covers(Stamp { time, origin }) {
                let what = What::Forget(seen);
                self.put(&At { key: &key, ..*at }, place, what);
            }
        }
    }

    fn forget<S>(&mut self, at: &At<'_>, place: Place, seen: SeenPart<S>, sum: fn(S) -> Sum) {
        let SeenPart {
            origin,
            birth,
            at: last,
            sum: added,
        } = seen;
        let seen = SeenPart {
            origin,
            birth,
            at: last,
            sum: sum(added),
        };
        self.put(at, place, What::Forget(seen));
    }
}

/// What an effect brings besides its change.
struct At<'a> {
    id: FactId,
    seen: &'a Version,
    key: &'a [u8],
}

/// A counter part, as the facts about it say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) origin: Origin,
    pub(crate) birth: Dot,
    pub(crate) at: Dot,
    pub(crate) sum: Sum,
    pub(crate) removed_at: Dot,
    pub(crate) removed: Option<Sum>,
    /// The last increment that came in time: what carries a deadline.
    pub(crate) in_time: Option<Dot>,
}

impl Part {
    /// What it becomes by one more increment.
    pub(crate) fn raised<S: Copy + std::ops::Add<Output = S>>(
        &self,
        at: Dot,
        from_sum: S,
        by: S,
    ) -> Raised<S> {
        Raised {
            origin: self.origin,
            birth: self.birth,
            from: self.at,
            from_sum,
            at,
            sum: from_sum + by,
        }
    }

    /// Whether it counts.
    pub(crate) fn is_live(&self) -> bool {
        self.removed_at < self.at
    }
}
