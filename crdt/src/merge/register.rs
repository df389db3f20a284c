//! Merging two forms of one register.
//!
//! Bases, edits and deadlines are facts: see [`Sides`]. Three things need more thought.
//!
//! **Folding.** An edit, and the part of an origin that has ended, lives on in the base that it was
//! folded into. Only what is stable is folded, so the other side has applied it, too, and has
//! applied every op that had not seen it. So what one side holds apart and the other, which covers
//! it, does not, was either folded there or removed there, by an op that removed the base as well.
//! Either way it goes, if the base of the other side is taken; of two forms of one base the one
//! folded further is. Edits are folded in one order, so of two forms one is the further. Parts are
//! not: two replicas may learn in different order that two origins have ended. Then each side has
//! in its base what the other has apart, so either side is whole, and the choice is by rank. Where
//! there was no base, that of one side may be the edit or the part of the other by itself.
//!
//! **Counter parts.** Of one part the later increment and the later removal count, each with its
//! sum. A removed part that one side has and the other, which covers the removal, has not was
//! dropped there, when the removal was stable.
//!
//! **Deadlines of a base.** They are facts with the identity of the base. A folded base has that of
//! the facts in it, which the other side may have apart: if it has none of them any more, they were
//! removed.

use std::cmp::Ordering;

use super::Sides;
use crate::effect::Attached;
use crate::fact::{Id, Origins, Seen};
use crate::register::{Base, DeadlineFact, EditFact, Part, Register, Sum};
use crate::stamp::Dot;

/// Whose form of what is folded is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Further {
    Mine,
    Theirs,
}

/// One side of a merge.
#[derive(Clone, Copy)]
struct Side<'a, S> {
    register: &'a Register<S>,
    version: Seen<'a>,
}

impl<S: Sum> Register<S> {
    /// Merges what another replica holds.
    pub(crate) fn merge(&mut self, theirs: Self, sides: &Sides<'_>, origins: &Origins) {
        let before = std::mem::take(self);
        let mine = Side {
            register: &before,
            version: sides.mine,
        };
        let theirs = Side {
            register: &theirs,
            version: sides.theirs,
        };
        let further = further(mine, theirs, origins);
        let (taken, other) = match further {
            Further::Mine => (mine, theirs),
            Further::Theirs => (theirs, mine),
        };
        self.bases = merged_bases(taken, other);
        self.bases.sort_by(|a, b| origins.compare(b.id, a.id));
        self.edits = merged_edits(taken, other);
        self.edits.sort_by(|a, b| origins.compare(a.id, b.id));
        self.parts = merged_parts(taken, other, origins);
        self.parts.sort_by_key(|part| origins.get(part.origin));
        self.deadlines = merged_deadlines(taken, other);
        self.queued = before.queued;
        self.left_alone = before.left_alone;
    }
}

/// The side whose base has more in it.
fn further<S: Sum>(mine: Side<'_, S>, theirs: Side<'_, S>, origins: &Origins) -> Further {
    let lacks = |a: Side<'_, S>, b: Side<'_, S>| {
        let mut parts = a.register.parts.iter();
        parts.any(|part| b.has_taken(part))
    };
    match (lacks(mine, theirs), lacks(theirs, mine)) {
        (true, false) => return Further::Theirs,
        (false, true) => return Further::Mine,
        (true, true) | (false, false) => {}
    }
    // What is folded into a base that the other side has removed goes with it.
    let (a, b) = (mine.base_left(theirs), theirs.base_left(mine));
    let (Some(a), Some(b)) = (a, b) else {
        return if a.is_none() && b.is_some() {
            Further::Theirs
        } else {
            Further::Mine
        };
    };
    let by_folded = match (&a.folded, &b.folded) {
        (Some(a), Some(b)) => {
            let by_last = origins.compare(a.last, b.last);
            by_last.then(a.digest.cmp(&b.digest))
        }
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    if by_folded.then_with(|| origins.compare(a.id, b.id)).is_lt() {
        Further::Theirs
    } else {
        Further::Mine
    }
}

impl<S: Sum> Side<'_, S> {
    /// Whether it had a part that the other side has, up to where that came in time, and has it no
    /// more: folded, or removed with the base that it was folded into.
    fn has_taken(self, part: &Part<S>) -> bool {
        let in_time = part.before_late().0;
        if in_time <= part.removed_at || !self.version.covers(part.in_time_id()) {
            return false;
        }
        match self.register.part(part.origin) {
            None => true,
            // What turned up after that is counted from there.
            Some(own) => own.birth == part.birth && own.is_taken_up_to(in_time),
        }
    }

    /// The first of its bases that the other side has not removed.
    fn base_left(&self, other: Self) -> Option<&Base> {
        let is_left = |base: &&Base| {
            let mut same = other.register.bases.iter();
            !other.version.covers(base.id)
                || same.any(|same| same.id == base.id)
                || other.holds_apart(base.id)
        };
        self.register.bases.iter().find(is_left)
    }

    /// Whether it holds a base in the form of an edit or a part.
    fn holds_apart(self, base: Id) -> bool {
        let is_in_part = |part: &Part<S>| part.is_live() && part.in_time_id() == base;
        self.register.edits.iter().any(|edit| edit.id == base)
            || self.register.parts.iter().any(is_in_part)
    }

    /// Whether a deadline is left that was carried by what `taken` has folded into `base`.
    fn carries(self, base: &Base, taken: Self) -> bool {
        let own = self.register.bases.iter().find(|own| own.id == base.id);
        let is_folded = |edit: &EditFact| {
            let still = taken.register.edits.iter().any(|other| other.id == edit.id);
            !still && taken.version.covers(edit.id)
        };
        let mut edits = self.register.edits.iter();
        let mut parts = self.register.parts.iter();
        own.is_some_and(|own| own.carried().is_some())
            || edits.any(|edit| edit.carried.is_some() && is_folded(edit))
            || parts.any(|part| part.carried.is_some() && taken.has_taken(part))
    }
}

