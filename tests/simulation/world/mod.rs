//! The simulated database: what clients send, and what nodes do by themselves. What goes wrong is
//! in `faults`, `disks`, `lives` and `losses`, who comes and goes in `members`, and what must hold
//! meanwhile in `laws`.

mod disks;
mod faults;
mod laws;
mod lives;
mod losses;
mod members;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::{Region, Seed};
use geo::proto::{Event, Link, Refill, Why};
use geo::testing::{LEVEL, Net, Setup, region};
use meridian::shard::{Eviction, Round};
use meridian::shards::Shards;

use super::commands;
use super::disk::Disk;
use super::history::History;
use super::replica::{Given, Replica, SHARDS};
use super::room::{Room, add_data};
use super::tally::Tally;
use faults::Grave;
use members::Members;

/// Regions that are there from the start, numbered from 1.
const REGIONS: u8 = 3;
/// Shards of each.
const NUMBERS: u16 = 2;
/// Between two rounds of settling and expiring, as in a node.
const TIDY_EVERY_MS: u64 = 100;
/// So much virtual time may pass until all is level once nothing goes wrong any more.
const PATIENCE_MS: u64 = 60_000;

/// See the module.
pub(super) struct World {
    random: fastrand::Rng,
    net: Net<Replica>,
    setup: Setup,
    /// Where the order of keys in tables comes from.
    keys: Seed,
    members: Members,
    /// The keys of each shard.
    names: Vec<Vec<Vec<u8>>>,
    history: Rc<RefCell<History>>,
    /// By region, where it has one.
    disks: BTreeMap<u8, Disk>,
    /// Whether logs are cut once all regions have what is in them. Nobody loses a disk then: where
    /// logs do not reach back to what a region lacks, nothing heals that yet.
    cuts_logs: bool,
    /// One of how many acts on a disk ends in a crash.
    crash_odds: u32,
    /// After one of how many passes that synced a disk the power soon fails.
    power_odds: u32,
    graves: Vec<Grave>,
    /// Of regions that do not serve yet.
    refills: BTreeMap<u8, Refill>,
    /// How long past its deadline a key is removed.
    grace_ms: u64,
    /// Whether links have windows of a few frames.
    is_narrow: bool,
    /// Bytes of a log that are kept, now and then, where no node has a disk.
    log_bytes: Option<u64>,
    /// By region, where its memory is limited.
    rooms: BTreeMap<u8, Room>,
    /// How many of 10 rounds of settling and expiring a region leaves out.
    laziness: u32,
    since_tidy_ms: u64,
    since_restart: usize,
    restarts: usize,
    /// Which restart a region's life began with.
    born: BTreeMap<u8, usize>,
    pub(super) commands: usize,
    pub(super) faults: usize,
    pub(super) tally: Tally,
    trace: u64,
}

fn setup(seed: u64, random: &mut fastrand::Rng) -> Setup {
    Setup {
        regions: REGIONS,
        shards: NUMBERS,
        seed,
        delay_ms: random.u64(1..60),
        jitter_ms: random.u64(0..40),
        loss_percent: random.u64(0..10),
        double_percent: random.u64(0..8),
        bytes_max: if random.u32(0..3) == 0 { 300 } else { 1 << 20 },
    }
}

impl World {
    /// With `more`, regions come and go, memory is limited and builds are mixed, by chance each.
    pub(super) fn new(seed: u64, more: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let keys = Seed::from_text(b"simulation");
        let chances = Rc::new(RefCell::new(random.fork()));
        let setup = setup(seed, &mut random);
        let history = Rc::new(RefCell::new(History::default()));
        let (shared, given) = (Rc::clone(&history), Given::default());
        let net = Net::with(setup, move |number, config| {
            let chance = chances.borrow_mut().u64(..);
            let known = (Rc::clone(&shared), Given::clone(&given));
            Replica::new(number, keys, chance, config, known)
        });
        let names = (0..NUMBERS)
            .map(|number| {
                let (first, slots) = Shards::slots_of(number, SHARDS);
                let range = first.number()..first.number() + slots;
                commands::key_names(|slot| range.contains(&slot.number()))
            })
            .collect();
        let mut world = Self {
            net,
            setup,
            keys,
            members: Members::default(),
            names,
            history,
            disks: BTreeMap::new(),
            cuts_logs: false,
            crash_odds: [400, 1_500, u32::MAX][random.usize(0..3)],
            power_odds: [20, 200, u32::MAX][random.usize(0..3)],
            graves: Vec::new(),
            refills: (1..=REGIONS).map(|at| (at, Refill::default())).collect(),
            is_narrow: setup.bytes_max < 1 << 20,
            grace_ms: [0, 200, 2_000][random.usize(0..3)],
            log_bytes: None,
            rooms: BTreeMap::new(),
            laziness: random.u32(0..9),
            since_tidy_ms: 0,
            since_restart: usize::MAX,
            restarts: 0,
            born: BTreeMap::new(),
            commands: 0,
            faults: 0,
            tally: Tally::default(),
            trace: 0,
            random,
        };
        world.members.is_fixed = !more || world.random.u32(0..3) == 0;
        let is_mixed = more && world.random.u32(0..4) == 0;
        if is_mixed {
            // What a log has dropped only newer builds get in another way.
            world.choose_builds();
        } else {
            world.log_bytes = [None, Some(0), Some(500)][world.random.usize(0..3)];
        }
        world.install_disks();
        if more && world.random.u32(0..5) == 0 {
            world.choose_rooms();
        }
        world
    }

