//! How lives on disks end, and the next begin.
//!
//! What the next life must find is known: what was told to be kept, and what was acknowledged, by
//! what `appendfsync` promises.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crdt::{Epoch, Origin, Time, Version};
use geo::proto::Refill;
use geo::testing::region;
use meridian::durability::Fsync;
use meridian::oplog::faulty::{Fate, FaultyDisk};

use super::laws::{Seen, seen};
use super::losses::remove_snapshots;
use super::{NUMBERS, World};
use crate::disk::{Ack, Build, Life, SYNCED_AFTER_NS, Start};
use crate::replica::Replica;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The process is killed: what it had written is there.
    Killed,
    /// The power fails: of what was not synced anything may be there, or parts of it.
    Power,
    /// The power fails, and nothing is there that was not synced.
    Blackout,
}

/// A life that has ended, as far as the next one must be like it.
pub(super) struct Dead {
    /// Whether only the process ended: what must be there need not have been synced.
    is_killed: bool,
    /// What must be there, by shard.
    firm: Vec<BTreeMap<Origin, Time>>,
    /// What it held, and showed where that is all that it held.
    last: Vec<(Version, Option<Seen>)>,
    /// The last write that was acknowledged, by shard.
    above: Vec<Time>,
}

impl Dead {
    /// One of which nothing must be there.
    pub(super) const fn forgotten() -> Self {
        Self {
            is_killed: false,
            firm: Vec::new(),
            last: Vec::new(),
            above: Vec::new(),
        }
    }
}

