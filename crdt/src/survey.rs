//! What writers need to see: which facts a write replaces, and what a removal must ship.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a view is of one kind, and every other is none"
)]

use crate::body::{Body, KeyState, Kind};
use crate::counter::Counter;
use crate::effect::{Bodies, SeenPart};
use crate::fact::{OriginIx, Origins};
use crate::names::{Full, Kept, Names};
use crate::number::Number;
use crate::origin::Origin;
use crate::register::{Part, Register, Sum};
use crate::slot::{Key, Slot};
use crate::stamp::{Dot, FactId};
use crate::state::State;

/// What a writer sees of a key before it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The bodies that hold something, visible or not.
    pub bodies: Bodies,
    /// Whether readers see any of them at the moment of the look.
    pub lives: bool,
    /// Whether anything says when the key ends, in force or not.
    pub deadlines: bool,
    /// When it ends, if it does; milliseconds since 1970, which may be past.
    pub ends_at: Option<u64>,
    /// Whether the string has counter parts that count, folded ones included.
    pub counts: bool,
    /// What the string's edits weigh, bytes.
    pub edit_bytes: usize,
    /// The size of the string's base, bytes.
    pub string_bytes: usize,
    /// The writer's own part of the string, if it has one that counts: its birth and its running
    /// sum.
    pub own: Option<(Dot, Number)>,
}

/// What writers need to see.
impl State {
    /// Visits the keys of a slot that have counter parts, or may have. Costs nothing where nothing
    /// was ever counted.
    pub fn keys_with_parts(&self, slot: Slot, mut visit: impl FnMut(&[u8])) {
        if !self.slots[self.slot_index(slot)].marks.counted {
            return;
        }
        for (_, name, kept) in self.slots[self.slot_index(slot)].keys.iter() {
            if matches!(kept, Kept::Full(_) | Kept::Counter(_)) {
                visit(name);
            }
        }
    }

    /// Whether nothing is kept at all, not even a deadline of a key that is gone.
    pub fn is_void(&self) -> bool {
        self.slots.iter().all(|slot| slot.keys.is_void())
    }

