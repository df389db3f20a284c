//! Nodes with disks: what they do there as time passes, and what goes wrong with it.
//!
//! A crash comes when a node has just begun, or done, something with its disk: nothing of that has
//! got out yet, so it may as well have come at any step of it. The power also fails when what a
//! pass has made safe has been told to others, and the next has not been, or not well.

use std::rc::Rc;

use crdt::{Epoch, Time};
use geo::testing::region;
use meridian::clock::Moment;
use meridian::durability::Fsync;
use meridian::oplog::faulty::{Fate, FaultyDisk, Trouble};
use meridian::oplog::record::Owner;

use super::lives::{Dead, End};
use super::{NUMBERS, REGIONS, World};
use crate::disk::{Ack, Build, Disk, Life, SYNCED_AFTER_NS};

impl World {
    /// Some seeds have all regions on disk, some none, some a few.
    pub(super) fn install_disks(&mut self) {
        let kind = self.random.u32(0..10);
        self.cuts_logs = (2..5).contains(&kind);
        for at in 1..=REGIONS {
            let has_disk = match kind {
                0..2 => false,
                2..7 => true,
                _ => self.random.bool(),
            };
            if has_disk {
                self.give_disk(at, Epoch(0));
            }
        }
    }

    /// A node goes on with a disk that is empty, under an epoch that is not below this.
    pub(super) fn give_disk(&mut self, at: u8, least: Epoch) {
        let owner = Owner {
            database: "simulation".to_owned(),
            region: region(at),
            shards: NUMBERS,
        };
        let fsync = [Fsync::Always, Fsync::EverySecond, Fsync::No];
        let build = Rc::new(Build {
            owner,
            setup: self.setup,
            keys: self.keys,
            fsync: fsync[self.random.usize(0..3)],
            segment_bytes: [600, 6_000, 1 << 20][self.random.usize(0..3)],
            piece_bytes: [100, 32 << 10][self.random.usize(0..2)],
            memory_bytes: [1_000, 1 << 30][self.random.usize(0..2)],
            geo_bytes: self.log_bytes.unwrap_or(u64::MAX),
        });
        let storage = FaultyDisk::default();
        let life = self.begin(at, &storage, &build, least);
        let disk = Disk {
            storage: storage.clone(),
            build,
            life,
            acks: Vec::new(),
            above: vec![Time::ZERO; NUMBERS.into()],
            sync_fails_ns: None,
            trouble_until_ns: u64::MAX,
            power_until_ns: u64::MAX,
            copies: Vec::new(),
        };
        self.disks.insert(at, disk);
        let life = self.begin_again(at, &storage);
        self.install(at, storage, life, &Dead::forgotten());
    }

    pub(super) fn moment(&self, at: u8) -> Moment {
        Moment {
            wall_ms: self.net.now_ms(at),
            monotonic_ns: self.net.now().0,
        }
    }

    // --- What a node does with its disk ---

    /// Lets a node do something with its disk. `None` if it has crashed over it, or has none.
    pub(super) fn act<T>(&mut self, at: u8, act: impl FnOnce(&mut Life, Moment) -> T) -> Option<T> {
        let now = self.moment(at);
        let disk = self.disks.get_mut(&at)?;
        let before = disk.storage.steps();
        let result = act(&mut disk.life, now);
        let after = disk.storage.steps();
        if before < after && self.crash_odds < u32::MAX && self.random.u32(0..self.crash_odds) == 0
        {
            let steps = self.random.usize(before..=after);
            let ends = [End::Killed, End::Power, End::Blackout];
            let end = ends[self.random.usize(0..3)];
            self.faults += 1;
            self.tally.count("disk: crash while it is written");
            self.crash(at, steps, end);
            return None;
        }
        disk.storage.forget();
        Some(result)
    }

    /// Whether a node refuses writes because of its disk.
    pub(super) fn refuses(&self, at: u8) -> bool {
        let disk = self.disks.get(&at);
        disk.is_some_and(|disk| disk.life.durability.refusal().is_some())
    }

    /// A client waits for the reply to a write.
    pub(super) fn wrote(&mut self, at: u8, number: u16, time: Time) {
        let Some(disk) = self.disks.get(&at) else {
            return;
        };
        let (above, fsync) = (disk.above[usize::from(number)], disk.build.fsync);
        assert!(
            above < time || fsync == Fsync::No,
            "region {at} gives {time:?} after {above:?} was acknowledged in an earlier life"
        );
        let acks = self.act(at, |life, now| life.wrote(number, time, now));
        let Some(acks) = acks else { return };
        if acks.is_empty() && !self.refuses(at) {
            self.tally.count(match fsync {
                Fsync::Always => "disk: reply waits for a sync",
                Fsync::EverySecond | Fsync::No => "disk: reply waits for the mark of the clock",
            });
        }
        self.acknowledge(at, acks);
    }

    fn acknowledge(&mut self, at: u8, acks: Vec<Ack>) {
        if let Some(disk) = self.disks.get_mut(&at) {
            disk.acks.extend(acks);
        }
    }

    /// Notes that a node holds what its region had acknowledged. Returns whether it could; `None`
    /// if it has crashed.
    pub(super) fn fill(&mut self, at: u8) -> Option<bool> {
        if !self.disks.contains_key(&at) {
            return Some(true);
        }
        self.act(at, Life::fill)
    }

