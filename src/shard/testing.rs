//! Shards of a database of two regions, whose frames are carried by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Epoch, Origin, Region, SLOTS, Seed, Slot};

use super::{Identity, Peers, Shard};
use crate::oplog::Budget;

/// What the clocks of all regions say.
pub(super) const NOW_MS: u64 = 1_800_000_000_000;

pub(super) fn region(id: u8) -> Region {
    Region::new(id).expect("not 0")
}

/// The only shard of a region.
pub(super) fn shard(id: u8) -> Shard {
    shard_from(id, 0)
}

/// A shard of the slots from this one on.
pub(super) fn shard_from(id: u8, first: u16) -> Shard {
    let identity = Identity {
        number: 0,
        first: Slot::new(first).expect("a slot"),
        slots: SLOTS - first,
        origin: Origin::new(region(id), Epoch(1)),
        alone: false,
    };
    let peers = Peers {
        members: BTreeSet::from([region(1), region(2)]),
        clock_drift_max_ms: 500,
        budget: Arc::new(Budget::new(1 << 20)),
        on_disk: false,
    };
    Shard::with_peers(identity, Seed::from_text(b"test"), 1, peers)
}
