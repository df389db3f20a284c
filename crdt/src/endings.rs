//! When things end, in order, by the region that removes them.
//!
//! A thing past its deadline is removed by the region that set the deadline (docs/semantics.md,
//! "Deadlines"), so that is what an index of deadlines is by: each region finds its own at the
//! front. Where nothing has a deadline an index is an empty list.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::effect::{Attached, Deadline};
use crate::fact::{OriginIx, Origins};
use crate::names::{Full, Kept};
use crate::origin::Region;
use crate::register::{Base, Register, Sum};

/// When a thing that exists ends, and the region that set this deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ending {
    pub(crate) ms: u64,
    pub(crate) region: Region,
}

impl<S: Sum> Register<S> {
    /// The deadline in force, if it is finite: the longest of those that stand for themselves and
    /// the one attached to the base, if that is what readers see; the longest carried one where
    /// none of these is left. Of equal ones that of the lowest region.
    pub(crate) fn ending(&self, base_is_read: bool, origins: &Origins) -> Option<Ending> {
        let rank = |(deadline, origin): (Deadline, OriginIx)| {
            (deadline, Reverse(origins.get(origin).region))
        };
        let base = self.bases.first().filter(|_| base_is_read);
        let attached = base.and_then(|base| match base.attached {
            Attached::Nothing => None,
            Attached::Deadline(deadline) => Some((deadline, base.id.origin)),
        });
        let own = self
            .deadlines
            .iter()
            .map(|fact| (fact.deadline, fact.id.origin));
        let longest = own.chain(attached).map(rank).max().or_else(|| {
            let edits = self.edits.iter().map(|edit| (edit.carried, edit.id.origin));
            let parts = self.live_parts().map(|part| (part.carried, part.origin));
            let folded = self.bases.first().and_then(Base::carried);
            edits
                .chain(parts)
                .filter_map(|(carried, origin)| Some((carried?, origin)))
                .chain(folded)
                .map(|(ms, origin)| rank((Deadline::At(ms), origin)))
                .max()
        })?;
        let (deadline, Reverse(region)) = longest;
        let ms = deadline.finite()?;
        Some(Ending { ms, region })
    }
}

impl<F: Full> Kept<'_, F> {
    /// The deadline in force, if it is finite.
    pub(crate) fn ending(self, origins: &Origins) -> Option<Ending> {
        let full = match self {
            Self::Full(full) => full,
            Self::Counter(_) => return None,
            Self::Compact(base) => {
                let region = |ms| Ending {
                    ms,
                    region: origins.get(base.id.origin).region,
                };
                return base.attached.finite().map(region);
            }
        };
        let register = full.register()?;
        let if_read = register.ending(true, origins);
        // Which of several bodies is read costs O(elements): only where it matters.
        if !full.has_bodies() {
            return if_read;
        }
        let if_not = register.ending(false, origins);
        if if_read == if_not || full.register_is_read(origins) {
            if_read
        } else {
            if_not
        }
    }

    /// The time at which it ends, if it does.
    pub(crate) fn ends_at(self, origins: &Origins) -> Option<u64> {
        self.ending(origins).map(|ending| ending.ms)
    }
}

/// The first deadline of each region.
pub(crate) type Firsts = SmallVec<[Ending; 1]>;

/// Deadlines of things, which are named by their places. See the module.
#[derive(Debug)]
pub(crate) struct Endings<P> {
    by_region: Vec<(Region, BTreeSet<(u64, P)>)>,
}

impl<P> Default for Endings<P> {
    fn default() -> Self {
        Self {
            by_region: Vec::new(),
        }
    }
}

/// Places are numbers, the least of which is the default.
impl<P: Copy + Ord + Default> Endings<P> {
    pub(crate) fn insert(&mut self, ending: Ending, place: P) {
        let Ending { ms, region } = ending;
        let found = self.by_region.iter_mut().find(|of| of.0 == region);
        match found {
            Some((_, set)) => {
                set.insert((ms, place));
            }
            None => self.by_region.push((region, BTreeSet::from([(ms, place)]))),
        }
    }

    pub(crate) fn remove(&mut self, ending: Ending, place: P) {
        let Ending { ms, region } = ending;
        let at = self.by_region.iter().position(|of| of.0 == region);
        if let Some(at) = at {
            self.by_region[at].1.remove(&(ms, place));
            if self.by_region[at].1.is_empty() {
                self.by_region.swap_remove(at);
            }
        }
    }

