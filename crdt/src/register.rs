//! The register: bases, edits, counter parts and deadlines of one thing.
//!
//! Everything with a value is one: a string, a hash field, a set member (whose value is empty), a
//! score (whose base is a double). A thing exists while it has a base, an edit or a live part;
//! removed parts and deadlines that stand alone make nothing exist.
//!
//! This is the form in which every rule of docs/semantics.md ("Values", "Keys") is plain to see.
//! A thing that is just one base is kept as a compact entry instead (see `entry`).

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};

use crate::edit::OwnedEdit;
use crate::effect::{Attached, Deadline, Increment, Raised, SeenPart};
use crate::entry::Compact;
use crate::fact::{Id, OriginIx, Origins, Seen, mix};
use crate::stamp::Dot;
pub(crate) use crate::sum::{NoSum, Sum};

/// Sets deadlines apart from facts in digests.
const DEADLINE_TAG: u64 = 0x646c;

/// One base: a whole value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    pub(crate) id: Id,
    pub(crate) attached: Attached,
    pub(crate) value: Vec<u8>,
    /// What has been folded into it, if anything.
    pub(crate) folded: Option<Box<Folded>>,
}

/// What a base remembers of the facts folded into it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Folded {
    /// The last fact folded in.
    pub(crate) last: Id,
    /// The digest of all of them.
    pub(crate) digest: u64,
    /// The longest deadline that they carried, and whose fact did.
    pub(crate) carried: Option<(u64, OriginIx)>,
    /// Whether counter parts are among them.
    pub(crate) has_parts: bool,
}

impl Folded {
    pub(crate) const fn new(last: Id) -> Self {
        Self {
            last,
            digest: 0,
            carried: None,
            has_parts: false,
        }
    }
}

impl Folded {
    /// Takes a deadline along if it is the longest; of equal ones that of the lowest region.
    pub(crate) fn carry(&mut self, ms: u64, origin: OriginIx, origins: &Origins) {
        let rank = |(ms, origin)| (ms, Reverse(origins.get(origin).region));
        let fresh = (ms, origin);
        if self.carried.is_none_or(|old| rank(old) < rank(fresh)) {
            self.carried = Some(fresh);
        }
    }
}

impl Base {
    /// The deadline that the facts folded into it carried, and whose fact did.
    pub(crate) fn carried(&self) -> Option<(u64, OriginIx)> {
        self.folded.as_ref()?.carried
    }

    pub(crate) fn drop_carried(&mut self) {
        if let Some(folded) = &mut self.folded {
            folded.carried = None;
        }
    }
}

/// A change of a part of the value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EditFact {
    pub(crate) id: Id,
    pub(crate) edit: OwnedEdit,
    pub(crate) carried: Option<u64>,
}

/// What one origin has added, and what of it has been removed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part<S> {
    pub(crate) origin: OriginIx,
    pub(crate) birth: Dot,
    pub(crate) at: Dot,
    pub(crate) sum: S,
    pub(crate) removed_at: Dot,
    pub(crate) removed: S,
    /// The removal that set `removed_at`.
    pub(crate) remover: Option<Id>,
    pub(crate) carried: Option<u64>,
    /// The increment, and the sum there, before those that turned up late.
    pub(crate) raised: Option<Box<(Dot, S)>>,
}

impl<S: Sum> Part<S> {
    /// Whether it will not change any more, and has not been found to have changed after that.
    pub(crate) fn can_fold(&self, stable: Seen<'_>) -> bool {
        self.is_live() && self.raised.is_none() && stable.has_closed(self.origin)
    }

    /// Whether it counts.
    pub(crate) fn is_live(&self) -> bool {
        self.removed_at < self.at
    }

    /// Removes what a removal saw of it, by its own identity.
    fn remove(&mut self, id: Id, at: Dot, sum: S) {
        if self.removed_at < at {
            self.removed_at = at;
            self.removed = sum;
            self.remover = Some(id);
        }
        // The deadline was carried by what came in time, which is gone.
        if self.raised.is_some() && self.before_late().0 <= self.removed_at {
            self.carried = None;
        }
    }

