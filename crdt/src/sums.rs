//! Whether two replicas hold the same of some keys, without sending them.
//!
//! The digest says whether readers see the same. That is not enough to pass over a key in a
//! catch-up: a sibling that waits behind the base that is read, a counter part that was removed,
//! which of two equal deadlines it is, may differ all the same, and decide later what is read. So
//! the **sum** of a key is its digest with the identities of what readers do not see. Where sums
//! are equal, so are the facts. Where they are not, the facts may be the same and collected
//! differently: then they travel for nothing.
//!
//! Costs O(keys of the span) and what there is of things in full, whatever the size of values and
//! of containers of plain ones.

use crate::body::{Body, KeyState};
use crate::effect::Attached;
use crate::fact::{Id, Origins, mix};
use crate::names::{Full, Kept, Names};
use crate::piece::Span;
use crate::register::{Part, Register, Sum};
use crate::state::State;

/// Sets apart what facts are mixed for.
const SIBLING: u64 = 1;
const ATTACHED: u64 = 2;
const CARRIED: u64 = 3;
const PART: u64 = 4;
const DEADLINE: u64 = 5;
const WRITTEN: u64 = 6;

/// Things in full that are looked at in a container: one with more is taken to differ.
const LOOK_MAX: usize = 1_024;

/// Sums of keys by their tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// For each tag that there are keys of, by tag: their sums together, or `None` where there is
    /// too much to look at.
    pub by_tag: Vec<(u32, Option<u64>)>,
    /// What of the span has not been looked at.
    pub rest: Option<Span>,
}

impl State {
    /// The sums of the keys of a span, of about `limit` of them.
    pub fn sums(&self, span: Span, limit: usize) -> Sums {
        let Span { slot, first, last } = span;
        let keys = &self.slots[self.slot_index(slot)].keys;
        let mut by_tag: Vec<(u32, Option<u64>)> = Vec::new();
        let mut from = Some(first);
        while let Some(step) = from {
            if limit <= by_tag.len() {
                let rest = Span {
                    first: step,
                    ..span
                };
                return Sums {
                    by_tag,
                    rest: Some(rest),
                };
            }
            let (things, next) = keys.step(step, &self.seed);
            for &(tag, id) in things.iter().filter(|thing| thing.0 <= last) {
                let Some((name, kept)) = keys.at(id) else {
                    continue;
                };
                let sum = self.sum(name, kept);
                match by_tag.last_mut() {
                    Some((same, all)) if *same == tag => {
                        *all = all.zip(sum).map(|(all, sum)| all ^ sum);
                    }
                    _ => by_tag.push((tag, sum)),
                }
            }
            from = next.filter(|&next| next <= last);
        }
        Sums { by_tag, rest: None }
    }

    fn sum(&self, name: &[u8], kept: Kept<'_, KeyState>) -> Option<u64> {
        let hash = self.seed.hash(name);
        let mut sum = mix(hash, kept.summary(hash, &self.origins).digest) ^ hash;
        match kept {
            Kept::Compact(base) => sum ^= attached(base.id, base.attached, &self.origins),
            Kept::Counter(_) => {}
            Kept::Full(state) => {
                if let Some(register) = state.register() {
                    sum ^= register.unseen(&self.origins);
                }
                let bodies = state.bodies().iter();
                for body in bodies {
                    sum ^= mix(u64::from(body.kind().bodies().bits()), body.digest());
                    sum ^= unseen_in(body, &self.origins)?;
                }
            }
        }
        Some(sum)
    }
}

fn attached(id: Id, attached: Attached, origins: &Origins) -> u64 {
    match attached {
        Attached::Nothing => 0,
        Attached::Deadline(_) => mix(ATTACHED, origins.hash(id)),
    }
}

/// The facts in a container that its digest does not tell of.
fn unseen_in(body: &Body, origins: &Origins) -> Option<u64> {
    match body {
        Body::Hash(hash) => unseen_of(&hash.fields, origins),
        Body::Set(set) => unseen_of(&set.members, origins),
        Body::SortedSet(zset) => unseen_of(&zset.members, origins),
        Body::List(list) => list.siblings(LOOK_MAX).map(|siblings| {
            let hashes = siblings.map(|base| mix(WRITTEN, origins.hash(base.id)));
            hashes.fold(0, |all, hash| all ^ hash)
        }),
    }
}

/// Plain fields may have attached deadlines, but these are in force.
fn unseen_of<S: Sum>(names: &Names<Register<S>>, origins: &Origins) -> Option<u64> {
    if LOOK_MAX < names.in_full().len() {
        return None;
    }
    let registers = names.in_full().iter();
    let unseen = registers.map(|(_, register)| register.unseen(origins));
    Some(unseen.fold(0, |all, unseen| all ^ unseen))
}

impl<S: Sum> Register<S> {
    /// The facts that its digest does not tell of.
    fn unseen(&self, origins: &Origins) -> u64 {
        let hash = |what, id| mix(what, origins.hash(id));
        let mut sum = 0;
        for (rank, base) in self.bases.iter().enumerate() {
            sum ^= attached(base.id, base.attached, origins);
            if 0 < rank {
                sum ^= hash(SIBLING, base.id);
            }
            if base.carried().is_some() {
                sum ^= hash(CARRIED, base.id);
            }
        }
        for edit in self.edits.iter().filter(|edit| edit.carried.is_some()) {
            sum ^= hash(CARRIED, edit.id);
        }
        for part in &self.parts {
            if !part.is_live() {
                sum ^= part.removed_sum(origins);
            }
            if part.carried.is_some() {
                sum ^= hash(CARRIED, part.in_time_id());
            }
        }
        for fact in &self.deadlines {
            sum ^= hash(DEADLINE, fact.id);
        }
        sum
    }
}

impl<S> Part<S> {
    /// Of one that does not count. What it adds to a digest would not do: that is the difference
    /// between how far it goes and from where it counts, which are the same.
    fn removed_sum(&self, origins: &Origins) -> u64 {
        let dots = [self.birth, self.at, self.removed_at];
        let hashes = dots.map(|dot| origins.hash_dot(self.origin, dot));
        hashes.into_iter().fold(PART, mix)
    }
}
