//! Regions of a net that are silent: each node's horizon, looked at once a second.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Region};

use super::{Net, Replica, region};
use crate::proto::{Horizon, Instant, Span, Verdict};

/// Between two looks.
const LOOK_EVERY: Span = Span::from_ms(1_000);

/// What nodes have heard of each other, and what they make of it.
#[derive(Debug)]
pub(super) struct Silence {
    /// `None`: no silence is too long by itself.
    after: Option<Span>,
    next: Instant,
    nodes: BTreeMap<Region, Horizon>,
    /// Where what waits takes too much memory.
    short: BTreeSet<Region>,
    /// Where an operator has to decide, and about whom.
    pub(super) outweighed: BTreeMap<Region, Vec<Region>>,
}

impl Silence {
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// A node begins a new life.
    pub(super) fn restart(&mut self, at: Region) {
        self.nodes.remove(&at);
    }
}

impl<R: Replica> Net<R> {
    /// From now on regions are excluded that are silent for so long, or, with `None`, where what
    /// waits takes too much memory alone.
    pub fn set_horizon(&mut self, ms: Option<u64>) {
        self.silence = Some(Silence {
            after: ms.map(Span::from_ms),
            next: self.now + LOOK_EVERY,
            nodes: BTreeMap::new(),
            short: BTreeSet::new(),
            outweighed: BTreeMap::new(),
        });
    }

    /// What waits to become stable takes too much memory in a region, or not any more.
    pub fn set_short(&mut self, at: u8, is_short: bool) {
        let silence = self.silence.as_mut().expect("there is a horizon");
        if is_short {
            silence.short.insert(region(at));
        } else {
            silence.short.remove(&region(at));
        }
    }

    /// The regions that one would exclude, and may not.
    pub fn outweighed_at(&self, at: u8) -> Vec<Region> {
        let silence = self.silence.as_ref();
        let known = silence.and_then(|silence| silence.outweighed.get(&region(at)));
        known.cloned().unwrap_or_default()
    }

    pub(super) fn look_at_horizons(&mut self) {
        let now = self.now;
        let Some(mut silence) = self.silence.take() else {
            return;
        };
        if silence.next <= now {
            silence.next = now + LOOK_EVERY;
            for at in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.look_at_horizon(at, &mut silence);
            }
        }
        self.silence = Some(silence);
    }

    fn look_at_horizon(&mut self, at: Region, silence: &mut Silence) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let mut others = node.record.roster.ids();
        if !others.remove(&at) {
            return; // It takes part no more itself.
        }
        let horizon = silence.nodes.entry(at).or_default();
        horizon.look(now, &others, |id| {
            let shards = node.shards.iter_mut();
            shards
                .map(|shard| shard.ask(|delivery| delivery.signs_of(id)))
                .sum()
        });
        let is_short = silence.short.contains(&at);
        let verdict = horizon.verdict(at, &node.record.roster, silence.after, is_short);
        silence.outweighed.remove(&at);
        match verdict {
            Verdict::Nobody => {}
            Verdict::Outweighed(gone) => {
                silence.outweighed.insert(at, gone);
            }
            Verdict::Exclude(gone) => {
                for id in gone {
                    let shards = node.shards.iter_mut();
                    let newest = shards
                        .filter_map(|shard| shard.ask(|delivery| delivery.newest_epoch(id)))
                        .max();
                    let ended = Epoch(newest.unwrap_or_default().0 + 1);
                    node.record.roster.exclude(id, ended);
                }
                node.record.touch();
                self.follow_record(at);
            }
        }
    }
}
