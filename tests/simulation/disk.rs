//! A region's disk, and the life of its node on it.
//!
//! What a node does in threads of its own happens here in virtual time, a step at a time: the pass
//! that writes and syncs, in two halves; snapshots, piece by piece; replies that wait. So a seed
//! decides in which order, and a crash can come at any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crdt::{Epoch, Origin, Region, Seed, Time};
use geo::testing::Setup;
use meridian::clock::Moment;
use meridian::durability::{Durability, Fsync, NotKept, Passing};
use meridian::oplog::Budget;
use meridian::oplog::faulty::FaultyDisk;
use meridian::oplog::record::Owner;
use meridian::oplog::recovered::{Damage, Torn};
use meridian::shards::Shards;
use meridian::snapshot::{Loaded, Settings, Snapshots, Writing};
use meridian::store::{Begun, Store, StoreError};

use super::replica;

/// Between two passes of a life without trouble, at most.
const PASS_EVERY_NS: u64 = 1_000_000_000;
/// What was written longer ago than this is synced: the time between two passes, and what two
/// steps of the simulation take.
pub(super) const SYNCED_AFTER_NS: u64 = 1_500_000_000;

/// What a node of a region is made of.
#[derive(Clone)]
pub(super) struct Build {
    pub(super) owner: Owner,
    pub(super) setup: Setup,
    pub(super) keys: Seed,
    pub(super) fsync: Fsync,
    /// Bytes of a segment of the log, of a piece of a snapshot, and of the log in memory.
    pub(super) segment_bytes: u64,
    pub(super) piece_bytes: usize,
    pub(super) memory_bytes: u64,
    /// Bytes of segments that are kept for regions that lag.
    pub(super) geo_bytes: u64,
}

/// How a life begins.
pub(super) struct Start {
    /// Its epoch is not below this.
    pub(super) least: Epoch,
    /// The regions of the database, by the record that it finds.
    pub(super) members: BTreeSet<Region>,
    pub(super) chance: u64,
    pub(super) now: Moment,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) number: u16,
    pub(super) time: Time,
    /// When.
    pub(super) at_ns: u64,
}

/// A reply that waits until its write is safe.
struct Waiting {
    reply: Pin<Box<dyn Future<Output = Result<(), NotKept>>>>,
    number: u16,
    time: Time,
}

/// A node that has started.
pub(super) struct Life {
    pub(super) origin: Origin,
    pub(super) shards: Arc<Shards>,
    pub(super) durability: Arc<Durability>,
    pub(super) loaded: Option<Loaded>,
    pub(super) torn: Option<Torn>,
    pub(super) damaged: BTreeMap<u16, Damage>,
    /// The segment of the log that it began with.
    pub(super) first_segment: u64,
    snapshots: Snapshots,
    saving: Option<Writing>,
    passing: Option<Passing>,
    waiting: Vec<Waiting>,
    passed_ns: u64,
}

impl Life {
    /// Begins on what is there.
    pub(super) fn begin(
        storage: &FaultyDisk,
        build: &Build,
        start: Start,
    ) -> Result<Self, StoreError> {
        let Start {
            least,
            members,
            chance,
            now,
        } = start;
        let storage = Arc::new(storage.clone());
        let store = Store::on(storage, build.owner.clone(), build.segment_bytes);
        let epoch = store.epoch(now)?.max(least);
        let origin = Origin::new(build.owner.region, epoch);
        let budget = Arc::new(Budget::new(build.memory_bytes));
        let shard = |number| {
            let config = build.setup.delivery(origin, members.clone());
            replica::shard(number, build.keys, chance, config, &budget, true)
        };
        let shards = (0..build.owner.shards).map(shard).collect();
        let shards = Arc::new(Shards::new(build.keys, shards));
        let Begun {
            durability,
            loaded,
            torn,
            damaged,
        } = store.go_on(&shards, epoch, build.fsync, now)?;
        let durability = Arc::new(durability);
        let settings = Settings {
            loaded,
            geo_bytes: build.geo_bytes,
            piece_bytes: build.piece_bytes,
        };
        let snapshots = store.snapshots(Arc::clone(&shards), Arc::clone(&durability), settings);
        let first_segment = durability.journal().number();
        Ok(Self {
            origin,
            shards,
            durability,
            loaded,
            torn,
            damaged,
            first_segment,
            snapshots,
            saving: None,
            passing: None,
            waiting: Vec::new(),
            passed_ns: now.monotonic_ns,
        })
    }