    /// The last increment that came in time, and the sum there.
    pub(crate) fn before_late(&self) -> (Dot, S) {
        let last = (self.at, self.sum);
        self.raised.as_ref().map_or(last, |before| **before)
    }

    /// Removes all of it, if that was seen. What turned up late was not: who saw that names it.
    fn remove_seen(&mut self, seen: Seen<'_>, id: Id) {
        let (at, sum) = self.before_late();
        if seen.covers(self.in_time_id()) {
            self.remove(id, at, sum);
        }
    }

    /// The identity of the last increment that came in time.
    pub(crate) fn in_time_id(&self) -> Id {
        let at = self.before_late().0;
        Id {
            time: at.time,
            index: at.index,
            origin: self.origin,
        }
    }

    pub(crate) fn at_id(&self) -> Id {
        Id {
            time: self.at.time,
            index: self.at.index,
            origin: self.origin,
        }
    }
}

/// A deadline that belongs to no base.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeadlineFact {
    pub(crate) id: Id,
    pub(crate) deadline: Deadline,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Register<S> {
    /// Highest first.
    pub(crate) bases: Vec<Base>,
    /// Lowest first.
    pub(crate) edits: Vec<EditFact>,
    /// By origin, so that doubles are added in one order everywhere.
    pub(crate) parts: Vec<Part<S>>,
    pub(crate) deadlines: Vec<DeadlineFact>,
    /// Whether the replica has it on its list of things to settle.
    pub(crate) queued: bool,
    /// In which round of settling its deadlines were last left without a value.
    pub(crate) left_alone: u32,
}

impl<S> Default for Register<S> {
    fn default() -> Self {
        Self {
            bases: Vec::new(),
            edits: Vec::new(),
            parts: Vec::new(),
            deadlines: Vec::new(),
            queued: false,
            left_alone: 0,
        }
    }
}

/// Reading.
impl<S: Sum> Register<S> {
    /// Whether a reader finds it, its deadline aside.
    pub(crate) fn exists(&self) -> bool {
        !self.bases.is_empty() || !self.edits.is_empty() || self.parts.iter().any(Part::is_live)
    }

    /// Whether nothing at all is left of it.
    pub(crate) fn is_void(&self) -> bool {
        self.bases.is_empty()
            && self.edits.is_empty()
            && self.parts.is_empty()
            && self.deadlines.is_empty()
    }

    /// The value, or `None` if it does not exist.
    pub(crate) fn value(&self) -> Option<Cow<'_, [u8]>> {
        let base = self.bases.first().map(|base| base.value.as_slice());
        let edited = match (base, self.edits.as_slice()) {
            (base, []) => base.map(Cow::Borrowed),
            (base, edits) => {
                let mut value = base.unwrap_or_default().to_vec();
                for fact in edits {
                    fact.edit.as_edit().apply(&mut value);
                }
                Some(Cow::Owned(value))
            }
        };
        let mut added = self
            .live_parts()
            .map(|part| part.sum.minus(part.removed))
            .peekable();
        if added.peek().is_none() {
            return edited;
        }
        match S::total(edited.as_deref(), added) {
            Some(total) => Some(Cow::Owned(total)),
            None => edited.or(Some(Cow::Borrowed(b""))),
        }
    }

    /// The parts that count.
    pub(crate) fn live_parts(&self) -> impl Iterator<Item = &Part<S>> {
        self.parts.iter().filter(|part| part.is_live())
    }

    /// Whether counter parts have been folded into what is read.
    pub(crate) fn has_folded_parts(&self) -> bool {
        let folded = |base: &Base| base.folded.as_ref().is_some_and(|f| f.has_parts);
        self.bases.first().is_some_and(folded)
    }

    /// The part of one origin.
    pub(crate) fn part(&self, origin: OriginIx) -> Option<&Part<S>> {
        self.parts.iter().find(|part| part.origin == origin)
    }

    /// Whether it has anything that says when it ends.
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
            || self
                .bases
                .iter()
                .any(|base| base.attached != Attached::Nothing || base.carried().is_some())
            || self.edits.iter().any(|edit| edit.carried.is_some())
            || self.parts.iter().any(|part| part.carried.is_some())
    }

    /// The latest of the facts that a reader sees.
    pub(crate) fn latest(&self, origins: &Origins) -> Option<Id> {
        let bases = self.bases.iter().map(|base| match &base.folded {
            Some(folded) if origins.compare(base.id, folded.last).is_lt() => folded.last,
            _ => base.id,
        });
        let edits = self.edits.iter().map(|edit| edit.id);
        let parts = self.live_parts().map(Part::at_id);
        bases
            .chain(edits)
            .chain(parts)
            .max_by(|&a, &b| origins.compare(a, b))
    }

    /// The digest of what a reader sees, the deadline aside.
    pub(crate) fn digest(&self, thing: u64, origins: &Origins) -> u64 {
        let base = self.bases.first().map_or(0, |base| {
            let folded = base.folded.as_ref().map_or(0, |folded| folded.digest);
            mix(thing, origins.hash(base.id)) ^ folded
        });
        let edits = self
            .edits
            .iter()
            .map(|edit| mix(thing, origins.hash(edit.id)));
        let parts = self.live_parts().map(|part| part.digest(thing, origins));
        edits.chain(parts).fold(base, |digest, fact| digest ^ fact)
    }
}