    /// Some key of this shard, without a name, for effects that are about all keys.
    pub fn any_key(&self) -> Key<'static> {
        Key {
            slot: self.first_slot(),
            ..self.seed.key(b"")
        }
    }

    /// The base of a score, or 0, and what was removed of the writer's own part, if no other part
    /// counts.
    pub fn score_base(&self, key: &Key<'_>, member: &[u8], origin: Origin) -> Option<(f64, f64)> {
        let own = self.find_origin(origin);
        let bytes = |value: &[u8]| value.try_into().map_or(0.0, f64::from_le_bytes);
        match self.member(key, member) {
            None => Some((0.0, 0.0)),
            Some(Kept::Compact(base)) => Some((bytes(base.value), 0.0)),
            Some(Kept::Counter(counter)) => (Some(counter.origin) == own).then_some((0.0, 0.0)),
            Some(Kept::Full(register)) => {
                if register.live_parts().any(|part| Some(part.origin) != own) {
                    return None;
                }
                let base = register
                    .bases
                    .first()
                    .map_or(0.0, |base| bytes(&base.value));
                Some((base, register.live_parts().map(|part| part.removed).sum()))
            }
        }
    }

    /// The bases of the string at a key, the one that is read first, each with its size in bytes:
    /// the others are siblings, which a removal of the first uncovers.
    pub fn string_bases(&self, key: &Key<'_>) -> Vec<(FactId, usize)> {
        let of = |id, len| (self.origins.fact_id(id), len);
        match self.key(key) {
            Some(Kept::Full(state)) => {
                let bases = state
                    .register()
                    .into_iter()
                    .flat_map(|register| &register.bases);
                bases.map(|base| of(base.id, base.value.len())).collect()
            }
            Some(Kept::Compact(base)) => vec![of(base.id, base.value.len())],
            Some(Kept::Counter(_)) | None => Vec::new(),
        }
    }

    /// The edits of the string at a key that are not folded yet.
    pub fn string_edits(&self, key: &Key<'_>) -> Vec<FactId> {
        let Some(Kept::Full(state)) = self.key(key) else {
            return Vec::new();
        };
        let edits = state
            .register()
            .into_iter()
            .flat_map(|register| &register.edits);
        edits.map(|fact| self.origins.fact_id(fact.id)).collect()
    }

    /// What a removal must ship of the counter parts of the string at a key.
    pub fn string_parts(&self, key: &Key<'_>) -> Vec<SeenPart<Number>> {
        match self.key(key) {
            Some(Kept::Full(state)) => seen_parts(state.register(), &self.origins),
            Some(Kept::Counter(counter)) => vec![counter.seen(&self.origins)],
            Some(Kept::Compact(_)) | None => Vec::new(),
        }
    }

    /// What a removal must ship of the counter parts of all fields of the hash at a key.
    pub fn all_field_parts(&self, key: &Key<'_>) -> Vec<(Box<[u8]>, SeenPart<Number>)> {
        match self.counted_body(key, Kind::Hash) {
            Some(Body::Hash(hash)) => all_parts(&hash.fields, &self.origins),
            _ => Vec::new(),
        }
    }

    /// What a removal must ship of the counter parts of a field.
    pub fn field_parts(&self, key: &Key<'_>, field: &[u8]) -> Vec<SeenPart<Number>> {
        self.field(key, field)
            .map_or_else(Vec::new, |kept| kept_parts(kept, &self.origins))
    }

    /// A field's register as writers see it.
    pub fn field_facts(&self, key: &Key<'_>, field: &[u8], origin: Origin) -> Facts<Number> {
        let own = self.find_origin(origin);
        match self.field(key, field) {
            Some(Kept::Full(register)) => facts(Some(register), own),
            Some(Kept::Counter(counter)) => counter_facts(counter, own),
            Some(Kept::Compact(_)) | None => Facts::default(),
        }
    }

    /// When a field ends, if it does; and whether anything says when.
    pub fn field_deadline(&self, key: &Key<'_>, field: &[u8]) -> (Option<u64>, bool) {
        match self.field(key, field) {
            Some(kept) => (kept.ends_at(&self.origins), kept.has_deadlines()),
            None => (None, false),
        }
    }

    /// What a removal must ship of the counter parts of all scores of the sorted set at a key.
    pub fn all_score_parts(&self, key: &Key<'_>) -> Vec<(Box<[u8]>, SeenPart<f64>)> {
        match self.counted_body(key, Kind::SortedSet) {
            Some(Body::SortedSet(zset)) => all_parts(&zset.members, &self.origins),
            _ => Vec::new(),
        }
    }

    /// What a removal must ship of the counter parts of a score; `None` if there is no such member.
    pub fn score_parts(&self, key: &Key<'_>, member: &[u8]) -> Option<Vec<SeenPart<f64>>> {
        let kept = self.member(key, member).filter(|kept| kept.exists())?;
        Some(kept_parts(kept, &self.origins))
    }

    /// A score's register as writers see it.
    pub fn score_facts(&self, key: &Key<'_>, member: &[u8], origin: Origin) -> Facts<f64> {
        let own = self.find_origin(origin);
        match self.member(key, member) {
            Some(Kept::Full(register)) => facts(Some(register), own),
            Some(Kept::Counter(counter)) => counter_facts(counter, own),
            Some(Kept::Compact(_)) | None => Facts::default(),
        }
    }

    /// A container, if there may be counter parts in it.
    fn counted_body(&self, key: &Key<'_>, kind: Kind) -> Option<&Body> {
        match self.key(key)? {
            Kept::Full(state) if state.marks.counted => state.body(kind),
            Kept::Full(_) | Kept::Counter(_) | Kept::Compact(_) => None,
        }
    }

    pub(crate) fn field(&self, key: &Key<'_>, field: &[u8]) -> Option<Kept<'_, Register<Number>>> {
        match self.body(key, Kind::Hash)? {
            Body::Hash(hash) => hash
                .fields
                .get(self.seed.hash(field), field)
                .map(|(_, kept)| kept),
            _ => None,
        }
    }

    fn member(&self, key: &Key<'_>, member: &[u8]) -> Option<Kept<'_, Register<f64>>> {
        match self.body(key, Kind::SortedSet)? {
            Body::SortedSet(zset) => zset
                .members
                .get(self.seed.hash(member), member)
                .map(|(_, kept)| kept),
            _ => None,
        }
    }
}

/// What one value, field, member or score is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Anatomy<S> {
    /// Its bases, the one that is read first, each with its size in bytes: the others are siblings.
    pub bases: Vec<(FactId, usize)>,
    /// Its edits that are not folded yet.
    pub edits: Vec<FactId>,
    /// Its counter parts that count.
    pub parts: Vec<SeenPart<S>>,
    /// When it ends, if it does; milliseconds since 1970, which may be past.
    pub ends_at: Option<u64>,
}

/// What things are made of, for people who want to know.
impl State {
    /// The anatomy of a field, past its deadline or not.
    pub fn field_anatomy(&self, key: &Key<'_>, field: &[u8]) -> Option<Anatomy<Number>> {
        let kept = self.field(key, field).filter(|kept| kept.exists())?;
        Some(anatomy(kept, &self.origins))
    }