    /// Somebody waits for the reply to a write. Returns what is acknowledged now.
    pub(super) fn wrote(&mut self, number: u16, time: Time, now: Moment) -> Vec<Ack> {
        let (durability, shards) = (Arc::clone(&self.durability), Arc::clone(&self.shards));
        self.waiting.push(Waiting {
            reply: Box::pin(async move { durability.receipt(&shards).await }),
            number,
            time,
        });
        self.answer(now)
    }

    /// Replies to who need not wait any longer.
    pub(super) fn answer(&mut self, now: Moment) -> Vec<Ack> {
        let mut acks = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        self.waiting
            .retain_mut(|waiting| match waiting.reply.as_mut().poll(&mut context) {
                Poll::Pending => true,
                Poll::Ready(Err(_)) => false,
                Poll::Ready(Ok(())) => {
                    acks.push(Ack {
                        number: waiting.number,
                        time: waiting.time,
                        at_ns: now.monotonic_ns,
                    });
                    false
                }
            });
        acks
    }

    /// How many wait for replies.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Does what is due: a half of a pass, or none. Who waits has it done sooner.
    pub(super) fn tick(&mut self, is_eager: bool, now: Moment) -> Vec<Ack> {
        if self.passing.is_some() {
            self.end_pass();
        } else if is_eager || self.passed_ns + PASS_EVERY_NS <= now.monotonic_ns {
            self.passed_ns = now.monotonic_ns;
            self.passing = self.durability.begin_pass(&self.shards, now, false);
        }
        self.answer(now)
    }

    fn end_pass(&mut self) {
        if let Some(passing) = self.passing.take() {
            self.durability.end_pass(&self.shards, passing);
        }
    }

    /// Notes that it holds all that its region had acknowledged. Returns whether it could.
    pub(super) fn fill(&mut self, now: Moment) -> bool {
        self.end_pass();
        self.durability.is_filled() || self.durability.fill(&self.shards, now).is_ok()
    }

    /// Goes on with a snapshot, or begins one. Returns whether one was finished.
    pub(super) fn save(&mut self, now: Moment) -> bool {
        let Some(mut writing) = self.saving.take() else {
            self.saving = self.snapshots.begin().ok();
            return false;
        };
        match self.snapshots.piece(&mut writing) {
            Ok(Some(_)) => {
                self.saving = Some(writing);
                false
            }
            Ok(None) => {
                self.end_pass();
                self.snapshots.finish(writing, now).is_ok()
            }
            Err(_) => false,
        }
    }

    /// Whether a pass has begun that has not ended.
    pub(super) const fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// Whether a snapshot is being written.
    pub(super) const fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Removes what nobody needs any more of the log. Returns how many segments.
    pub(super) fn cut(&mut self) -> usize {
        let before = self.durability.journal().stretches().count();
        self.snapshots.cut();
        before - self.durability.journal().stretches().count()
    }

    /// Ends in order.
    pub(super) fn stop(&mut self, now: Moment) {
        self.end_pass();
        if let Some(passing) = self.durability.begin_pass(&self.shards, now, true) {
            self.durability.end_pass(&self.shards, passing);
        }
    }
}

/// A region's disk.
pub(super) struct Disk {
    pub(super) storage: FaultyDisk,
    pub(super) build: Rc<Build>,
    pub(super) life: Life,
    /// What was acknowledged in this life.
    pub(super) acks: Vec<Ack>,
    /// Of each shard, the last write that was acknowledged in an earlier life: what comes later
    /// has a later stamp.
    pub(super) above: Vec<Time>,
    /// When syncs began to fail.
    pub(super) sync_fails_ns: Option<u64>,
    /// Until when something is wrong.
    pub(super) trouble_until_ns: u64,
    /// When its power fails.
    pub(super) power_until_ns: u64,
    /// What was synced at some time, put aside.
    pub(super) copies: Vec<FaultyDisk>,
}