impl<S: Sum> Part<S> {
    /// Of how far it goes and from where it counts, apart: what was folded and what turned up after
    /// that add up to the whole.
    pub(crate) fn digest(&self, thing: u64, origins: &Origins) -> u64 {
        let hash = |dot| origins.hash_dot(self.origin, dot);
        let part = mix(thing, hash(self.birth));
        mix(part, hash(self.at)) ^ mix(part, hash(self.removed_at))
    }
}

/// What a finite deadline in force adds to the digest of a thing.
pub(crate) const fn deadline_digest(thing: u64, ms: u64) -> u64 {
    mix(thing ^ DEADLINE_TAG, ms)
}

/// Changing. Each method is one effect.
impl<S: Sum> Register<S> {
    /// Removes the bases and edits that were seen, and the parts that were seen to their end: who
    /// has folded one into a base does not name it any more.
    pub(crate) fn remove_seen(&mut self, seen: Seen<'_>, id: Id) {
        self.bases.retain(|base| !seen.covers(base.id));
        self.edits.retain(|edit| !seen.covers(edit.id));
        for part in &mut self.parts {
            part.remove_seen(seen, id);
        }
    }

    /// Removes what was seen and says when it ends.
    pub(crate) fn remove_deadlines(&mut self, seen: Seen<'_>) {
        self.deadlines.retain(|fact| !seen.covers(fact.id));
        for base in &mut self.bases {
            if seen.covers(base.id) {
                base.attached = Attached::Nothing;
                base.drop_carried();
            }
        }
        for edit in &mut self.edits {
            if seen.covers(edit.id) {
                edit.carried = None;
            }
        }
        for part in &mut self.parts {
            if seen.covers(part.in_time_id()) {
                part.carried = None;
            }
        }
    }

    /// Replaces what was seen by a base.
    pub(crate) fn set(&mut self, base: Base, seen: Seen<'_>, origins: &Origins) {
        self.remove_seen(seen, base.id);
        if base.attached != Attached::Nothing {
            self.remove_deadlines(seen);
        }
        let at = self
            .bases
            .partition_point(|other| origins.compare(other.id, base.id).is_gt());
        if self.bases.get(at).is_none_or(|other| other.id != base.id) {
            self.bases.insert(at, base);
        }
    }

    /// Adds an edit.
    pub(crate) fn edit(&mut self, fact: EditFact, origins: &Origins) {
        let at = self
            .edits
            .partition_point(|other| origins.compare(other.id, fact.id).is_lt());
        if self.edits.get(at).is_none_or(|other| other.id != fact.id) {
            self.edits.insert(at, fact);
        }
    }

