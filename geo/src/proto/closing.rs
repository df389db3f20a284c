//! Origins that ended: who knows of a newer epoch, up to where each region holds the older ones,
//! and when nothing of them can turn up any more (docs/semantics.md, "Origins that ended").
//!
//! A region *announces* when it first hears of a newer epoch of a region: from then on it takes
//! older epochs of it from other regions alone, so what it may come to hold of them is what
//! somebody has announced. Once all members have announced, the highest time announced is final:
//! ops up to it may come from anybody, and whoever holds it closes the origin. Every start of a
//! region closes what was before, also the first, when that is nothing.
//!
//! What one region has closed may be closed by any that holds as much: so one that starts with
//! nothing closes what was closed before, though a region be down that took part in it.
//!
//! All regions must close an origin at the same time, or one would hold ops that another takes for
//! held. So an announcement counts only if it was made by a region that knew of every epoch that we
//! know of: what a region got from a life that has ended since, and with it its announcement, is
//! announced by itself by then.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Origin, Region, Time, Version};

use super::message::Announcement;

/// How many closed origins are remembered with the time at which they were closed. Ops of one that
/// is forgotten count as known, and a region that starts with nothing is not told of it.
const CLOSED_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// The latest epoch of each region that was heard of.
    newest: BTreeMap<Region, Epoch>,
    /// The latest announcement of one region (first) about another (second).
    said: BTreeMap<(Region, Region), Announcement>,
    /// What each region has said that it has applied: no less than it had when it announced.
    applied: BTreeMap<Region, Version>,
    /// Where origins were closed.
    closed: BTreeMap<Origin, Time>,
    /// Below these, origins are forgotten.
    forgotten: BTreeMap<Region, Epoch>,
}

impl Closing {
    /// The latest epoch of a region that was heard of.
    pub(super) fn newest(&self, region: Region) -> Option<Epoch> {
        self.newest.get(&region).copied()
    }

    /// Whether this epoch has ended.
    pub(super) fn has_ended(&self, origin: Origin) -> bool {
        self.newest(origin.region)
            .is_some_and(|newest| origin.epoch < newest)
    }

    /// Notes an epoch. Returns whether it is news. What the region's last life has announced no
    /// longer counts: it may have lost what it held.
    pub(super) fn notice(&mut self, origin: Origin) -> bool {
        let news = self
            .newest(origin.region)
            .is_none_or(|newest| newest < origin.epoch);
        if news {
            self.newest.insert(origin.region, origin.epoch);
            self.said.retain(|(who, _), _| *who != origin.region);
            self.applied.remove(&origin.region);
        }
        news
    }

    /// The latest epoch of each region that was heard of.
    pub(super) fn regions(&self) -> Vec<(Region, Epoch)> {
        self.newest
            .iter()
            .map(|(&region, &epoch)| (region, epoch))
            .collect()
    }

    /// Takes what region `who` announces. Returns whether that is news. What it holds only grows,
    /// but news may come out of order.
    pub(super) fn take(&mut self, who: Region, announcement: Announcement) -> bool {
        match self.said.entry((who, announcement.region)) {
            Entry::Vacant(vacant) => {
                vacant.insert(announcement);
                true
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let mut held = known.held.clone();
                held.join(&announcement.held);
                let below = known.below.max(announcement.below);
                let news = below != known.below || held != known.held;
                known.below = below;
                known.held = held;
                news
            }
        }
    }

    /// Takes what region `who` has applied. Returns whether it has closed origins that it had not.
    pub(super) fn take_applied(&mut self, who: Region, applied: &Version) -> bool {
        let known = self.applied.entry(who).or_default();
        let mut floors = applied.floors();
        let news = floors.any(|(region, floor)| known.floor(region) < floor);
        known.join(applied);
        news
    }

    /// What a region has said that it has applied, here or by way of others, if anything.
    pub(super) fn applied_by(&self, who: Region) -> Option<&Version> {
        self.applied.get(&who)
    }

    /// The origins of a region that other regions have closed, and where these end: for one that
    /// has started with nothing, and may not hear for long from all that took part. Of what was
    /// closed an announcement that is older says nothing.
    pub(super) fn ends_elsewhere(&self, region: Region) -> Vec<(Epoch, BTreeMap<Origin, Time>)> {
        let floors = self.applied.iter();
        let floors = floors.map(|(&who, applied)| (who, applied.floor(region)));
        let ends = floors.filter_map(|(who, below)| {
            let said = self.said.get(&(who, region));
            let said = said.filter(|said| Epoch(0) < below && below <= said.below)?;
            let held = said.held.iter();
            let ends = held.filter(|(origin, _)| origin.epoch < below);
            Some((below, ends.collect()))
        });
        ends.collect()
    }

    /// What a region has announced.
    pub(super) fn said_by(&self, who: Region) -> impl Iterator<Item = &Announcement> {
        self.said
            .iter()
            .filter(move |((by, _), _)| *by == who)
            .map(|(_, said)| said)
    }