    /// Puts a thing where it belongs after a change.
    pub(crate) fn update(&mut self, before: Option<Ending>, after: Option<Ending>, place: P) {
        if before == after {
            return;
        }
        if let Some(ending) = before {
            self.remove(ending, place);
        }
        if let Some(ending) = after {
            self.insert(ending, place);
        }
    }

    /// All, by region.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ending, P)> + '_ {
        self.by_region.iter().flat_map(|&(region, ref set)| {
            set.iter()
                .map(move |&(ms, place)| (Ending { ms, region }, place))
        })
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.by_region.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_region.iter().map(|of| of.1.len()).sum()
    }

    /// Whether any is later than `now_ms`.
    pub(crate) fn go_past(&self, now_ms: u64) -> bool {
        let mut lasts = self.by_region.iter().filter_map(|of| of.1.last());
        lasts.any(|&(ms, _)| now_ms < ms)
    }

    /// The regions that have set any.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> + '_ {
        self.by_region.iter().map(|of| of.0)
    }

    /// What ends first of all.
    pub(crate) fn first(&self) -> Option<P> {
        let firsts = self.by_region.iter().filter_map(|of| of.1.first());
        firsts.min().map(|&(_, place)| place)
    }

    /// One of them: what comes next after a moment that is picked, each scale of distance from the
    /// first as likely as any other, and at a place that is picked. So many that end together do
    /// not hide one that is far away, nor it them. Costs O(log n).
    pub(crate) fn pick(
        &self,
        pick: &mut dyn FnMut(u64) -> u64,
        place: impl FnOnce(&mut dyn FnMut(u64) -> u64) -> P,
    ) -> Option<P> {
        let mut nth = pick(self.len().max(1) as u64) as usize;
        let set = self.by_region.iter().map(|of| &of.1).find(|set| {
            let is_it = nth < set.len();
            nth = nth.saturating_sub(set.len());
            is_it
        })?;
        let (first, last) = (set.first()?.0, set.last()?.0);
        let span = (last - first) >> pick(u64::from((last - first).max(1).ilog2()) + 2);
        let from = (first + pick(span + 1), place(pick));
        let found = set.range(from..).next().or_else(|| set.first());
        found.map(|&(_, place)| place)
    }

    /// The first of each region, by region.
    pub(crate) fn firsts(&self) -> Firsts {
        let first = |(region, set): &(Region, BTreeSet<(u64, P)>)| {
            let &(ms, _) = set.first()?;
            Some(Ending {
                ms,
                region: *region,
            })
        };
        let mut firsts: Firsts = self.by_region.iter().filter_map(first).collect();
        firsts.sort_unstable_by_key(|ending| ending.region);
        firsts
    }

    /// The things that end at `until_ms` or before, of those that `region` has set the deadline of.
    pub(crate) fn until(&self, region: Region, until_ms: u64) -> impl Iterator<Item = P> + '_ {
        let set = self.by_region.iter().find(|of| of.0 == region);
        let all = set.into_iter().flat_map(|of| &of.1);
        all.take_while(move |&&(ms, _)| ms <= until_ms)
            .map(|&(_, place)| place)
    }

    /// The deadlines from `low_ms` on and before `high_ms`.
    pub(crate) fn between(&self, low_ms: u64, high_ms: u64) -> impl Iterator<Item = u64> + '_ {
        let bounds = (low_ms, P::default())..(high_ms.max(low_ms), P::default());
        let sets = self.by_region.iter();
        sets.flat_map(move |(_, set)| set.range(bounds.clone()))
            .map(|&(ms, _)| ms)
    }
}

/// Deadlines, how many there are, and how many are past: kept up, since clients ask for it.
#[derive(Debug, Default)]
pub(crate) struct CountedEndings<P> {
    endings: Endings<P>,
    all: Tally,
    /// Those before this moment are in `past`.
    counted_ms: u64,
    past: Tally,
}

/// Some deadlines: how many, and their sum.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: usize,
    sum_ms: u128,
}