impl World {
    /// Ends a life on a disk. Returns how.
    pub(super) fn end_life(&mut self, at: u8) -> &'static str {
        let steps = self.disks[&at].storage.steps();
        match self.random.u32(0..16) {
            3..6 => {
                self.crash(at, steps, End::Power);
                return "disk: power lost";
            }
            6 | 7 => {
                self.crash(at, steps, End::Blackout);
                return "disk: power lost, and all that was not synced";
            }
            8 => return self.stop(at),
            9 | 10 => return self.end_all(),
            11 | 12 if !self.cuts_logs && self.put_back(at) => return "disk: old copy put back",
            13 | 14 if self.flip(at) => return "disk: bit flipped",
            15 if self.wipe(at) => return "disk: lost as a whole",
            _ => {}
        }
        self.crash(at, steps, End::Killed);
        "disk: node killed"
    }

    /// All nodes end at once, if all have disks.
    fn end_all(&mut self) -> &'static str {
        let ends = [End::Killed, End::Power, End::Blackout];
        let end = ends[self.random.usize(0..3)];
        let all: Vec<u8> = self.disks.keys().copied().collect();
        for &at in &all {
            let steps = self.disks[&at].storage.steps();
            self.crash(at, steps, end);
        }
        if all == self.running() {
            "disk: all regions at once"
        } else {
            "disk: node killed"
        }
    }

    /// Ends a life in order, after which the power fails.
    fn stop(&mut self, at: u8) -> &'static str {
        if self.act(at, Life::stop).is_some() {
            let mut dead = self.dead(at, End::Blackout);
            if !self.refuses(at) {
                let held = dead.last.iter().map(|(held, _)| held.iter().collect());
                dead.firm = held.collect();
            }
            let storage = &self.disks[&at].storage;
            let left = storage.after_crash(storage.steps(), |_| Fate::Lost);
            self.start(at, left, &dead);
        }
        "disk: node stopped in order"
    }

    /// A life ends when its disk had taken so many steps, and the next begins with what is left.
    pub(super) fn crash(&mut self, at: u8, steps: usize, end: End) {
        let dead = self.dead(at, end);
        if self.disks[&at].life.is_saving() {
            self.tally.count("disk: crash in a snapshot");
        }
        let left = self.left(at, steps, end);
        self.start(at, left, &dead);
    }

    pub(super) fn left(&mut self, at: u8, steps: usize, end: End) -> FaultyDisk {
        let storage = self.disks[&at].storage.clone();
        after(&storage, steps, end, &mut self.random)
    }

    /// What is known of a life when it ends.
    pub(super) fn dead(&mut self, at: u8, end: End) -> Dead {
        self.bury(at);
        let now_ns = self.net.now().0;
        let disk = &self.disks[&at];
        let (origin, fsync) = (disk.life.origin, disk.build.fsync);
        // What a sync was about that has failed is as lost as if it had never been tried.
        let until_ns = disk.sync_fails_ns.unwrap_or(now_ns).min(now_ns);
        let is_firm = |ack: &&Ack| match (end, fsync) {
            (End::Killed, _) | (_, Fsync::Always) => true,
            (_, Fsync::EverySecond) => ack.at_ns + SYNCED_AFTER_NS <= until_ns,
            (_, Fsync::No) => false,
        };
        let mut above = disk.above.clone();
        let mut firm = vec![BTreeMap::new(); NUMBERS.into()];
        for ack in &disk.acks {
            let above = &mut above[usize::from(ack.number)];
            *above = ack.time.max(*above);
        }
        for ack in disk.acks.iter().filter(is_firm) {
            firm[usize::from(ack.number)].insert(origin, ack.time);
        }
        let mut last = Vec::new();
        for (number, firm) in (0..NUMBERS).zip(&mut firm) {
            let names = &self.names[usize::from(number)];
            let (replica, _) = self.net.shard(at, number);
            for (&origin, &time) in &replica.told {
                let known: &mut Time = firm.entry(origin).or_default();
                *known = time.max(*known);
            }
            // Parts of a state that was being taken in may be lost with nothing that it held.
            let is_exact = !replica.shard().is_ahead();
            let shown = is_exact.then(|| seen(replica, names, 0));
            // What waits to be written is in no log that can be looked at.
            let held = if replica.observe() {
                replica.held().clone()
            } else {
                let mut shard = replica.shard();
                let applied = shard.delivery().applied_ops();
                applied.iter().chain(shard.holds().iter()).collect()
            };
            last.push((held, shown));
        }
        Dead {
            is_killed: end == End::Killed && fsync != Fsync::Always,
            firm,
            last,
            above,
        }
    }

    pub(super) fn begin(
        &mut self,
        at: u8,
        storage: &FaultyDisk,
        build: &Build,
        least: Epoch,
    ) -> Life {
        let start = self.start_of(at, least);
        let life = Life::begin(storage, build, start);
        let life = life.unwrap_or_else(|error| panic!("region {at} does not start: {error}"));
        assert!(life.damaged.is_empty(), "damage: {:?}", life.damaged);
        life
    }

    pub(super) fn start_of(&mut self, at: u8, least: Epoch) -> Start {
        let known = self.net.roster(at).iter().map(|(id, _, _)| id);
        Start {
            least,
            // As a node does: those that are forgotten are excluded when it follows the record.
            members: known.chain([region(at)]).collect(),
            chance: self.random.u64(..),
            now: self.moment(at),
        }
    }

    pub(super) fn begin_again(&mut self, at: u8, storage: &FaultyDisk) -> Life {
        let build = Rc::clone(&self.disks[&at].build);
        self.begin(at, storage, &build, Epoch(0))
    }

    /// A life begins with what is left, though it may take several.
    pub(super) fn start(&mut self, at: u8, mut storage: FaultyDisk, dead: &Dead) {
        loop {
            let before = storage.steps();
            let life = self.begin_again(at, &storage);
            if self.crash_odds < u32::MAX && self.random.u32(0..10) == 0 {
                self.tally.count("disk: crash in a start");
                let steps = self.random.usize(before..=storage.steps());
                // Where the power fails before the start has synced what the last life had written,
                // that may be lost.
                let ends = [End::Killed, End::Power, End::Blackout];
                let end = ends[self.random.usize(0..if dead.is_killed { 1 } else { 3 })];
                storage = after(&storage, steps, end, &mut self.random);
                continue;
            }
            check_firm(at, &life, dead);
            self.install(at, storage, life, dead);
            return;
        }
    }

    /// Puts a life that has begun in the place of the last.
    pub(super) fn install(&mut self, at: u8, storage: FaultyDisk, life: Life, dead: &Dead) {
        assert!(
            self.net.epoch(at) < life.origin.epoch,
            "region {at} has had an epoch of {:?}",
            life.origin
        );
        let replica = |number| {
            let (shards, disk) = (Arc::clone(&life.shards), Arc::clone(&life.durability));
            let mut new = Replica::on_disk(number, shards, disk, Rc::clone(&self.history));
            new.comes_after(self.net.shard(at, number).0);
            new
        };
        let replicas = (0..NUMBERS).map(replica).collect();
        let old = self.net.restart_with(at, life.origin.epoch, Some(replicas));
        for old in old {
            self.tally.join(&old.tally);
        }
        if life.durability.is_filled() && !self.net.joins(at) {
            self.refills.remove(&at);
        } else {
            self.refills.insert(at, Refill::default());
        }
        self.tally
            .add("disk: torn tail cut", life.torn.is_some().into());
        let what = "disk: start from a snapshot";
        self.tally.add(what, life.loaded.is_some().into());
        let disk = self.disks.get_mut(&at).expect("it has one");
        disk.storage = storage;
        disk.life = life;
        disk.acks.clear();
        disk.above.fill(Time::ZERO);
        for (above, dead) in disk.above.iter_mut().zip(&dead.above) {
            *above = *dead;
        }
        disk.sync_fails_ns = None;
        disk.trouble_until_ns = u64::MAX;
        disk.power_until_ns = u64::MAX;
        self.compare(at, dead);
    }

    /// A start that has found all that the last life had shows the same.
    fn compare(&mut self, at: u8, dead: &Dead) {
        for (number, (held, shown)) in (0..NUMBERS).zip(&dead.last) {
            let names = &self.names[usize::from(number)];
            let (replica, now_ms) = self.net.shard(at, number);
            replica.check_model(names, now_ms);
            if replica.held() != held {
                self.tally.count("disk: unsynced ops lost");
            } else if let Some(shown) = shown {
                let found = seen(replica, names, 0);
                assert_eq!(found, *shown, "as the last life showed it");
                self.tally.count("disk: start shows what the last life did");
            }
        }
    }

    /// In the end a start from the disks of some regions gives what their nodes show, by a snapshot
    /// or by the log.
    pub(super) fn check_disks(&mut self, regions: &[u8]) {
        for &at in regions {
            let Some(disk) = self.disks.get(&at) else {
                continue;
            };
            let storage = disk.storage.clone();
            let left = storage.after_kill(storage.steps());
            self.check_start(at, &left);
            let names = meridian::oplog::storage::Storage::list(&left, "log");
            let is_whole = names.is_ok_and(|names| names[0].ends_with("00001.log"));
            if is_whole && remove_snapshots(&left) {
                self.check_start(at, &left);
                self.tally
                    .count("disk: start from the log, in spite of a snapshot");
            }
        }
    }

    fn check_start(&mut self, at: u8, storage: &FaultyDisk) {
        let life = self.begin_again(at, storage);
        for number in 0..NUMBERS {
            let names = &self.names[usize::from(number)];
            let (replica, _) = self.net.shard(at, number);
            let wanted = seen(replica, names, 0);
            let shard = life.shards.lock(number.into());
            let found = (
                shard.state().digest(),
                crate::replica::looks(shard.state(), names, 0),
            );
            assert_eq!(found, wanted, "a start of region {at}");
        }
    }
}

