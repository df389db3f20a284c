//! What becomes of a register as its facts become stable: some are dropped, some folded.
//!
//! It changes no later read and no digest, though every replica does it in its own time.

use std::cmp::Reverse;

use crate::effect::{Attached, Deadline};
use crate::fact::{Origins, Seen, mix};
use crate::register::{Base, DeadlineFact, Folded, Part, Register, Sum};

/// Settling: dropping and folding what is stable. Changes no later read, and no digest.
impl<S: Sum> Register<S> {
    /// Whether there is something that will be dropped or folded one day.
    pub(crate) fn is_unsettled(&self, exists: bool) -> bool {
        1 < self.bases.len()
            || !self.edits.is_empty()
            || self.parts.iter().any(|part| !part.is_live())
            || 1 < self.deadlines.len()
            || self
                .deadlines
                .iter()
                .any(|fact| !exists || fact.deadline == Deadline::Never)
    }

    /// Drops and folds what `stable` covers; `exists` says whether the thing has a value here or
    /// in another body.
    pub(crate) fn settle(&mut self, stable: Seen<'_>, exists: bool, thing: u64, origins: &Origins) {
        if 1 < self.bases.len() {
            let mut winner = true;
            self.bases
                .retain(|base| std::mem::take(&mut winner) || !stable.covers(base.id));
        }
        self.parts.retain(|part| {
            part.is_live() || !part.remover.is_some_and(|remover| stable.covers(remover))
        });
        self.fold_edits(stable, thing, origins);
        self.fold_parts(stable, thing, origins);
        self.settle_deadlines(stable, exists, origins);
    }

    fn fold_edits(&mut self, stable: Seen<'_>, thing: u64, origins: &Origins) {
        if self
            .bases
            .first()
            .is_some_and(|base| !stable.covers(base.id))
        {
            return;
        }
        let count = self
            .edits
            .iter()
            .take_while(|edit| stable.covers(edit.id))
            .count();
        for fact in self.edits.drain(..count) {
            let Some(base) = self.bases.first_mut() else {
                let mut value = Vec::new();
                fact.edit.as_edit().apply(&mut value);
                let folded = fact.carried.map(|ms| {
                    let mut folded = Folded::new(fact.id);
                    folded.carry(ms, fact.id.origin, origins);
                    Box::new(folded)
                });
                let attached = Attached::Nothing;
                self.bases.push(Base {
                    id: fact.id,
                    attached,
                    value,
                    folded,
                });
                continue;
            };
            fact.edit.as_edit().apply(&mut base.value);
            let folded = base
                .folded
                .get_or_insert_with(|| Box::new(Folded::new(fact.id)));
            folded.last = fact.id;
            folded.digest ^= mix(thing, origins.hash(fact.id));
            if let Some(ms) = fact.carried {
                folded.carry(ms, fact.id.origin, origins);
            }
        }
    }

    /// Whether parts of closed origins wait until they can be folded.
    pub(crate) fn waits_to_fold(&self, stable: Seen<'_>) -> bool {
        let is_open = |base: &Base| !stable.covers(base.id);
        let is_blocked = !self.edits.is_empty() || self.bases.first().is_some_and(is_open);
        is_blocked && self.can_fold(stable)
    }

    /// Whether there are parts of closed origins to fold.
    pub(crate) fn can_fold(&self, stable: Seen<'_>) -> bool {
        self.parts.iter().any(|part| part.can_fold(stable))
    }

    /// Folds parts of closed origins into the base. None while there are edits: these come before
    /// parts, and an edit that has seen a part that is not folded replaces it.
    fn fold_parts(&mut self, stable: Seen<'_>, thing: u64, origins: &Origins) {
        let is_open = |base: &Base| !stable.covers(base.id);
        if !self.edits.is_empty() || self.bases.first().is_some_and(is_open) {
            return;
        }
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|part| !(part.can_fold(stable) && self.fold_part(part, thing, origins)));
        self.parts = parts;
    }

    fn fold_part(&mut self, part: &Part<S>, thing: u64, origins: &Origins) -> bool {
        let text = self.bases.first().map(|base| base.value.as_slice());
        let Some(value) = S::fold(text, part.sum.minus(part.removed)) else {
            return false;
        };
        let id = part.at_id();
        if self.bases.is_empty() {
            self.bases.push(Base {
                id,
                attached: Attached::Nothing,
                value: Vec::new(),
                folded: Some(Box::new(Folded {
                    digest: mix(thing, origins.hash(id)),
                    ..Folded::new(id)
                })),
            });
        }
        let base = &mut self.bases[0];
        base.value = value;
        let folded = base.folded.get_or_insert_with(|| Box::new(Folded::new(id)));
        if origins.compare(folded.last, id).is_lt() {
            folded.last = id;
        }
        folded.digest ^= part.digest(thing, origins);
        if let Some(ms) = part.carried {
            folded.carry(ms, part.origin, origins);
        }
        folded.has_parts = true;
        true
    }

    fn settle_deadlines(&mut self, stable: Seen<'_>, exists: bool, origins: &Origins) {
        // Of equal ones every replica keeps the same, for the region that set it removes the thing.
        let rank =
            |fact: &DeadlineFact| (fact.deadline, Reverse(origins.get(fact.id.origin).region));
        let settled = self.deadlines.iter().filter(|fact| stable.covers(fact.id));
        let longest = settled.max_by(|a, b| {
            let by_rank = rank(a).cmp(&rank(b));
            by_rank.then_with(|| origins.compare(a.id, b.id))
        });
        if let Some(&DeadlineFact { id, deadline }) = longest {
            self.deadlines.retain(|fact| {
                fact.id == id || deadline < fact.deadline || !stable.covers(fact.id)
            });
            self.drop_beaten(stable, deadline);
        }
        if let [fact] = self.deadlines.as_slice()
            && stable.covers(fact.id)
            && (!exists || (fact.deadline == Deadline::Never && self.stands_alone()))
        {
            self.deadlines.clear();
        }
    }

    /// Drops stable deadlines that belong to a base, an edit or a part, and that lose against one
    /// that stands for itself and is stable.
    fn drop_beaten(&mut self, stable: Seen<'_>, longest: Deadline) {
        for base in self.bases.iter_mut().filter(|base| stable.covers(base.id)) {
            base.drop_carried();
            if let Attached::Deadline(deadline) = base.attached
                && deadline <= longest
            {
                base.attached = Attached::Nothing;
            }
        }
        for edit in &mut self.edits {
            if stable.covers(edit.id) {
                edit.carried = None;
            }
        }
        for part in &mut self.parts {
            if stable.covers_time(part.origin, part.before_late().0.time) {
                part.carried = None;
            }
        }
    }

    /// Whether no deadline but the one that stands for itself would count without it.
    fn stands_alone(&self) -> bool {
        let ends = |base: &Base| base.attached.finite().is_some() || base.carried().is_some();
        !self.bases.iter().any(ends)
            && self.edits.iter().all(|edit| edit.carried.is_none())
            && self.parts.iter().all(|part| part.carried.is_none())
    }
}
