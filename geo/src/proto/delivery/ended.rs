//! Of one shard: what we say of origins that ended, and closing them.

use std::collections::BTreeMap;

use crdt::{Epoch, Frame, Origin, Region, Time, Version};

use super::{Delivery, Ending};
use crate::proto::message::Announcement;

impl Delivery {
    /// What we say of origins that ended.
    pub(super) fn announced(&self) -> Vec<Announcement> {
        self.closing
            .said_by(self.config.own.region)
            .cloned()
            .collect()
    }

    /// Says of each region what we hold of its ended origins.
    pub(super) fn announce(&mut self) {
        if !std::mem::take(&mut self.announced_is_old) {
            return;
        }
        for (region, newest) in self.closing.regions() {
            // Others may have closed more than what we have heard of.
            let below = newest.max(self.version.floor(region));
            let mut held = Version::new();
            // What waits will be applied: it counts as held. A region that starts with nothing
            // needs what was closed, too.
            let known = self
                .deps
                .iter()
                .chain(self.inbox.tails())
                .chain(self.parts_held())
                .chain(self.closing.closed());
            for (ended, time) in known {
                if ended.region == region && ended.epoch < below {
                    held.advance(ended, time);
                }
            }
            let announcement = Announcement {
                region,
                below,
                held,
            };
            self.closing.take(self.config.own.region, announcement);
        }
    }

    /// Closes the ended origins of which all is held, of each region from the oldest on: where all
    /// regions have said where they end, or one has closed them, which all do alike.
    pub(super) fn close_what_can_be(&mut self) {
        self.announce();
        let open: Vec<(Region, Epoch)> = self.closing.open(&self.version).collect();
        for (region, _) in open {
            if let Some((below, ends)) = self.ends(region) {
                self.close_below(region, below, ends);
            }
            for (below, ends) in self.closing.ends_elsewhere(region) {
                // A region that holds more of one than it had was handed what is late.
                let is_late = |(origin, end): (&Origin, &Time)| *end < self.deps.get(*origin);
                if self.version.floor(region) < below && !ends.iter().any(is_late) {
                    self.close_below(region, below, ends);
                }
            }
        }
    }

    /// The ended origins of a region and where they end, once all regions have said what they hold.
    pub(super) fn ends(&self, region: Region) -> Option<(Epoch, BTreeMap<Origin, Time>)> {
        if !self.all_do_without() {
            return None;
        }
        self.closing.ends(region, &self.config.members)
    }

    /// The last op of an ended origin that any region holds, once that is final.
    pub(super) fn final_end(&self, origin: Origin) -> Option<Time> {
        if !self.all_do_without() {
            return None;
        }
        self.closing.final_end(origin, &self.config.members)
    }

    /// Whether all regions do without those that are excluded. One that has not heard of an
    /// exclusion takes what a later life sends, and what it says of earlier ones is not its last
    /// word: also where it says it of the very epoch by which they have ended here, for that life
    /// may have begun with it. Who says that it does without ends all that it knew, so what it has
    /// announced before counts no more.
    ///
    /// A life that has lost its record does not know what the one before it has said. It speaks of
    /// a later epoch than what has ended, then, as does a build that says nothing.
    fn all_do_without(&self) -> bool {
        self.excluded.iter().all(|(&region, without)| {
            let newest = self.closing.newest(region).unwrap_or_default();
            let known = newest.max(self.version.floor(region));
            self.others().all(|other| {
                let mut said = self.closing.said_by(*other);
                let does = without.contains(other) || self.silent_builds.contains(other);
                does && said.all(|said| said.region != region || said.below <= known)
            })
        })
    }

    /// What waits here of origins that ended, where it is final how far these go.
    pub fn waiting_of_ended(&self) -> Vec<&Frame> {
        let ended = self.inbox.tails().map(|(origin, _)| origin);
        let ended = ended.filter(|&origin| self.closing.has_ended(origin));
        let ended = ended.filter(|&origin| self.final_end(origin).is_some());
        ended.flat_map(|origin| self.inbox.frames(origin)).collect()
    }

    /// Closes the origins of a region below an epoch, which end there, as far as all is held.
    fn close_below(&mut self, region: Region, below: Epoch, mut ends: BTreeMap<Origin, Time>) {
        let lacking = ends
            .iter()
            .find(|&(&origin, &end)| self.deps.get(origin) < end);
        // An old op may itself have seen that still older epochs were closed.
        let floor = lacking.map_or(below, |(origin, _)| origin.epoch);
        let closed = self.version.floor(region);
        if floor <= closed {
            return;
        }
        // Where those before were closed stays, also where nobody held anything of them: an old
        // disk may say by now that it does, and its ops are late.
        ends.retain(|origin, _| closed <= origin.epoch && origin.epoch < floor);
        self.closing.close(ends);
        self.announced_is_old = true;
        self.version.raise_floor(region, floor);
        self.deps.raise_floor(region, floor);
        self.generation += 1;
        self.inbox.forget(region, floor);
        self.heard
            .retain(|origin, _| origin.region != region || floor <= origin.epoch);
        self.stable_is_old = true;
    }

    /// Regions whose ended origins are not closed: ask everybody for what they hold of these.
    pub fn open_endings(&self) -> Vec<Ending> {
        let (all_do_without, members) = (self.all_do_without(), &self.config.members);
        let ending = |(region, below)| {
            let is_final = all_do_without && self.closing.final_below(region, members).is_some();
            Ending {
                region,
                below,
                is_final,
            }
        };
        self.closing.open(&self.version).map(ending).collect()
    }
}