impl<S: Sum> Part<S> {
    /// Whether what came in time, up to there, is gone, and no removal of it is held.
    fn is_taken_up_to(&self, in_time: Dot) -> bool {
        let from = self.raised.as_ref().map(|before| before.0);
        from.is_some_and(|from| from <= self.removed_at && in_time <= from)
            && self.remover.is_none()
    }
}

fn merged_bases<S: Sum>(taken: Side<'_, S>, other: Side<'_, S>) -> Vec<Base> {
    let mut bases = Vec::new();
    for base in &taken.register.bases {
        let same = other.register.bases.iter().find(|same| same.id == base.id);
        let is_known = same.is_some() || other.holds_apart(base.id);
        if !is_known && other.version.covers(base.id) {
            continue;
        }
        let mut base = base.clone();
        if same.is_some_and(|same| same.attached == Attached::Nothing) {
            base.attached = Attached::Nothing;
        }
        if is_known && base.carried().is_some() && !other.carries(&base, taken) {
            base.drop_carried();
        }
        bases.push(base);
    }
    // What the other has and `taken` covers was removed, or is there in another form.
    let is_new = |base: &&Base| {
        let is_held = taken.register.bases.iter().any(|own| own.id == base.id);
        !is_held && !taken.version.covers(base.id)
    };
    bases.extend(other.register.bases.iter().filter(is_new).cloned());
    bases
}

fn merged_edits<S: Sum>(taken: Side<'_, S>, other: Side<'_, S>) -> Vec<EditFact> {
    let mut edits = Vec::new();
    for edit in &taken.register.edits {
        let same = other.register.edits.iter().find(|same| same.id == edit.id);
        if same.is_none() && other.version.covers(edit.id) {
            continue;
        }
        let mut edit = edit.clone();
        if same.is_some_and(|same| same.carried.is_none()) {
            edit.carried = None;
        }
        edits.push(edit);
    }
    let is_new = |edit: &&EditFact| {
        let is_held = taken.register.edits.iter().any(|own| own.id == edit.id);
        !is_held && !taken.version.covers(edit.id)
    };
    edits.extend(other.register.edits.iter().filter(is_new).cloned());
    edits
}

fn merged_deadlines<S: Sum>(taken: Side<'_, S>, other: Side<'_, S>) -> Vec<DeadlineFact> {
    let holds = |side: Side<'_, S>, id| side.register.deadlines.iter().any(|fact| fact.id == id);
    let mut deadlines: Vec<DeadlineFact> = Vec::new();
    for (one, another) in [(taken, other), (other, taken)] {
        for fact in &one.register.deadlines {
            let is_held = holds(another, fact.id);
            let is_listed = deadlines.iter().any(|listed| listed.id == fact.id);
            if !is_listed && (is_held || !another.version.covers(fact.id)) {
                deadlines.push(fact.clone());
            }
        }
    }
    deadlines
}

fn merged_parts<S: Sum>(taken: Side<'_, S>, other: Side<'_, S>, origins: &Origins) -> Vec<Part<S>> {
    let mut parts = Vec::new();
    for part in &taken.register.parts {
        match other.register.part(part.origin) {
            Some(same) => parts.push(merged_part(part, same, origins)),
            None if part.is_live() && other.has_taken(part) => parts.push(part.clone()),
            None => parts.extend(kept_part(part, other)),
        }
    }
    for part in &other.register.parts {
        if taken.register.part(part.origin).is_none() {
            parts.extend(kept_part(part, taken));
        }
    }
    parts
}

/// What is left of a part that only one side has.
fn kept_part<S: Sum>(part: &Part<S>, lacking: Side<'_, S>) -> Option<Part<S>> {
    let mut part = part.clone();
    if !part.is_live() {
        let is_dropped = match part.remover {
            Some(remover) => lacking.version.covers(remover),
            None => lacking.version.covers(part.in_time_id()),
        };
        return (!is_dropped).then_some(part);
    }
    if lacking.has_taken(&part) {
        // What turned up late was not known there.
        (part.removed_at, part.removed) = part.before_late();
        part.remover = None;
        part.carried = None;
        return part.is_live().then_some(part);
    }
    Some(part)
}

/// Two forms of one origin's part; that of the side that is taken first.
fn merged_part<S: Sum>(own: &Part<S>, same: &Part<S>, origins: &Origins) -> Part<S> {
    if own.birth != same.birth {
        return if own.birth < same.birth { same } else { own }.clone();
    }
    let later = if own.at < same.at { same } else { own };
    let mut merged = later.clone();
    if own.in_time_id() == same.in_time_id() && (own.carried.is_none() || same.carried.is_none()) {
        merged.carried = None;
    }
    merged.raised = match (&own.raised, &same.raised) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }.clone()),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    // What the other has folded is not gone from the base that is taken.
    let in_time = own.before_late().0;
    let is_apart = own.removed_at < in_time && same.is_taken_up_to(in_time);
    let is_later = match own.removed_at.cmp(&same.removed_at) {
        Ordering::Less => !is_apart,
        Ordering::Equal => match (own.remover, same.remover) {
            (Some(a), Some(b)) => origins.compare(a, b).is_lt(),
            (own, _) => own.is_none(),
        },
        Ordering::Greater => false,
    };
    let removal = if is_later { same } else { own };
    merged.removed_at = removal.removed_at;
    merged.removed = removal.removed;
    merged.remover = removal.remover;
    merged
}
