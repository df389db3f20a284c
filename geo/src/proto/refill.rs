//! When a node that has started with nothing may serve clients.
//!
//! Once every other region has given its word for every shard, and what the words name is held
//! ([`Delivery::lack`](super::Delivery::lack)). A region that cannot be reached for three seconds,
//! nor through others, need give none: it may be down for long, and the first region of a database
//! to start finds nobody. It had heard before it was lost what the others told of themselves, so
//! they give their words anew then.
//!
//! What a region is known to have held is waited for without a bound: only whoever runs the node
//! can say that it is to do without.

use std::collections::BTreeSet;

use crdt::Region;

use super::Instant;
use super::delivery::Lack;
use super::shards::Shards;

/// See the module. One a node.
#[derive(Debug, Default)]
pub struct Refill {
    /// Regions that are not waited for.
    lost: BTreeSet<Region>,
    /// The first shard that may lack something.
    next: u16,
    is_over: bool,
}

impl Refill {
    /// What is missing, if anything is. Costs a look at one shard while something is. Once nothing
    /// is, nothing ever is again.
    pub fn look(&mut self, now: Instant, shards: &mut dyn Shards) -> Lack {
        let mut lost = BTreeSet::new();
        shards.reach(&mut |reach| lost.extend(reach.lost(now)));
        self.look_without(lost, shards)
    }

    /// The same, where it is known which regions need not be waited for.
    pub fn look_without(&mut self, lost: BTreeSet<Region>, shards: &mut dyn Shards) -> Lack {
        if self.is_over {
            return Lack::Nothing;
        }
        if self.lost != lost {
            self.next = 0;
            if !lost.is_subset(&self.lost) {
                for shard in 0..shards.count() {
                    shards.delivery(shard, &mut |delivery| delivery.ask_for_words());
                }
            }
            self.lost = lost;
        }
        while self.next < shards.count() {
            let mut lack = Lack::Nothing;
            shards.delivery(self.next, &mut |delivery| lack = delivery.lack(&self.lost));
            if lack != Lack::Nothing {
                return lack;
            }
            self.next += 1;
        }
        self.end(shards);
        Lack::Nothing
    }

    /// Does without what is missing.
    pub fn end(&mut self, shards: &mut dyn Shards) {
        self.is_over = true;
        for shard in 0..shards.count() {
            shards.delivery(shard, &mut |delivery| delivery.end_words());
        }
    }
}
