//! What a net is made of, and what it counts.

use std::collections::BTreeSet;

use crdt::{Origin, Region};

use crate::proto::DeliveryConfig;

/// What a net is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Regions, numbered from 1.
    pub regions: u8,
    /// Shards of each.
    pub shards: u16,
    /// Where all chance comes from.
    pub seed: u64,
    /// One way, in milliseconds.
    pub delay_ms: u64,
    /// Up to so much is added, anew for every message and frame.
    pub jitter_ms: u64,
    /// How many of 100 messages and frames take a round trip more.
    pub loss_percent: u64,
    /// How many of 100 frames arrive twice, which a transport must not do.
    pub double_percent: u64,
    /// Bytes of a shard's frames that may be on their way on a link; an inbox takes four times as
    /// many.
    pub bytes_max: usize,
}

impl Setup {
    /// Three regions 20 ms apart with two shards.
    pub const fn three(seed: u64) -> Self {
        let bytes_max = 1 << 20;
        Self {
            regions: 3,
            shards: 2,
            seed,
            delay_ms: 20,
            jitter_ms: 5,
            loss_percent: 1,
            double_percent: 0,
            bytes_max,
        }
    }

    /// What a shard whose ops this origin issues knows of its database, of these regions.
    pub const fn delivery(&self, own: Origin, members: BTreeSet<Region>) -> DeliveryConfig {
        DeliveryConfig {
            own,
            members,
            inbox_bytes_max: 4 * self.bytes_max,
            max_clock_drift_ms: 500,
        }
    }
}

/// What was sent on all connections in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Control messages and frames.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What traffic met with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// Messages and frames that took a round trip more.
    pub late: u64,
    /// Those that arrive before one that was sent earlier, on another stream.
    pub overtaking: u64,
    /// Frames that got lost for good.
    pub lost: u64,
    /// Frames that arrive twice.
    pub doubled: u64,
}
