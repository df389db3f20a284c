//! How a link is: whether it lags, and what is pending on it.

use crdt::Version;

use super::{BEAT, CatchingUp, Link, LinkState, Stats};
use crate::proto::Instant;
use crate::proto::message::BLOCKS_LEVEL;
use crate::proto::outbox::{Outbox, Which};
use crate::proto::shards::Shards;

impl Link {
    /// Whether the peer's build reads frames that were compressed on their way.
    pub const fn takes_compressed(&self) -> bool {
        BLOCKS_LEVEL <= self.talk.level
    }

    /// How the link is.
    pub fn state(&self, now: Instant, shards: &mut dyn Shards) -> LinkState {
        if self.is_lost(now) {
            return LinkState::Down;
        }
        if 1_000 < self.lag_ms(now, shards) {
            LinkState::Lagging
        } else {
            LinkState::Live
        }
    }

    /// Figures about the link. Costs a look at every shard.
    pub fn stats(&self, now: Instant, shards: &mut dyn Shards) -> Stats {
        let mut stats = self.stats;
        stats.lag_ms = self.lag_ms(now, shards);
        let in_flight = |o: &Outbox| o.in_flight(Which::Own) + o.in_flight(Which::Relayed);
        stats.in_flight_bytes = self.talk.outboxes.iter().map(in_flight).sum();
        stats.shards_behind = self.talk.outboxes.iter().filter(|o| o.is_behind()).count();
        stats.catching_up = self.talk.taking.as_ref().map(|taking| CatchingUp {
            shard: taking.shard,
            slots_done: taking.slots_done,
            slots: taking.slots,
            bytes: taking.bytes,
        });
        stats.pending_ops = (0..shards.count())
            .map(|shard| self.pending(shard, shards))
            .sum();
        stats
    }

    /// The peer's last word is what counts, also when the connection is gone.
    fn pending(&self, shard: u16, shards: &mut dyn Shards) -> u64 {
        let mut applied = Version::new();
        shards.delivery(shard, &mut |delivery| {
            if let Some(heartbeat) = delivery.latest_of(self.peer) {
                applied = heartbeat.applied.clone();
            }
        });
        shards.pending(shard, self.peer, &applied)
    }

    /// For how long we have lacked something, or heard nothing, which may be the same.
    fn lag_ms(&self, now: Instant, shards: &mut dyn Shards) -> u64 {
        let silent_ms = self
            .live_at
            .map_or(now.0 / 1_000_000, |live| now.since(live).ms());
        let overdue_ms = if silent_ms < 2 * BEAT.ms() + 100 {
            0
        } else {
            silent_ms
        };
        let now_ms = shards.now_ms();
        let mut lag_ms = overdue_ms;
        for shard in 0..shards.count() {
            shards.delivery(shard, &mut |delivery| {
                let since = delivery.behind_since(self.peer);
                lag_ms = lag_ms.max(since.map_or(0, |since| now_ms.saturating_sub(since)));
            });
        }
        lag_ms
    }
}