    /// Lets all nodes do what is due on their disks.
    pub(super) fn tick_disks(&mut self) {
        for at in self.running() {
            if self.disks.contains_key(&at) {
                self.tick(at);
            }
        }
    }

    fn tick(&mut self, at: u8) {
        let now = self.moment(at);
        let disk = self.disks.get_mut(&at).expect("it has one");
        if disk.power_until_ns <= now.monotonic_ns {
            self.lose_power(at);
            return;
        }
        if disk.trouble_until_ns <= now.monotonic_ns {
            disk.trouble_until_ns = u64::MAX;
            disk.storage.trouble(Trouble::default());
        }
        let is_urgent = 0 < disk.life.waiting() || disk.build.fsync == Fsync::Always;
        let (is_saving, is_dead) = (disk.life.is_saving(), disk.sync_fails_ns.is_some());
        let is_passing = disk.life.is_passing();
        if is_dead && self.random.u32(0..60) == 0 {
            // Whoever runs it starts it again.
            self.end_life(at);
            return;
        }
        if self.is_ahead(at) && self.crash_odds < u32::MAX && self.random.u32(0..50) == 0 {
            self.end_life(at);
            return;
        }
        let is_eager = is_urgent && self.random.bool() || self.random.u32(0..30) == 0;
        if let Some(acks) = self.act(at, |life, now| life.tick(is_eager, now)) {
            self.acknowledge(at, acks);
            if is_passing && self.power_odds < u32::MAX && self.random.u32(0..self.power_odds) == 0
            {
                self.doom(at);
            }
        }
        let saves = if is_saving {
            self.random.bool()
        } else {
            self.random.u32(0..150) == 0
        };
        if saves && self.act(at, Life::save) == Some(true) {
            self.tally.count("disk: snapshot finished");
        }
        let cuts = self.cuts_logs || self.log_bytes.is_some();
        let is_time = cuts && self.random.u32(0..30) == 0;
        for number in 0..NUMBERS {
            // What is cut is to be looked at before.
            let (replica, _) = self.net.shard(at, number);
            replica.observe();
        }
        if is_time && let Some(cut) = self.act(at, |life, _| life.cut()) {
            self.tally.add("disk: segment of the log cut", cut as u64);
        }
        if self.random.u32(0..400) == 0 {
            let disk = self.disks.get_mut(&at).expect("it has one");
            let steps = disk.storage.steps();
            let copy = disk.storage.after_crash(steps, |_| Fate::Lost);
            disk.copies.push(copy);
        }
    }

    /// Whether a node is in the midst of taking in state.
    fn is_ahead(&mut self, at: u8) -> bool {
        let mut numbers = 0..NUMBERS;
        numbers.any(|number| self.net.shard(at, number).0.shard().is_ahead())
    }

    /// The power of a node will fail before its next pass has ended, or not long after.
    fn doom(&mut self, at: u8) {
        let soon_ns = self.random.u64(0..SYNCED_AFTER_NS);
        let disk = self.disks.get_mut(&at).expect("it has one");
        disk.power_until_ns = disk.power_until_ns.min(self.net.now().0 + soon_ns);
    }

    fn lose_power(&mut self, at: u8) {
        let (end, what) = if self.random.bool() {
            (End::Power, "disk: power lost")
        } else {
            let what = "disk: power lost, and all that was not synced";
            (End::Blackout, what)
        };
        self.faults += 1;
        self.tally.count(what);
        let steps = self.disks[&at].storage.steps();
        self.crash(at, steps, end);
    }

    /// Something is wrong with a disk for a while. Returns what.
    pub(super) fn harm(&mut self, at: u8) -> &'static str {
        let now_ns = self.net.now().0;
        let ms = self.random.u64(100..4_000);
        let room = self.random.u64(0..300);
        let what = self.random.u32(0..4);
        let fails_ns = now_ns + self.random.u64(0..2 * ms) * 1_000_000;
        let is_doomed = self.random.u32(0..3) == 0;
        let disk = self.disks.get_mut(&at).expect("it has one");
        disk.trouble_until_ns = now_ns + ms * 1_000_000;
        if is_doomed {
            disk.power_until_ns = fails_ns;
        }
        let (trouble, name) = match what {
            0 => {
                disk.sync_fails_ns.get_or_insert(now_ns);
                let sync_fails = true;
                let trouble = Trouble {
                    sync_fails,
                    ..Trouble::default()
                };
                (trouble, "disk: syncs fail")
            }
            1 => {
                let append_fails = true;
                let trouble = Trouble {
                    append_fails,
                    ..Trouble::default()
                };
                (trouble, "disk: writes fail")
            }
            _ => {
                let trouble = Trouble {
                    room: Some(disk.storage.bytes() + room),
                    ..Trouble::default()
                };
                (trouble, "disk: full")
            }
        };
        disk.storage.trouble(trouble);
        name
    }

    /// Disks work again, and nodes that cannot go on are started anew.
    pub(super) fn mend_disks(&mut self) {
        (self.crash_odds, self.power_odds) = (u32::MAX, u32::MAX);
        let all: Vec<u8> = self.disks.keys().copied().collect();
        for at in all {
            let disk = self.disks.get_mut(&at).expect("it has one");
            disk.power_until_ns = u64::MAX;
            disk.storage.trouble(Trouble::default());
            if disk.sync_fails_ns.is_some() {
                let steps = disk.storage.steps();
                self.crash(at, steps, End::Killed);
            }
        }
    }
}