impl Tally {
    fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms += u128::from(ms);
    }

    fn subtract(&mut self, ms: u64) {
        self.count -= 1;
        self.sum_ms -= u128::from(ms);
    }
}

impl<P: Copy + Ord + Default> CountedEndings<P> {
    /// Puts a thing where it belongs after a change.
    pub(crate) fn update(&mut self, before: Option<Ending>, after: Option<Ending>, place: P) {
        if before == after {
            return;
        }
        self.endings.update(before, after, place);
        for (ending, change) in [
            (before, Tally::subtract as fn(&mut Tally, u64)),
            (after, Tally::add),
        ] {
            if let Some(Ending { ms, .. }) = ending {
                change(&mut self.all, ms);
                if ms < self.counted_ms {
                    change(&mut self.past, ms);
                }
            }
        }
    }

    /// The deadlines themselves.
    pub(crate) const fn endings(&self) -> &Endings<P> {
        &self.endings
    }

    /// How many are past at `now_ms`. Costs what has passed since this was last asked.
    pub(crate) fn past(&mut self, now_ms: u64) -> usize {
        let until_ms = now_ms.saturating_add(1);
        for ms in self.endings.between(self.counted_ms, until_ms) {
            self.past.add(ms);
        }
        // A clock may have been set back.
        for ms in self.endings.between(until_ms, self.counted_ms) {
            self.past.subtract(ms);
        }
        self.counted_ms = until_ms;
        self.past.count
    }

    /// How many are not past at `now_ms`, and how far away these are on average, in milliseconds.
    pub(crate) fn ahead(&mut self, now_ms: u64) -> (usize, u64) {
        let count = self.all.count - self.past(now_ms);
        let sum_ms = self.all.sum_ms - self.past.sum_ms;
        let average_ms = sum_ms.checked_div(count as u128).unwrap_or(0) as u64;
        (count, average_ms.saturating_sub(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes and goes and however the clock moves, counts and orders are those of a
        /// plain list.
        #[test]
        fn counts_and_orders_are_kept_up(
            script in prop::collection::vec(
                (0_u32..6, prop::option::of((0_u64..20, 1_u8..4)), 0_u64..25), 0..80),
        ) {
            let region = |id| Region::new(id).expect("not 0");
            let mut counted: CountedEndings<u32> = CountedEndings::default();
            let mut model: BTreeMap<u32, Ending> = BTreeMap::new();
            for (place, ending, now_ms) in script {
                let after = ending.map(|(ms, id)| Ending { ms, region: region(id) });
                let before = match after {
                    Some(ending) => model.insert(place, ending),
                    None => model.remove(&place),
                };
                counted.update(before, after, place);
                let past = model.values().filter(|ending| ending.ms <= now_ms).count();
                prop_assert_eq!(counted.past(now_ms), past);
                let rest = model.values().filter(|ending| now_ms < ending.ms);
                let sum: u64 = rest.clone().map(|ending| ending.ms).sum();
                let average = sum.checked_div(rest.count() as u64).unwrap_or(0);
                let ahead = (model.len() - past, average.saturating_sub(now_ms));
                prop_assert_eq!(counted.ahead(now_ms), ahead);
                for id in 1..4 {
                    let mut of: Vec<(u64, u32)> = model.iter()
                        .filter(|(_, ending)| ending.region == region(id))
                        .map(|(&place, ending)| (ending.ms, place))
                        .collect();
                    of.sort_unstable();
                    let first = of.first().map(|&(ms, _)| Ending { ms, region: region(id) });
                    let firsts = counted.endings().firsts();
                    prop_assert!(firsts.is_sorted_by_key(|ending| ending.region));
                    prop_assert_eq!(firsts.iter().find(|e| e.region == region(id)).copied(), first);
                    of.retain(|&(ms, _)| ms <= now_ms);
                    let places: Vec<u32> = of.into_iter().map(|(_, place)| place).collect();
                    let until = counted.endings().until(region(id), now_ms);
                    prop_assert_eq!(until.collect::<Vec<_>>(), places);
                }
                prop_assert_eq!(counted.endings().is_empty(), model.is_empty());
                prop_assert_eq!(counted.endings().len(), model.len());
                let later = model.values().any(|ending| now_ms < ending.ms);
                prop_assert_eq!(counted.endings().go_past(now_ms), later);
            }
        }
    }
}
