//! Of one shard: who takes in whose state, and what that has brought so far.
//!
//! A shard that is partly ahead of its version cannot be read exactly, so it hands out no state.
//! Two regions that lack each other's ops must therefore take turns: one that hands out state
//! begins to take some in no sooner than the other has stopped asking, and of two that ask each
//! other before either has got anything the lower goes first.
//!
//! What pieces have brought beyond the version may have been lost with the region that sent them:
//! then its parts are here, and the op nowhere. So an announcement counts it as held, and where an
//! origin ends with such an op, and no region has it whole, the lowest that has parts of it takes
//! these for all of it. The others lack it then as they lack what a log has dropped, and take in
//! that region's state.
//!
//! Another may have such an op whole and be unable to apply it, for what that had seen is with who
//! has parts of it alone, in no log, and who has parts hands out no state. So what waits is handed
//! on, where its origin has ended.
//!
//! An announcement does not tell what is held whole from parts. So what a region has applied comes
//! with it, by whatever way, and who knows of the one knows of the other. What a region hands out
//! can be ahead of what it has said: of what that shows it holds, its word is not waited for.

use std::collections::BTreeMap;

use crdt::{Epoch, Origin, Region, Time, Version};

use super::Delivery;
use crate::proto::{Instant, Span};

/// A region that has asked for nothing for so long has stopped asking.
const LEASE: Span = Span::from_ms(2_000);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Whose state is taken in.
    takes: Option<Taking>,
    /// What regions held, in which life, when they handed out state.
    shown: BTreeMap<Region, (Epoch, Version)>,
    /// Who is handed ours, and until when.
    gives: Option<(Region, Instant)>,
    /// Up to where parts of the state go.
    ahead: Version,
    /// How often ops were taken for held that are in no log.
    joins: u64,
}

#[derive(Clone, Copy, Debug)]
struct Taking {
    from: Region,
    /// Its life.
    epoch: Epoch,
    /// Whether some of it has been taken in.
    has_begun: bool,
}

impl Delivery {
    /// Begins to take in the state of region `from`. Returns whether it may.
    pub(crate) fn begin_to_take(&mut self, from: Region, now: Instant) -> bool {
        let gives = self.catch_up.gives.is_some_and(|(_, until)| now < until);
        let may = !gives && self.catch_up.takes.is_none();
        if may {
            self.catch_up.takes = Some(Taking {
                from,
                epoch: self.closing.newest(from).unwrap_or_default(),
                has_begun: false,
            });
        }
        may
    }

    /// Whether the state of region `from` is being taken in.
    pub(crate) fn takes_from(&self, from: Region) -> bool {
        self.catch_up
            .takes
            .is_some_and(|taking| taking.from == from)
    }

    /// Notes that some of it has been.
    pub(crate) fn has_taken(&mut self) {
        if let Some(taking) = &mut self.catch_up.takes {
            taking.has_begun = true;
        }
    }

    /// Notes what the region whose state is taken in held when it handed out some of it.
    pub fn was_shown(&mut self, held: &Version) {
        let Some(Taking { from, epoch, .. }) = self.catch_up.takes else {
            return;
        };
        let shown = self.catch_up.shown.entry(from).or_default();
        if shown.0 != epoch {
            *shown = (epoch, Version::new());
        }
        held.iter()
            .for_each(|(origin, time)| shown.1.advance(origin, time));
    }

    /// Up to where a region has shown that it holds an origin's ops whole, in its life.
    pub(super) fn shown_by(&self, region: Region, origin: Origin) -> Time {
        let shown = self.catch_up.shown.get(&region);
        let shown = shown.filter(|(epoch, _)| self.closing.newest(region) == Some(*epoch));
        shown.map_or(Time::ZERO, |(_, held)| held.get(origin))
    }

    /// The state of region `from` is taken in no longer.
    pub(crate) fn stop_taking(&mut self, from: Region) {
        self.catch_up.takes.take_if(|taking| taking.from == from);
    }

