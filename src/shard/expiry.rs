//! Removing what is past its deadline.
//!
//! Every replica hides a key from its deadline on. The removal is an op like any other, of one
//! region: that with the lowest id among those that are not down, once the deadline has been past
//! for `expiry-grace`, so that an extension made in time elsewhere has arrived. It removes all it
//! saw but the deadline; what it did not see stays hidden behind that. A database of one region
//! removes at once, the deadline too.
//!
//! Not yet: the region that set the winning deadline does it as soon as it has heard from all
//! others up to the deadline (docs/semantics.md, "Expiry").

use crdt::{Bodies, Change};

use super::Shard;
use super::txn::Txn;

impl Shard {
    /// Removes up to `limit` keys whose deadline is at or before `before_ms`. Returns how many.
    pub fn expire(&mut self, before_ms: u64, now_ms: u64, limit: usize) -> usize {
        let ended = self.state.ended(before_ms, limit);
        if ended.is_empty() {
            return 0;
        }
        let alone = self.alone;
        let removed = self.guarded("removing what is past its deadline", |shard| {
            shard.transact(now_ms, None, |txn| {
                ended
                    .iter()
                    .filter(|(_, name)| txn.remove_ended(name, alone))
                    .count()
            })
        });
        removed.unwrap_or(0)
    }
}

impl Txn<'_> {
    /// Removes what is at a key that is past its deadline. Returns whether there was anything.
    fn remove_ended(&mut self, name: &[u8], deadlines: bool) -> bool {
        let key = self.shard.state.seed().key(name);
        let bodies = self.shard.state.survey(&key).bodies;
        if bodies == Bodies::NONE && !deadlines {
            return false;
        }
        self.forget_parts(&key, Bodies::ALL);
        self.emit(
            &key,
            Change::Remove {
                bodies: Bodies::ALL,
                deadlines,
            },
        );
        true
    }
}