    /// Regions with epochs that have ended and are not closed, and the epoch that ended them.
    pub(super) fn open<'a>(
        &'a self,
        version: &'a Version,
    ) -> impl Iterator<Item = (Region, Epoch)> + 'a {
        let newest = self.newest.iter().map(|(&region, &epoch)| (region, epoch));
        newest.filter(|&(region, epoch)| version.floor(region) < epoch)
    }

    /// The ended origins of a region and where they end, once all members have said what they hold.
    pub(super) fn ends(
        &self,
        region: Region,
        members: &BTreeSet<Region>,
    ) -> Option<(Epoch, BTreeMap<Origin, Time>)> {
        let below = self.final_below(region, members)?;
        let mut ends: BTreeMap<Origin, Time> = BTreeMap::new();
        for said in self.said_of(region, members) {
            for (origin, time) in said.held.iter().filter(|(origin, _)| origin.epoch < below) {
                let end = ends.entry(origin).or_default();
                *end = time.max(*end);
            }
        }
        Some((below, ends))
    }

    /// The epoch below which all members have said what they hold of a region, once they have.
    /// Costs a step for each: the ends are as many as were ever closed.
    pub(super) fn final_below(&self, region: Region, members: &BTreeSet<Region>) -> Option<Epoch> {
        let below = self.newest(region)?;
        let has_said = |&member: &Region| {
            let said = self.said.get(&(member, region));
            self.knew_all(member) && said.is_some_and(|said| below <= said.below)
        };
        members.iter().all(has_said).then_some(below)
    }

    /// Where an ended origin ends, once all members have said what they hold: before its first op,
    /// if none holds any. Costs a step for each.
    pub(super) fn final_end(&self, origin: Origin, members: &BTreeSet<Region>) -> Option<Time> {
        let below = self.final_below(origin.region, members)?;
        let held = self.said_of(origin.region, members);
        let end = held.map(|said| said.held.get(origin)).max();
        Some(end.filter(|_| origin.epoch < below).unwrap_or_default())
    }

    fn said_of<'a>(
        &'a self,
        region: Region,
        members: &'a BTreeSet<Region>,
    ) -> impl Iterator<Item = &'a Announcement> {
        let said = members.iter().map(move |&by| self.said.get(&(by, region)));
        said.flatten()
    }

    /// Whether a member has last announced when it knew of every epoch that we know of, those of
    /// regions included that take part no more: until it does without one it takes from it what
    /// that holds of others.
    fn knew_all(&self, member: Region) -> bool {
        self.newest.iter().all(|(&region, &newest)| {
            let said = self.said.get(&(member, region)).map(|said| said.below);
            Some(newest) <= said
        })
    }

    /// Notes where origins were closed.
    pub(super) fn close(&mut self, ends: BTreeMap<Origin, Time>) {
        for (origin, end) in ends {
            // Where it was closed stays, whatever turns up later.
            self.closed.entry(origin).or_insert(end);
        }
        while CLOSED_MAX < self.closed.len() {
            // Epochs are times, so the lowest is of the life that began first, whosever it was.
            let Some(origin) = self.oldest() else {
                return;
            };
            self.closed.remove(&origin);
            let below = self.forgotten.entry(origin.region).or_default();
            *below = Epoch(origin.epoch.0 + 1).max(*below);
        }
    }

    /// The closed origins, and where they were closed.
    pub(super) fn closed(&self) -> impl Iterator<Item = (Origin, Time)> + '_ {
        self.closed.iter().map(|(&origin, &end)| (origin, end))
    }

    fn oldest(&self) -> Option<Origin> {
        let origins = self.closed.keys().copied();
        origins.min_by_key(|origin| (origin.epoch, origin.region))
    }

    /// Where a closed origin was closed: before its first op, if nobody held any.
    pub(super) fn end(&self, origin: Origin) -> Time {
        let forgotten = self.forgotten.get(&origin.region);
        if forgotten.is_some_and(|&below| origin.epoch < below) {
            return Time::MAX;
        }
        match self.closed.get(&origin) {
            Some(&end) => end,
            None if self.is_forgotten_elsewhere(origin) => Time::MAX,
            None => Time::ZERO,
        }
    }

    /// Whether an origin is so old that those who told us of closed ones may have forgotten it:
    /// older than any of many. To take its ops for late ones would be to issue again what all have.
    fn is_forgotten_elsewhere(&self, origin: Origin) -> bool {
        let is_older = |oldest: Origin| origin.epoch < oldest.epoch;
        CLOSED_MAX / 2 <= self.closed.len() && self.oldest().is_some_and(is_older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(region: u8, epoch: u64) -> Origin {
        Origin::new(Region::new(region).expect("not 0"), Epoch(epoch))
    }

    #[test]
    fn what_is_forgotten_is_what_began_first_and_counts_as_known() {
        let close = |closing: &mut Closing, region, epoch| {
            closing.close(BTreeMap::from([(origin(region, epoch), Time(epoch))]));
        };
        let mut closing = Closing::default();
        for epoch in 1..=300 {
            close(&mut closing, 2, epoch * 10);
        }
        close(&mut closing, 1, 2_995);
        let end = |closing: &Closing, region, epoch| closing.end(origin(region, epoch));
        assert_eq!(closing.closed().count(), CLOSED_MAX);
        assert_eq!(
            end(&closing, 1, 2_995),
            Time(2_995),
            "though its id is the lowest"
        );
        assert_eq!(end(&closing, 2, 3_000), Time(3_000));
        assert_eq!(end(&closing, 2, 10), Time::MAX);
        assert_eq!(
            end(&closing, 1, 2_996),
            Time::ZERO,
            "nobody held anything of it"
        );

        // One that has started with nothing is told of what others have not forgotten.
        let mut told = Closing::default();
        told.close(closing.closed().collect());
        assert_eq!(end(&told, 2, 3_000), Time(3_000));
        assert_eq!(end(&told, 2, 10), Time::MAX);
        assert_eq!(end(&told, 3, 4_000), Time::ZERO);
        let mut few = Closing::default();
        close(&mut few, 2, 10);
        assert_eq!(
            end(&few, 2, 5),
            Time::ZERO,
            "nothing has been forgotten yet"
        );
    }
}