    /// No region's state is taken in any longer.
    pub fn take_no_more(&mut self) {
        self.catch_up.takes = None;
    }

    /// Whether region `to` may be handed our state, as it asks now.
    pub(crate) fn may_give(&mut self, to: Region, now: Instant) -> bool {
        let other = self.catch_up.gives.filter(|&(other, _)| other != to);
        if other.is_some_and(|(_, until)| now < until) {
            return false;
        }
        if let Some(taking) = self.catch_up.takes {
            if taking.has_begun || self.config.own.region < to {
                return false;
            }
            self.catch_up.takes = None;
        }
        self.catch_up.gives = Some((to, now + LEASE));
        true
    }

    /// Region `to` is handed our state no longer.
    pub(crate) fn stop_giving(&mut self, to: Region) {
        self.catch_up.gives.take_if(|(other, _)| *other == to);
    }

    /// Whether any of these times is further ahead of our clock than we admit.
    pub fn is_too_early(&self, version: &Version, now_ms: u64) -> bool {
        let mut times = version.iter();
        times.any(|(origin, time)| self.is_ahead(time, origin.region, now_ms))
    }

    /// Notes up to where parts of the state go, where that is beyond the version.
    pub fn note_ahead(&mut self, ahead: &Version) {
        if self.catch_up.ahead != *ahead {
            self.catch_up.ahead.clone_from(ahead);
            for (origin, _) in ahead.iter() {
                self.notice(origin);
            }
            self.announced_is_old = true;
        }
    }

    /// Notes that all ops up to these are held: what they left behind came as state.
    pub fn joined(&mut self, ops: &Version) {
        self.catch_up.joins += 1;
        let own = self.config.own;
        for (origin, time) in ops.iter().filter(|&(origin, _)| origin != own) {
            self.notice(origin);
            self.version.advance(origin, time);
            self.deps.advance(origin, time);
        }
        self.generation += 1;
        self.stable_is_old = true;
        self.announced_is_old = true;
        let heard: Vec<Origin> = self.heard.keys().copied().collect();
        for origin in heard {
            self.take_waiting(origin);
        }
        self.close_what_can_be();
    }

    /// How often that has happened: who reads the log from before it may miss something.
    pub(crate) const fn joins(&self) -> u64 {
        self.catch_up.joins
    }

    /// The ends of ended origins up to which parts of the state go, which no region has whole, and
    /// which are ours to take for all that there is.
    pub fn orphans(&self) -> Version {
        let mut orphans = Version::new();
        if self.catch_up.ahead.is_empty() {
            return orphans;
        }
        for (region, _) in self.closing.open(&self.version) {
            let Some((_, ends)) = self.ends(region) else {
                continue;
            };
            for (origin, end) in self.lost(ends) {
                orphans.advance(origin, end);
            }
        }
        orphans
    }

    fn lost(&self, ends: BTreeMap<Origin, Time>) -> impl Iterator<Item = (Origin, Time)> + '_ {
        let own = self.config.own.region;
        ends.into_iter().filter(move |&(origin, end)| {
            let announces = |&region: &Region| {
                let mut said = self.closing.said_by(region);
                said.any(|said| end <= said.held.get(origin))
            };
            // What another holds whole comes first: to take parts for all would give that up. Who
            // has said nothing in its life may have more.
            let has_more = |&region: &Region| {
                let applied = self.closing.applied_by(region);
                let shown = self.shown_by(region, origin);
                applied.is_none_or(|applied| self.deps.get(origin) < applied.get(origin).max(shown))
            };
            self.deps.get(origin) < end
                && end <= self.catch_up.ahead.get(origin)
                && !self.others().any(has_more)
                && !self
                    .others()
                    .any(|region| *region < own && announces(region))
        })
    }

    /// What is announced besides what is held.
    pub(super) fn parts_held(&self) -> impl Iterator<Item = (Origin, Time)> + '_ {
        self.catch_up.ahead.iter()
    }
}