/// Looks whether a life that has begun found what it must.
pub(super) fn check_firm(at: u8, life: &Life, dead: &Dead) {
    for (index, firm) in dead.firm.iter().enumerate() {
        let held = life
            .shards
            .with(index, |shard| shard.delivery().applied_ops());
        for (&origin, &time) in firm {
            assert!(
                time <= held.get(origin),
                "region {at} shard {index} had {origin} up to {time:?}, and now up to {:?}",
                held.get(origin)
            );
        }
    }
}

/// Looks whether a life shows what the last one did, where it says that it holds the same.
pub(super) fn check_shown(life: &Life, dead: &Dead, names: &[Vec<Vec<u8>>]) {
    for (index, ((held, shown), names)) in dead.last.iter().zip(names).enumerate() {
        let mut shard = life.shards.lock(index);
        let is_same = shard.delivery().applied_ops() == *held;
        if let Some(shown) = shown.as_ref().filter(|_| is_same) {
            let state = shard.state();
            let found = (state.digest(), crate::replica::looks(state, names, 0));
            assert_eq!(found, *shown, "as the last life showed it");
        }
    }
}

/// What is left of a disk after so many steps.
fn after(storage: &FaultyDisk, steps: usize, end: End, random: &mut fastrand::Rng) -> FaultyDisk {
    match end {
        End::Killed => storage.after_kill(steps),
        End::Blackout => storage.after_crash(steps, |_| Fate::Lost),
        End::Power => storage.after_crash(steps, |_| match random.u32(0..3) {
            0 => Fate::Happened,
            1 => Fate::Lost,
            _ => Fate::Torn(random.usize(0..200)),
        }),
    }
}
