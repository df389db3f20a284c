//! A shard whose memory is limited.
//!
//! How much is used is estimated from the state: what the process has allocated is that of all
//! seeds that run beside each other, and the same seed must give the same trace. What follows is
//! what a node does: it evicts by the policy, in the shard that is asked for; refuses commands that
//! add data; and beyond the reserve leaves frames of other regions with their senders.

use crdt::{Heap, Stock};
use meridian::command::{self, Flags};
use meridian::shard::{Eviction, Noted, Shard};

/// Keys that are looked at for one that is evicted.
const SAMPLES: usize = 3;
/// Keys that are evicted in a row.
const EVICTED_MAX: usize = 8;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes that may be used.
    pub(super) max_bytes: u64,
    /// Bytes beyond that up to which frames of other regions are taken.
    pub(super) reserve_bytes: u64,
    pub(super) eviction: Eviction,
}

fn used_bytes(shard: &Shard) -> u64 {
    let mut stock = Stock::default();
    shard.take_stock(0, usize::MAX, &mut stock);
    let keys = stock.keys.values().copied();
    keys.chain([stock.ghosts])
        .map(|Heap { bytes, .. }| bytes)
        .sum()
}

impl Room {
    /// What a shard has to note of uses.
    pub(super) const fn noted(room: Option<Self>) -> Noted {
        match room {
            Some(room) if room.eviction.is_lru() => Noted::Recency,
            _ => Noted::Nothing,
        }
    }

    /// Whether more is used than may be.
    pub(super) fn is_short(&self, shard: &Shard) -> bool {
        self.max_bytes < used_bytes(shard)
    }

    /// Whether frames of other regions are taken.
    pub(super) fn takes_frames(&self, shard: &Shard) -> bool {
        used_bytes(shard) <= self.max_bytes + self.reserve_bytes
    }

    /// Evicts keys until there is room, or a few. Returns how many.
    pub(super) fn evict(&self, shard: &mut Shard, now_ms: u64) -> u64 {
        let mut evicted = 0;
        for _ in 0..EVICTED_MAX {
            if !self.is_short(shard) {
                break;
            }
            let mut best: Option<(u64, Vec<u8>)> = None;
            shard.pick_to_evict(self.eviction, SAMPLES, now_ms, |rank, name| {
                if best.as_ref().is_none_or(|(known, _)| *known < rank) {
                    best = Some((rank, name.to_vec()));
                }
            });
            let Some((_, name)) = best else { break };
            evicted += u64::from(shard.evict(self.eviction, &name, now_ms));
        }
        evicted
    }
}

/// Whether any of these commands adds data.
pub(super) fn add_data(lines: &[String]) -> bool {
    lines.iter().any(|line| {
        let name = line.split(' ').next().unwrap_or_default();
        let command = command::find(name.as_bytes());
        command.is_some_and(|command| command.flags.has(Flags::DENY_OOM))
    })
}