    /// The anatomy of the score of a sorted set's member.
    pub fn score_anatomy(&self, key: &Key<'_>, member: &[u8]) -> Option<Anatomy<f64>> {
        let kept = self.member(key, member).filter(|kept| kept.exists())?;
        Some(anatomy(kept, &self.origins))
    }

    /// The facts that say that a set has a member.
    pub fn member_adds(&self, key: &Key<'_>, member: &[u8]) -> Option<Vec<FactId>> {
        let Body::Set(set) = self.body(key, Kind::Set)? else {
            return None;
        };
        let (_, kept) = set.members.get(self.seed.hash(member), member)?;
        let bases = kept.exists().then(|| anatomy(kept, &self.origins).bases)?;
        Some(bases.into_iter().map(|(fact, _)| fact).collect())
    }
}

fn anatomy<S: Sum>(kept: Kept<'_, Register<S>>, origins: &Origins) -> Anatomy<S> {
    let of = |id, bytes| (origins.fact_id(id), bytes);
    let (bases, edits) = match kept {
        Kept::Full(register) => {
            let bases = register.bases.iter();
            let edits = register.edits.iter();
            (
                bases.map(|base| of(base.id, base.value.len())).collect(),
                edits.map(|fact| origins.fact_id(fact.id)).collect(),
            )
        }
        Kept::Compact(base) => (vec![of(base.id, base.value.len())], Vec::new()),
        Kept::Counter(_) => (Vec::new(), Vec::new()),
    };
    Anatomy {
        bases,
        edits,
        parts: kept_parts(kept, origins),
        ends_at: kept.ends_at(origins),
    }
}

/// What a writer needs to know of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts<S> {
    /// How many edits are waiting to be folded.
    pub edits: usize,
    /// What these weigh, in bytes.
    pub edit_bytes: usize,
    /// Whether any counter part counts, one that was folded included.
    pub counts: bool,
    /// The size of the winning base, in bytes.
    pub bytes: usize,
    /// The writer's own part, if it has one that counts: its birth and its running sum.
    pub own: Option<(Dot, S)>,
}

/// What a writer needs to know of the string at a key.
pub(crate) fn survey_string(
    kept: Kept<'_, KeyState>,
    state: &State,
    origin: Origin,
) -> Facts<Number> {
    match kept {
        Kept::Compact(base) => Facts {
            bytes: base.value.len(),
            ..Facts::default()
        },
        Kept::Counter(counter) => counter_facts(counter, state.find_origin(origin)),
        Kept::Full(full) => match full.register() {
            None => Facts::default(),
            some => facts(some, state.find_origin(origin)),
        },
    }
}

fn facts<S: Sum>(register: Option<&Register<S>>, own: Option<OriginIx>) -> Facts<S> {
    let Some(register) = register else {
        return Facts::default();
    };
    let own = own
        .and_then(|own| register.part(own))
        .filter(|part| part.is_live());
    Facts {
        edits: register.edits.len(),
        edit_bytes: register.edits.iter().map(|fact| fact.edit.weight()).sum(),
        counts: register.live_parts().next().is_some() || register.has_folded_parts(),
        bytes: register.bases.first().map_or(0, |base| base.value.len()),
        own: own.map(|part| (part.birth, part.sum)),
    }
}

fn counter_facts<S: Sum>(counter: Counter, own: Option<OriginIx>) -> Facts<S> {
    Facts {
        counts: true,
        own: (Some(counter.origin) == own).then(|| (counter.birth, counter.sum())),
        ..Facts::default()
    }
}

fn seen_parts<S: Sum>(register: Option<&Register<S>>, origins: &Origins) -> Vec<SeenPart<S>> {
    let parts = register.into_iter().flat_map(Register::live_parts);
    parts.map(|part| part.seen(origins)).collect()
}

fn kept_parts<S: Sum>(kept: Kept<'_, Register<S>>, origins: &Origins) -> Vec<SeenPart<S>> {
    match kept {
        Kept::Full(register) => seen_parts(Some(register), origins),
        Kept::Counter(counter) => vec![counter.seen(origins)],
        Kept::Compact(_) => Vec::new(),
    }
}

fn all_parts<S: Sum>(
    names: &Names<Register<S>>,
    origins: &Origins,
) -> Vec<(Box<[u8]>, SeenPart<S>)> {
    let mut all = Vec::new();
    for (_, name, kept) in names.iter() {
        let parts = kept_parts(kept, origins);
        all.extend(parts.into_iter().map(|part| (name.into(), part)));
    }
    all
}

impl<S: Sum> Part<S> {
    pub(crate) fn seen(&self, origins: &Origins) -> SeenPart<S> {
        let Self { birth, at, sum, .. } = *self;
        SeenPart {
            origin: origins.get(self.origin),
            birth,
            at,
            sum,
        }
    }
}