    /// Regions have builds of their own: all know of the record of regions where that matters.
    fn choose_builds(&mut self) {
        let oldest = if self.members.is_fixed { 2 } else { 4 };
        for at in 1..=REGIONS {
            let level = self.random.u32(oldest..=LEVEL);
            self.net.set_level(at, level);
            self.net.restart(at);
        }
    }

    /// A region may start with a newer build than it has ended with.
    fn upgrade(&mut self, at: u8) {
        let level = self.net.level(at);
        if level < LEVEL && self.random.bool() {
            let newer = self.random.u32(level + 1..=LEVEL);
            self.net.set_level(at, newer);
            self.tally.count("builds: newer after a restart");
        }
    }

    /// The memory of some regions is limited, a little beyond what few keys take up.
    fn choose_rooms(&mut self) {
        let evictions = [Eviction::None, Eviction::AllKeysLru, Eviction::VolatileTtl];
        for at in 1..=REGIONS {
            let room = Room {
                max_bytes: self.random.u64(100..600),
                reserve_bytes: self.random.u64(0..400),
                eviction: evictions[self.random.usize(0..3)],
            };
            if self.random.bool() {
                self.rooms.insert(at, room);
            }
        }
    }

    /// The regions whose nodes run.
    fn running(&self) -> Vec<u8> {
        self.net.regions()
    }

    fn any_region(&mut self) -> u8 {
        let running = self.running();
        running[self.random.usize(0..running.len())]
    }

    /// A few commands, perhaps a fault, and a while.
    pub(super) fn step(&mut self) {
        if self.random.u32(0..45) == 0 {
            self.fault();
        }
        if !self.members.is_fixed {
            self.decide_again();
            if self.random.u32(0..40) == 0 {
                self.change_members();
            }
        }
        for _ in 0..self.random.u32(1..4) {
            let (at, number) = (self.any_region(), self.random.u16(0..NUMBERS));
            if self.serves(at) {
                self.command(at, number);
            } else {
                self.count_refusal(at);
            }
        }
        let ms = match self.random.u32(0..60) {
            0..10 => 0,
            10..58 => self.random.u64(0..40),
            _ => self.random.u64(0..4_000),
        };
        self.pass(ms);
        let number = self.random.u16(0..NUMBERS);
        if self.random.bool() {
            self.check_equal_versions(number);
        }
        if self.random.u32(0..20) == 0 {
            let at = self.any_region();
            let (replica, now_ms) = self.net.shard(at, number);
            replica.check_model(&self.names[usize::from(number)], now_ms);
        }
    }

    fn command(&mut self, at: u8, number: u16) {
        let names = &self.names[usize::from(number)];
        let (replica, now_ms) = self.net.shard(at, number);
        let lines = commands::lines(&replica.shard(), names, now_ms, &mut self.random);
        self.send(at, number, &lines);
    }

    fn send(&mut self, at: u8, number: u16, lines: &[String]) {
        if self.refuses(at) {
            self.tally.count("disk: write refused");
            return;
        }
        let (replica, now_ms) = self.net.shard(at, number);
        if replica.make_room(now_ms) && add_data(lines) {
            self.tally.count("memory: write refused");
            return;
        }
        let (replies, written) = {
            let mut shard = replica.shard();
            let before = shard.written();
            let replies = commands::run(&mut shard, lines, now_ms);
            (replies, Some(shard.written()).filter(|&now| before < now))
        };
        self.commands += lines.len();
        self.since_restart = self.since_restart.saturating_add(1);
        self.note(format!("{at} {number} {lines:?}").as_bytes());
        self.note(&replies);
        if let Some(time) = written {
            self.wrote(at, number, time);
        }
    }