    /// Takes note of the running sum of a part.
    pub(crate) fn add(
        &mut self,
        id: Id,
        increment: Increment<S>,
        carried: Option<u64>,
        origins: &Origins,
    ) {
        let Increment { birth, sum } = increment;
        let fresh = Part {
            origin: id.origin,
            birth,
            at: id.dot(),
            sum,
            removed_at: Dot::default(),
            removed: S::default(),
            remover: None,
            carried,
            raised: None,
        };
        match self.find_part(id.origin, origins) {
            Err(at) => self.parts.insert(at, fresh),
            Ok(at) => {
                let part = &mut self.parts[at];
                match birth.cmp(&part.birth) {
                    Ordering::Greater => *part = fresh,
                    Ordering::Equal if part.at < id.dot() => {
                        part.at = id.dot();
                        part.sum = sum;
                        part.carried = carried;
                    }
                    Ordering::Less | Ordering::Equal => {}
                }
            }
        }
    }

    /// Where the part of an origin is, or would be.
    fn find_part(&self, owner: OriginIx, origins: &Origins) -> Result<usize, usize> {
        let owner = origins.get(owner);
        self.parts
            .binary_search_by_key(&owner, |part| origins.get(part.origin))
    }

    /// Takes note of an increment of a closed origin that turned up late. Where its part is gone,
    /// folded or removed, what it was before is what is gone.
    pub(crate) fn raise(&mut self, owner: OriginIx, raised: &Raised<S>, origins: &Origins) {
        let before = Box::new((raised.from, raised.from_sum));
        let fresh = Part {
            origin: owner,
            birth: raised.birth,
            at: raised.at,
            sum: raised.sum,
            removed_at: raised.from,
            removed: raised.from_sum,
            remover: None,
            carried: None,
            raised: Some(before),
        };
        match self.find_part(owner, origins) {
            Err(at) => self.parts.insert(at, fresh),
            Ok(at) => {
                let part = &mut self.parts[at];
                match raised.birth.cmp(&part.birth) {
                    Ordering::Greater => *part = fresh,
                    Ordering::Equal if part.at < raised.at => {
                        part.raised = part.raised.take().or(fresh.raised);
                        part.at = raised.at;
                        part.sum = raised.sum;
                    }
                    Ordering::Less | Ordering::Equal => {}
                }
            }
        }
    }

    /// Removes what a removal saw of a part.
    pub(crate) fn forget(&mut self, id: Id, owner: OriginIx, seen: SeenPart<S>) {
        let Some(part) = self.parts.iter_mut().find(|part| part.origin == owner) else {
            return;
        };
        if part.birth == seen.birth {
            part.remove(id, seen.at, seen.sum);
        }
    }

    /// Replaces the deadlines that were seen.
    pub(crate) fn set_deadline(&mut self, fact: DeadlineFact, seen: Seen<'_>) {
        self.remove_deadlines(seen);
        if self.deadlines.iter().all(|other| other.id != fact.id) {
            self.deadlines.push(fact);
        }
    }
}

impl<S: Sum> Register<S> {
    /// A register that is just a base.
    pub(crate) fn of_base(base: Compact<'_>) -> Self {
        let Compact {
            id,
            attached,
            value,
        } = base;
        let base = Base {
            id,
            attached,
            value: value.to_vec(),
            folded: None,
        };
        Self {
            bases: vec![base],
            ..Self::default()
        }
    }
}

/// The base of a register that is just that.
pub(crate) fn deflate<S: Sum>(register: &Register<S>) -> Option<Compact<'_>> {
    match register.bases.as_slice() {
        [
            Base {
                id,
                attached,
                value,
                folded: None,
            },
        ] if register.edits.is_empty()
            && register.parts.is_empty()
            && register.deadlines.is_empty() =>
        {
            Some(Compact {
                id: *id,
                attached: *attached,
                value,
            })
        }
        _ => None,
    }
}

impl Attached {
    /// The finite deadline in it.
    pub(crate) const fn finite(self) -> Option<u64> {
        match self {
            Self::Deadline(deadline) => deadline.finite(),
            Self::Nothing => None,
        }
    }
}
