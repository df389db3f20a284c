//! Of one shard: regions that come to take part, and such that do so no more.
//!
//! An excluded region is one all of whose epochs have ended ([`super::ended`]): each of the others
//! says in the record of regions that it does without it, and announces what it holds of them, and
//! nothing more is stable before all have; then they are closed, and it holds up nothing any more.
//!
//! Whoever excludes a region may have heard of none of its epochs, where all have started again
//! since. But what they hold, or what waits, may have seen some: these are over, too, or it would
//! wait for what the excluded region alone has.
//!
//! Who was excluded hears of lives of its own closed without it. What others then say that they
//! hold of these is all up to where they have closed them, and of the rest nothing.

use std::collections::BTreeSet;

use crdt::{Epoch, Origin, Region, Version};

use super::Delivery;
use crate::proto::message::Heartbeat;

impl Delivery {
    /// A region takes part from now on: nothing more becomes stable that it has not acknowledged,
    /// and what it sends is taken. Returns whether it did not before.
    pub fn admit(&mut self, region: Region) -> bool {
        let is_new = self.config.members.insert(region);
        self.excluded.remove(&region);
        self.stable_is_old |= is_new;
        self.announced_is_old |= is_new;
        is_new
    }

    /// A region takes part no more, and its epochs below this have ended, as have all of which we
    /// know, and all that ops have seen which are here. Returns below which they have. Frames may
    /// have become ready by it.
    pub fn exclude(&mut self, region: Region, below: Epoch) -> Epoch {
        let is_new = self.config.members.remove(&region);
        let known = self.closing.newest(region);
        // Once it has ended here, what is new may have seen a life that was let back in.
        let seen = if is_new {
            self.seen_below(region)
        } else {
            Epoch(0)
        };
        let below = below.max(seen);
        let below = match known {
            // The first epoch that it did not have: but what has ended before is no epoch.
            Some(newest) if is_new && below <= newest => Epoch(newest.0 + 1),
            Some(newest) => below.max(newest),
            None => below.max(Epoch(1)),
        };
        self.excluded.entry(region).or_default();
        let has_ended = self.notice(Origin::new(region, below));
        if is_new || has_ended {
            self.stable_is_old = true;
            self.close_what_can_be();
        }
        below
    }

    /// Notes what an op of an earlier life had seen. What was heard of regions by then is in no
    /// log: where it had seen that epochs are closed, nothing else need tell of these.
    pub(super) fn note_seen(&mut self, deps: &Version) {
        let epochs = deps
            .iter()
            .map(|(origin, _)| (origin.region, Epoch(origin.epoch.0 + 1)));
        for (region, below) in epochs.chain(deps.floors()) {
            let known = self.seen_before.entry(region).or_default();
            *known = below.max(*known);
        }
    }

    /// Below which epoch all is that any op has seen of a region which is here: others may lack the
    /// op, and it waits until all that it had seen is closed.
    fn seen_below(&self, region: Region) -> Epoch {
        let waiting = self.inbox.all().map(|frame| {
            let deps = frame.deps();
            let newest = deps.latest_epoch(region);
            let below = newest.map_or(Epoch(0), |newest| Epoch(newest.0 + 1));
            below.max(deps.floor(region))
        });
        let before = self.seen_before.get(&region).copied();
        let here = before.unwrap_or_default().max(self.version.floor(region));
        waiting.fold(here, Epoch::max)
    }

    /// These regions have said that they do without one that is excluded. Frames may have become
    /// ready by it.
    pub fn done_without(&mut self, region: Region, by: &BTreeSet<Region>) {
        let Some(known) = self.excluded.get_mut(&region) else {
            return;
        };
        if known != by {
            known.clone_from(by);
            self.close_what_can_be();
        }
    }

    /// Whether a region's build says without whom it does. Where it does not, this is taken from
    /// what the region announces.
    pub fn note_build(&mut self, region: Region, says_without: bool) {
        if says_without {
            self.silent_builds.remove(&region);
        } else if self.silent_builds.insert(region) && !self.excluded.is_empty() {
            self.close_what_can_be();
        }
    }

    /// Whether a region that says that it has `said` has closed an origin of ours which we have
    /// not: for it that origin may have ended before ops that we hold of it.
    pub(super) fn is_without(&self, said: &Version, origin: Origin) -> bool {
        let own = self.config.own.region;
        origin.region == own
            && origin.epoch < said.floor(own)
            && self.version.floor(own) <= origin.epoch
    }

    /// Notes a sign of life. What comes over the region's own link always is one, also where its
    /// clock was set back; what is passed on is one if it is newer than what we have, for an old
    /// one may be passed on again and again.
    pub(super) fn note_sign(&mut self, heartbeat: &Heartbeat, from: Region) {
        let origin = heartbeat.origin;
        let known = self.heard.get(&origin).and_then(|heard| heard.latest());
        let is_newer = known.is_none_or(|known| known.time < heartbeat.time);
        let is_newer = is_newer && !self.closing.has_ended(origin);
        if from == origin.region || is_newer {
            *self.signs.entry(origin.region).or_default() += 1;
        }
    }

    /// How often a region has given a sign of life.
    pub fn signs_of(&self, region: Region) -> u64 {
        self.signs.get(&region).copied().unwrap_or_default()
    }
}
