//! Reads of the model, each as its definition says.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a read is about some kinds of facts, and no others"
)]

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Deadline, Dot, ElementId, FactId, Kind, Number, Origin, Position, Region};

use super::look::{Field, Look};
use super::{Fact, Model, Part, Place, Sum, What};

const KINDS: [Kind; 5] = [
    Kind::String,
    Kind::Hash,
    Kind::Set,
    Kind::SortedSet,
    Kind::List,
];

impl Model {
    fn at<'m>(&'m self, key: &'m [u8], place: &'m Place) -> impl Iterator<Item = &'m Fact> + Clone {
        self.facts
            .iter()
            .filter(move |fact| fact.key == key && fact.place == *place)
    }

    /// All keys that anything is known of.
    pub(crate) fn keys(&self) -> BTreeSet<Vec<u8>> {
        self.facts.iter().map(|fact| fact.key.clone()).collect()
    }

    /// The things of a kind at a key, existing or not.
    fn places(&self, key: &[u8], kind: Kind) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for fact in self.facts.iter().filter(|fact| fact.key == key) {
            if fact.body() == kind.bodies() && !places.contains(&fact.place) {
                places.push(fact.place.clone());
            }
        }
        places
    }

    /// The counter parts of a thing, by origin.
    pub(crate) fn parts(&self, key: &[u8], place: &Place) -> Vec<Part> {
        let adds = || {
            self.at(key, place).filter_map(|fact| match &fact.what {
                What::Add(birth, sum, late) => Some((fact.id, *birth, *sum, *late)),
                _ => None,
            })
        };
        let owners: BTreeSet<Origin> = adds().map(|(id, ..)| id.stamp.origin).collect();
        let part = |origin| {
            let own = || adds().filter(move |(id, ..)| id.stamp.origin == origin);
            let birth = own().map(|add| add.1).max()?;
            let of_birth = || own().filter(|add| add.1 == birth);
            let in_time = of_birth().filter(|add| !add.3).map(|add| dot(add.0)).max();
            let (id, _, sum, _) = of_birth().max_by_key(|add| add.0)?;
            let removals = self.at(key, place).filter_map(|fact| match &fact.what {
                What::Forget(seen) if (seen.origin, seen.birth) == (origin, birth) => Some(*seen),
                _ => None,
            });
            let removal = removals.max_by_key(|seen| seen.at);
            Some(Part {
                origin,
                birth,
                at: dot(id),
                sum,
                removed_at: removal.map_or_else(Dot::default, |seen| seen.at),
                removed: removal.map(|seen| seen.sum),
                in_time,
            })
        };
        owners.into_iter().filter_map(part).collect()
    }

    /// The parts that count.
    pub(crate) fn live_parts(&self, key: &[u8], place: &Place) -> Vec<Part> {
        let mut parts = self.parts(key, place);
        parts.retain(Part::is_live);
        parts
    }

    /// Whether a thing exists, its deadline aside.
    pub(crate) fn exists(&self, key: &[u8], place: &Place) -> bool {
        let inserted = |fact: &Fact| match place {
            Place::Element(_, born) => fact.id == *born,
            _ => true,
        };
        self.at(key, place)
            .any(|fact| fact.is_value() && inserted(fact))
            || !self.live_parts(key, place).is_empty()
    }

    /// The winning base and its siblings.
    pub(crate) fn bases<'m>(
        &'m self,
        key: &'m [u8],
        place: &'m Place,
    ) -> impl Iterator<Item = &'m Fact> {
        let is_base = |fact: &&Fact| matches!(fact.what, What::Base(_) | What::Score(_));
        self.at(key, place).filter(is_base)
    }

    /// The winning base.
    pub(crate) fn base(&self, key: &[u8], place: &Place) -> Option<(FactId, What)> {
        let winner = self.bases(key, place).max_by_key(|fact| fact.id);
        winner.map(|fact| (fact.id, fact.what.clone()))
    }

    /// The edits of a string, in stamp order.
    pub(crate) fn edits(&self, key: &[u8]) -> Vec<&Fact> {
        let is_edit = |fact: &&Fact| {
            matches!(
                fact.what,
                What::Append(_) | What::Overwrite(..) | What::Bits(..)
            )
        };
        let place = Place::String;
        let mut edits: Vec<&Fact> = self
            .facts
            .iter()
            .filter(|fact| fact.key == key && fact.place == place)
            .filter(is_edit)
            .collect();
        edits.sort_by_key(|fact| fact.id);
        edits
    }

    /// The value of a string, field or element.
    pub(crate) fn value(&self, key: &[u8], place: &Place) -> Option<Vec<u8>> {
        let mut value = match self.base(key, place) {
            Some((_, What::Base(value))) => Some(value),
            _ => None,
        };
        if *place == Place::String {
            for edit in self.edits(key) {
                change(value.get_or_insert_default(), &edit.what);
            }
        }
        let parts = self.live_parts(key, place);
        if parts.is_empty() {
            return value;
        }
        let base = match &value {
            None => Number::ZERO,
            Some(text) => match Number::parse(text) {
                Some(number) => number,
                None => return value,
            },
        };
        let number = |sum| match sum {
            Some(Sum::Number(number)) => number,
            _ => Number::ZERO,
        };
        let total = parts.iter().fold(base, |total, part| {
            total + (number(Some(part.sum)) - number(part.removed))
        });
        Some(total.to_text())
    }

    /// The score of a member.
    pub(crate) fn score(&self, key: &[u8], member: &[u8]) -> Option<f64> {
        let place = Place::Score(member.into());
        if !self.exists(key, &place) {
            return None;
        }
        let base = match self.base(key, &place) {
            Some((_, What::Score(score))) => score,
            _ => 0.0,
        };
        let number = |sum| match sum {
            Some(Sum::Score(score)) => score,
            _ => 0.0,
        };
        let parts = self.live_parts(key, &place);
        let total = parts.iter().fold(base, |total, part| {
            total + (number(Some(part.sum)) - number(part.removed))
        });
        Some(if total.is_nan() { 0.0 } else { total })
    }

    /// The deadline in force of a key (at [`Place::String`]) or field.
    pub(crate) fn deadline(&self, key: &[u8], place: &Place) -> Option<Deadline> {
        let in_force = self.in_force(key, place);
        in_force.into_iter().map(|(_, deadline)| deadline).max()
    }

    /// The regions that have set the deadline in force.
    pub(crate) fn setters(&self, key: &[u8], place: &Place) -> BTreeSet<Region> {
        let in_force = self.in_force(key, place);
        let longest = in_force.iter().map(|(_, deadline)| *deadline).max();
        let of_longest = in_force.iter().filter(|fact| Some(fact.1) == longest);
        of_longest.map(|(id, _)| id.stamp.origin.region).collect()
    }

    /// The deadlines of which the longest is in force.
    fn in_force(&self, key: &[u8], place: &Place) -> Vec<(FactId, Deadline)> {
        let base = self.base(key, place).map(|(id, _)| id);
        // That of a string which readers do not see, because another type is later, does not count.
        let is_read = *place != Place::String || self.latest_kind(key) == Some(Kind::String);
        let attached = self.at(key, place).filter_map(|fact| match fact.what {
            What::Attached(deadline) if is_read && Some(fact.id) == base => {
                Some((fact.id, deadline))
            }
            _ => None,
        });
        let strong: Vec<_> = self.standing(key, place).chain(attached).collect();
        if !strong.is_empty() {
            return strong;
        }
        let parts = self.live_parts(key, place);
        let edits = self.edits(key);
        let carries = |id: FactId| {
            let by_part = |part: &Part| {
                let carries = part.origin == id.stamp.origin && part.in_time == Some(dot(id));
                carries && part.removed_at < dot(id)
            };
            *place == Place::String && edits.iter().any(|edit| edit.id == id)
                || parts.iter().any(by_part)
        };
        let carried = self.at(key, place).filter_map(|fact| match fact.what {
            What::Carried(ms) if carries(fact.id) => Some((fact.id, Deadline::At(ms))),
            _ => None,
        });
        carried.collect()
    }

    /// The type with the latest fact, whether it is past its deadline or not.
    fn latest_kind(&self, key: &[u8]) -> Option<Kind> {
        let there = |kind: &Kind| !self.existing(key, *kind).is_empty();
        let kinds = KINDS.into_iter().filter(there);
        kinds.max_by_key(|&kind| self.latest(key, kind))
    }

    /// The deadlines that stand for themselves.
    pub(crate) fn standing<'m>(
        &'m self,
        key: &'m [u8],
        place: &'m Place,
    ) -> impl Iterator<Item = (FactId, Deadline)> {
        self.at(key, place).filter_map(|fact| match fact.what {
            What::Deadline(deadline) => Some((fact.id, deadline)),
            _ => None,
        })
    }

    /// Whether anything says when a thing ends, in force or not.
    pub(crate) fn has_deadlines(&self, key: &[u8], place: &Place) -> bool {
        self.at(key, place).any(Fact::is_deadline)
    }

    /// Whether a key or field is past its deadline.
    pub(crate) fn is_past(&self, key: &[u8], place: &Place, now_ms: u64) -> bool {
        let deadline = self.deadline(key, place).and_then(Deadline::finite);
        deadline.is_some_and(|ms| ms <= now_ms)
    }

    /// The things of a kind that exist, their deadlines aside.
    pub(crate) fn existing(&self, key: &[u8], kind: Kind) -> Vec<Place> {
        let mut places = self.places(key, kind);
        places.retain(|place| self.exists(key, place));
        places
    }

    /// The type that readers see: the one with the latest fact.
    pub(crate) fn kind(&self, key: &[u8], now_ms: u64) -> Option<Kind> {
        if self.is_past(key, &Place::String, now_ms) {
            return None;
        }
        let seen = |&kind: &Kind| {
            let past = |place: &Place| kind == Kind::Hash && self.is_past(key, place, now_ms);
            self.existing(key, kind).iter().any(|place| !past(place))
        };
        KINDS
            .into_iter()
            .filter(seen)
            .max_by_key(|&kind| self.latest(key, kind))
    }

    /// The latest fact of a body.
    fn latest(&self, key: &[u8], kind: Kind) -> Option<FactId> {
        let latest = |place: Place| {
            let parts = self.live_parts(key, &place);
            let counts = |fact: &Fact| {
                fact.is_value()
                    || matches!(fact.what, What::Add(..))
                        && parts
                            .iter()
                            .any(|p| p.origin == fact.id.stamp.origin && p.at == dot(fact.id))
            };
            self.facts
                .iter()
                .filter(|fact| fact.key == key && fact.place == place && counts(fact))
                .map(|fact| fact.id)
                .max()
        };
        self.existing(key, kind)
            .into_iter()
            .filter_map(latest)
            .max()
    }

    /// The elements of the list in order: where they stand, their insertions and values.
    pub(crate) fn elements(&self, key: &[u8]) -> Vec<(Position, ElementId, Vec<u8>)> {
        let element = |place: Place| match &place {
            Place::Element(position, id) => {
                let value = self.value(key, &place)?;
                let born = ElementId {
                    origin: id.stamp.origin,
                    dot: dot(*id),
                };
                Some((position.clone(), born, value))
            }
            _ => None,
        };
        let mut elements: Vec<_> = self
            .existing(key, Kind::List)
            .into_iter()
            .filter_map(element)
            .collect();
        elements.sort_by(|a, b| a.0.cmp(&b.0));
        elements
    }

    /// Everything that can be read of a key.
    pub(crate) fn look(&self, key: &[u8], now_ms: u64) -> Look {
        let kind = self.kind(key, now_ms);
        let string = match kind {
            Some(Kind::String) => self.value(key, &Place::String),
            _ => None,
        };
        let ends_at = self.deadline(key, &Place::String);
        Look {
            ends_at: kind.and(ends_at).and_then(Deadline::finite),
            kind,
            string,
            fields: self.fields(key, now_ms),
            members: self.members(key),
            scores: self.scores(key),
            elements: self.elements(key).into_iter().map(|e| e.2).collect(),
        }
    }

    /// The fields that are not past their deadlines.
    fn fields(&self, key: &[u8], now_ms: u64) -> BTreeMap<Vec<u8>, Field> {
        let mut fields = BTreeMap::new();
        for place in self.existing(key, Kind::Hash) {
            if let (Place::Field(name), false) = (&place, self.is_past(key, &place, now_ms)) {
                let ends_at = self.deadline(key, &place).and_then(Deadline::finite);
                let value = self.value(key, &place).unwrap_or_default();
                fields.insert(name.clone(), (value, ends_at));
            }
        }
        fields
    }

    fn members(&self, key: &[u8]) -> BTreeSet<Vec<u8>> {
        let name = |place| match place {
            Place::Member(name) => Some(name),
            _ => None,
        };
        let members = self.existing(key, Kind::Set).into_iter();
        members.filter_map(name).collect()
    }

    fn scores(&self, key: &[u8]) -> Vec<(f64, Vec<u8>)> {
        let score = |place| match place {
            Place::Score(name) => Some((self.score(key, &name)?, name)),
            _ => None,
        };
        let members = self.existing(key, Kind::SortedSet).into_iter();
        let mut scores: Vec<_> = members.filter_map(score).collect();
        scores.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
        scores
    }

    /// The keys that exist, past their deadlines.
    pub(crate) fn ended(&self, now_ms: u64) -> BTreeSet<Vec<u8>> {
        let mut keys = self.keys();
        keys.retain(|key| {
            self.latest_kind(key).is_some() && self.is_past(key, &Place::String, now_ms)
        });
        keys
    }

    /// The fields that exist, past their deadlines.
    pub(crate) fn ended_fields(&self, now_ms: u64) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
        let mut ended = BTreeSet::new();
        for key in self.keys() {
            let fields = self.existing(&key, Kind::Hash).into_iter();
            let past = fields.filter(|place| self.is_past(&key, place, now_ms));
            ended.extend(past.map(|place| (key.clone(), place.name())));
        }
        ended
    }

    /// How many keys exist, deadlines aside.
    pub(crate) fn len(&self) -> usize {
        let exists = |key: &&Vec<u8>| {
            KINDS
                .iter()
                .any(|&kind| !self.existing(key, kind).is_empty())
        };
        self.keys().iter().filter(exists).count()
    }
}

fn dot(id: FactId) -> Dot {
    Dot {
        time: id.stamp.time,
        index: id.index,
    }
}

/// Applies an edit.
fn change(value: &mut Vec<u8>, edit: &What) {
    match edit {
        What::Append(bytes) => value.extend_from_slice(bytes),
        What::Overwrite(offset, bytes) => {
            let start = *offset as usize;
            value.resize(value.len().max(start + bytes.len()), 0);
            value[start..start + bytes.len()].copy_from_slice(bytes);
        }
        What::Bits(offset, width, bits) => {
            for nth in 0..u64::from(*width) {
                let at = (offset + nth) as usize;
                let bit = (bits >> (u64::from(*width) - 1 - nth) & 1) as u8;
                value.resize(value.len().max(at / 8 + 1), 0);
                let shift = 7 - at % 8;
                value[at / 8] = value[at / 8] & !(1 << shift) | bit << shift;
            }
        }
        _ => {}
    }
}
