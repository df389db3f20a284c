//! Staying on a shard: its lock is held from one command to the next, where that is on it too.
//!
//! Each command is an op of its own all the same. Where clients send many commands about one key
//! each takes turns with the others less often, and finds the shard in its thread's caches.

use parking_lot::MutexGuard;

use super::ahead::Ahead;
use crate::limits;
use crate::shard::Shard;
use crate::shards::Shards;

/// A shard that is stayed on, if one is. Nothing may be waited for meanwhile, and no other shard be
/// taken.
#[derive(Debug, Default)]
pub(super) struct Stay<'a> {
    held: Option<(usize, MutexGuard<'a, Shard>)>,
    since_ns: u64,
}

impl<'a> Stay<'a> {
    /// Leaves the shard unless the next request is for it and not too much time has passed. Takes
    /// the shard of a request that is followed by another one for it.
    pub(super) fn go_to(
        &mut self,
        shards: &'a Shards,
        request: &Ahead,
        next: Option<&Ahead>,
        now_ns: u64,
    ) {
        let shard = request.shard(shards);
        let is_there = self.held.as_ref().is_some_and(|held| Some(held.0) == shard);
        if is_there && now_ns.saturating_sub(self.since_ns) < limits::STAY_NS {
            return;
        }
        self.held = None;
        if let (Some(shard), Some(next)) = (shard, next)
            && next.shard(shards) == Some(shard)
        {
            self.held = Some((shard, shards.lock(shard)));
            self.since_ns = now_ns;
        }
    }

    /// The shard, if one is stayed on.
    pub(super) fn shard(&mut self) -> Option<&mut Shard> {
        self.held.as_mut().map(|(_, shard)| &mut **shard)
    }
}
