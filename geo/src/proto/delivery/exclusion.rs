//! Of one shard: regions that come to take part, and such that do so no more.
//!
//! An excluded region is one all of whose epochs have ended ([`super::ended`]): each of the others
//! says what it holds of them, and nothing more is stable before all have; then they are closed,
//! and it holds up nothing any more.

use crdt::{Epoch, Origin, Region};

use super::Delivery;

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
    /// know. Returns below which they have. Frames may have become ready by it.
    pub fn exclude(&mut self, region: Region, below: Epoch) -> Epoch {
        let is_new = self.config.members.remove(&region);
        let known = self.closing.newest(region);
        let below = match known {
            // The first epoch that it did not have: but what has ended before is no epoch.
            Some(newest) if is_new && below <= newest => Epoch(newest.0 + 1),
            Some(newest) => below.max(newest),
            None => below.max(Epoch(1)),
        };
        self.excluded.insert(region);
        let has_ended = self.notice(Origin::new(region, below));
        if is_new || has_ended {
            self.stable_is_old = true;
            self.close_what_can_be();
        }
        below
    }
}