    /// Nodes have so much memory from now on.
    fn limit_memory(&mut self) {
        for at in self.running() {
            for number in 0..NUMBERS {
                let room = self.rooms.get(&at).copied();
                let (replica, now_ms) = self.net.shard(at, number);
                replica.set_room(room, now_ms);
            }
        }
    }

    /// Lets time pass in all regions.
    fn pass(&mut self, ms: u64) {
        self.limit_memory();
        let mut left_ms = ms;
        while 0 < left_ms {
            let part_ms = left_ms.min(TIDY_EVERY_MS - self.since_tidy_ms);
            self.net.run_for(part_ms);
            left_ms -= part_ms;
            self.since_tidy_ms += part_ms;
            if self.since_tidy_ms == TIDY_EVERY_MS {
                self.since_tidy_ms = 0;
                self.tidy_all();
            }
            self.tick_disks();
        }
        for (_, at, _, event) in std::mem::take(&mut self.net.events) {
            match event {
                Event::Down(Why::Silent) => self.tally.count("link: peer silent"),
                Event::Down(Why::Disconnected) => self.tally.count("link: connection ended"),
                Event::Down(Why::Forgotten) => self.tally.count("members: told and sent away"),
                Event::Behind { shard } => {
                    let is_out = self.net.knows_that_it_is_forgotten(at.id());
                    let may_be = is_out || self.log_bytes.is_some();
                    assert!(may_be, "the log of shard {shard} does not reach back");
                    self.tally.count("link: log does not reach back");
                }
                Event::Unreachable { .. }
                | Event::CaughtUp { .. }
                | Event::Up
                | Event::Late(_)
                | Event::Refused { .. } => {}
            }
        }
    }

    // --- What nodes do by themselves ---

    fn tidy_all(&mut self) {
        for at in self.running() {
            if self.laziness <= self.random.u32(0..10) {
                self.tidy(at);
            }
            if let Some(bytes) = self.log_bytes.filter(|_| self.random.u32(0..10) == 0) {
                self.forget(at, bytes);
            }
        }
    }

    /// A region's logs keep no more than so many bytes.
    fn forget(&mut self, at: u8, bytes: u64) {
        for number in 0..NUMBERS {
            let (replica, _) = self.net.shard(at, number);
            replica.observe();
            replica.shard().trim_log(bytes);
        }
    }

    /// Drops and folds what is stable, and removes what is past its deadline.
    fn tidy(&mut self, at: u8) {
        let peers = self.net.peers(at).into_iter();
        let is_down = |peer: &u8| {
            let is_down = |link: &mut Link, now, _: &mut dyn geo::proto::Shards| {
                link.is_refused() || link.is_lost(now)
            };
            self.net.with_link(at, *peer, is_down)
        };
        let down: Vec<Region> = peers.filter(is_down).map(region).collect();
        let is_seen = self.random.u32(0..4) == 0;
        for number in 0..NUMBERS {
            let names = &self.names[usize::from(number)];
            let (replica, now_ms) = self.net.shard(at, number);
            if is_seen {
                laws::settle_seen(replica, names, now_ms);
            } else {
                while replica.shard().settle(1_000) {}
            }
            let may_write = self.serves(at);
            let (replica, now_ms) = self.net.shard(at, number);
            if may_write {
                replica.make_room(now_ms);
                let round = Round {
                    now_ms,
                    grace_ms: self.grace_ms,
                    down: &down,
                    limit: 100,
                };
                let removed = replica.shard().expire(&round) as u64;
                self.tally
                    .add("key: removed when past its deadline", removed);
            }
            let floors: Vec<_> = replica.shard().version().floors().collect();
            let mut news = 0;
            for (region, epoch) in floors {
                news += u64::from(replica.closed.insert(region, epoch) != Some(epoch));
            }
            self.tally.add("origin: closed", news);
        }
    }

    fn note(&mut self, what: &[u8]) {
        let mix = |trace: u64, byte: &u8| (trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.trace = what.iter().fold(self.trace, mix);
    }

    /// A digest of all that happened.
    pub(super) fn trace(&self) -> u64 {
        self.trace ^ self.net.now().0
    }
}
