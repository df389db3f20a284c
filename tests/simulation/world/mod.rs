//! The simulated database: what clients send, and what nodes do by themselves. What goes wrong is
//! in `faults`, `disks`, `lives` and `losses`, and what must hold meanwhile in `laws`.

mod disks;
mod faults;
mod laws;
mod lives;
mod losses;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::{Region, Seed};
use geo::proto::{Event, Link, Refill, Why};
use geo::testing::{Net, Setup, region};
use meridian::shard::Round;
use meridian::shards::Shards;

use super::commands;
use super::disk::Disk;
use super::history::History;
use super::replica::{Given, Replica, SHARDS};
use super::tally::Tally;
use faults::Grave;

/// Regions, numbered from 1.
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
    pub(super) fn new(seed: u64) -> Self {
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
        world.log_bytes = [None, Some(0), Some(500)][world.random.usize(0..3)];
        world.install_disks(keys, setup);
        world
    }

    fn any_region(&mut self) -> u8 {
        self.random.u8(1..=REGIONS)
    }

    /// A few commands, perhaps a fault, and a while.
    pub(super) fn step(&mut self) {
        if self.random.u32(0..45) == 0 {
            self.fault();
        }
        for _ in 0..self.random.u32(1..4) {
            let (at, number) = (self.any_region(), self.random.u16(0..NUMBERS));
            if self.serves(at) {
                self.command(at, number);
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

    /// Lets time pass in all regions.
    fn pass(&mut self, ms: u64) {
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
        for (_, _, _, event) in std::mem::take(&mut self.net.events) {
            match event {
                Event::Down(Why::Silent) => self.tally.count("link: peer silent"),
                Event::Down(Why::Disconnected) => self.tally.count("link: connection ended"),
                Event::Down(Why::Forgotten) => panic!("nobody is forgotten here"),
                Event::Behind { shard } => {
                    let may_be = self.log_bytes.is_some();
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
        for at in 1..=REGIONS {
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
        let others = (1..=REGIONS).filter(|&other| other != at);
        let is_lost = |peer: &u8| {
            let lost = |link: &mut Link, now, _: &mut dyn geo::proto::Shards| link.is_lost(now);
            self.net.with_link(at, *peer, lost)
        };
        let down: Vec<Region> = others.filter(is_lost).map(region).collect();
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
