//! The simulated database: what clients send, what goes wrong, and what must hold meanwhile.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crdt::{Frame, Origin, Region, Seed, Version};
use geo::proto::{Event, Lack, Link, Refill, Why};
use geo::testing::{Net, Setup, region};
use meridian::shard::Round;
use meridian::shards::Shards;

use super::commands;
use super::replica::{Replica, SHARDS, looks};
use super::tally::Tally;

/// Regions, numbered from 1.
const REGIONS: u8 = 3;
/// Shards of each.
const NUMBERS: u16 = 2;
/// Between two rounds of settling and expiring, as in a node.
const TIDY_EVERY_MS: u64 = 100;
/// So much virtual time may pass until all is level once nothing goes wrong any more.
const PATIENCE_MS: u64 = 60_000;

/// What was on the disk, had there been one, of a shard that crashed.
struct Grave {
    number: u16,
    origin: Origin,
    frames: Vec<Frame>,
    /// Which restart it was.
    restart: usize,
}

/// See the module.
pub(super) struct World {
    random: fastrand::Rng,
    net: Net<Replica>,
    /// The keys of each shard.
    names: Vec<Vec<Vec<u8>>>,
    graves: Vec<Grave>,
    /// Of regions that do not serve yet.
    refills: BTreeMap<u8, Refill>,
    /// How long past its deadline a key is removed.
    grace_ms: u64,
    /// Whether links have windows of a few frames.
    is_narrow: bool,
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
        let net = Net::with(setup, move |number, config| {
            Replica::new(number, keys, chances.borrow_mut().u64(..), config)
        });
        let names = (0..NUMBERS)
            .map(|number| {
                let (first, slots) = Shards::slots_of(number, SHARDS);
                let range = first.number()..first.number() + slots;
                commands::key_names(|slot| range.contains(&slot.number()))
            })
            .collect();
        Self {
            net,
            names,
            graves: Vec::new(),
            refills: (1..=REGIONS).map(|at| (at, Refill::default())).collect(),
            is_narrow: setup.bytes_max < 1 << 20,
            grace_ms: [0, 200, 2_000][random.usize(0..3)],
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
        }
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
        let lines = commands::lines(&replica.shard, names, now_ms, &mut self.random);
        self.send(at, number, &lines);
    }

    fn send(&mut self, at: u8, number: u16, lines: &[String]) {
        let (replica, now_ms) = self.net.shard(at, number);
        let replies = commands::run(&mut replica.shard, lines, now_ms);
        self.commands += lines.len();
        self.since_restart = self.since_restart.saturating_add(1);
        self.note(format!("{at} {number} {lines:?}").as_bytes());
        self.note(&replies);
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
        }
        for (_, _, _, event) in std::mem::take(&mut self.net.events) {
            match event {
                Event::Down(Why::Silent) => self.tally.count("link: peer silent"),
                Event::Down(Why::Disconnected) => self.tally.count("link: connection ended"),
                Event::Down(Why::Forgotten) => panic!("nobody is forgotten here"),
                Event::Behind { shard } => panic!("the log of shard {shard} has no bound here"),
                Event::Unreachable { .. } | Event::Up | Event::Late(_) | Event::Refused { .. } => {}
            }
        }
    }

    // --- What goes wrong ---

    fn fault(&mut self) {
        self.faults += 1;
        let (at, other) = (self.any_region(), self.random.u8(1..REGIONS));
        let other = (at - 1 + other) % REGIONS + 1;
        let what = match self.random.u32(0..20) {
            0..2 => {
                self.net.cut(at, other);
                "cut: between two"
            }
            2..4 => {
                self.net.cut_one_way(at, other);
                "cut: one way only"
            }
            4 | 5 => {
                let others = (1..=REGIONS).filter(|&other| other != at);
                others.for_each(|other| self.net.cut(at, other));
                "cut: a region alone"
            }
            6..10 => {
                self.net.heal();
                "cut: healed"
            }
            10..13 => self.restart(at),
            13..15 => {
                let skew_ms = self.random.i64(-700..700);
                self.net.set_skew(at, skew_ms);
                if skew_ms < 0 {
                    "clock: set back"
                } else {
                    "clock: set forward"
                }
            }
            // With a small window nothing might follow that shows the gap: a transport owes it.
            15..18 if !self.is_narrow => {
                self.net.drop_next_frame(at, other);
                return; // Counted when one got lost.
            }
            _ => self.bring_back(at),
        };
        self.tally.count(what);
        self.note(what.as_bytes());
    }

    fn restart(&mut self, at: u8) -> &'static str {
        self.restarts += 1;
        self.born.insert(at, self.restarts);
        self.refills.insert(at, Refill::default());
        for (number, mut old) in (0..).zip(self.net.restart(at)) {
            self.tally.join(&old.tally);
            let origin = old.shard.origin();
            let frames = old.log().into_iter();
            let frames: Vec<Frame> = frames.filter(|frame| frame.origin() == origin).collect();
            self.graves.push(Grave {
                number,
                origin,
                frames,
                restart: self.restarts,
            });
        }
        let since = std::mem::take(&mut self.since_restart);
        if since < 30 {
            "restart: twice within seconds"
        } else {
            "restart: empty, new epoch"
        }
    }

    /// Whether a region serves clients: the rule of a node, but for one that reaches nobody who
    /// serves. After a while that begins alone, and what it writes then can differ for good.
    fn serves(&mut self, at: u8) -> bool {
        let Some(mut refill) = self.refills.remove(&at) else {
            return true;
        };
        let other = at % REGIONS + 1;
        let others = (1..=REGIONS).filter(|&other| other != at);
        let serving: Vec<Region> = others
            .filter(|other| !self.refills.contains_key(other))
            .map(region)
            .collect();
        let (lack, lost) = self.net.with_link(at, other, |_, now, shards| {
            let mut lost = BTreeSet::new();
            shards.reach(&mut |reach| lost.extend(reach.lost(now)));
            if serving.iter().all(|region| lost.contains(region)) {
                lost.clear();
            }
            (refill.look_without(lost.clone(), shards), lost)
        });
        if lack != Lack::Nothing {
            self.refills.insert(at, refill);
            return false;
        }
        self.tally.count(if lost.is_empty() {
            "refill: all regions gave their word"
        } else {
            "refill: done without a lost region"
        });
        true
    }

    /// What a crashed shard had written turns up in a region: from its disk after its origin was
    /// closed there, or before, as what was still under way to this life of the region.
    fn bring_back(&mut self, at: u8) -> &'static str {
        let born = self.born.get(&at).copied().unwrap_or_default();
        let mut graves = self.graves.iter();
        let last = graves.rfind(|grave| grave.origin.region != region(at));
        // The last to crash, or any before.
        let any = self.random.usize(..).checked_rem(self.graves.len());
        let any = any.map(|any| &self.graves[any]);
        let grave = if self.random.bool() { last } else { any };
        if let Some(grave) = grave {
            let (replica, now_ms) = self.net.shard(at, grave.number);
            let (from, below) = (grave.origin.region, grave.origin.epoch);
            let is_closed = below < replica.shard.version().floor(from);
            if is_closed || born < grave.restart && from != region(at) {
                for frame in &grave.frames {
                    geo::testing::Replica::offer(replica, frame.clone(), from, now_ms);
                }
                return if is_closed {
                    "disk: log of an old life returns"
                } else {
                    "traffic: of a life that has ended"
                };
            }
        }
        self.net.heal();
        "cut: healed"
    }

    // --- What nodes do by themselves ---

    fn tidy_all(&mut self) {
        for at in 1..=REGIONS {
            if self.laziness <= self.random.u32(0..10) {
                self.tidy(at);
            }
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
                settle_seen(replica, names, now_ms);
            } else {
                while replica.shard.settle(1_000) {}
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
                let removed = replica.shard.expire(&round) as u64;
                self.tally
                    .add("key: removed when past its deadline", removed);
            }
            let floors = replica.shard.version().floors();
            let closed: u64 = floors.map(|(_, epoch)| epoch.0 - 1).sum();
            let news = closed.saturating_sub(replica.closed);
            replica.closed = replica.closed.max(closed);
            self.tally.add("origin: closed", news);
        }
    }

    // --- What must hold ---

    /// Replicas that hold the same ops show the same.
    fn check_equal_versions(&mut self, number: u16) {
        let names = &self.names[usize::from(number)];
        let mut all = Vec::new();
        for at in 1..=REGIONS {
            let (replica, _) = self.net.shard(at, number);
            all.push((at, replica.held().clone()));
        }
        for (index, (at, held)) in all.iter().enumerate() {
            for (other, _) in all[index + 1..].iter().filter(|other| other.1 == *held) {
                let one = seen(self.net.shard(*at, number).0, names, 0);
                let two = seen(self.net.shard(*other, number).0, names, 0);
                assert_eq!(one, two, "equal versions in regions {at} and {other}");
            }
        }
    }

    /// Everything that any region holds of a shard.
    fn held_anywhere(&mut self, number: u16) -> Version {
        let mut all = Version::new();
        for at in 1..=REGIONS {
            all.join(self.net.shard(at, number).0.held());
        }
        all
    }

    /// Nothing goes wrong any more, and clients stop: all regions end up level, with nothing left
    /// to settle and nothing lost that any of them held.
    pub(super) fn finish(&mut self) {
        let held: Vec<Version> = (0..NUMBERS)
            .map(|number| self.held_anywhere(number))
            .collect();
        self.net.heal();
        for number in 0..NUMBERS {
            // What comes after a lost frame shows that it is missing.
            for at in 1..=REGIONS {
                self.wait_for(|world| world.serves(at));
                let name = String::from_utf8_lossy(&self.names[usize::from(number)][0]);
                let last = format!("SET {name} {at}");
                self.send(at, number, &[last]);
            }
        }
        self.wait_for(Self::is_level);
        for (number, held) in (0..).zip(held) {
            self.check_equal_versions(number);
            self.check_end(number, &held);
        }
        self.count_the_rest();
    }

    fn wait_for(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let mut waited_ms = 0;
        while !holds(self) {
            assert!(waited_ms < PATIENCE_MS, "not level:\n{}", self.describe());
            self.pass(TIDY_EVERY_MS);
            waited_ms += TIDY_EVERY_MS;
        }
    }

    /// Whether all regions hold the same, know so, and have nothing left to do.
    fn is_level(&mut self) -> bool {
        (0..NUMBERS).all(|number| {
            let all = self.held_anywhere(number);
            (1..=REGIONS).all(|at| {
                let (replica, now_ms) = self.net.shard(at, number);
                let live = replica.shard.len(now_ms);
                let is_stable = |replica: &mut Replica| {
                    let stable = replica.shard.delivery().stable();
                    all.iter().all(|(origin, time)| time <= stable.get(origin))
                };
                *replica.held() == all
                    && replica.shard.delivery().open_endings().is_empty()
                    && is_stable(replica)
                    && replica.shard.state().unsettled() == 0
                    && replica.shard.state().len() == live
            })
        })
    }

    fn check_end(&mut self, number: u16, held: &Version) {
        let names = self.names[usize::from(number)].clone();
        for at in 1..=REGIONS {
            let (replica, now_ms) = self.net.shard(at, number);
            let has = replica.held();
            for (origin, time) in held.iter() {
                assert!(
                    time <= has.get(origin),
                    "a region held {origin} up to {time:?}, and region {at} does not"
                );
            }
            let state = replica.shard.state();
            assert_eq!(
                state.is_void(),
                state.is_empty(),
                "nothing is left of what does not exist"
            );
            assert_eq!(replica.shard.delivery().waiting_bytes(), 0, "nothing waits");
            replica.check_model(&names, now_ms);
            let (digest, seen) = seen(replica, &names, 0);
            let anew = replica.replay();
            assert_eq!(looks(&anew, &names, 0), seen, "replay: values");
            assert_eq!(anew.digest(), digest, "replay: digests");
            self.note(&digest.to_le_bytes());
        }
        self.tally.count("state: drained to nothing");
    }

    fn count_the_rest(&mut self) {
        for number in 0..NUMBERS {
            let held = self.held_anywhere(number);
            let graves = self.graves.iter().filter(|grave| grave.number == number);
            let lost = graves.flat_map(|grave| &grave.frames);
            let lost = lost.filter(|frame| held.get(frame.origin()) < frame.last());
            let ops = lost.map(|frame| u64::from(frame.ops())).sum();
            self.tally.add("origin: op lost with its node", ops);
            for at in 1..=REGIONS {
                let tally = self.net.shard(at, number).0.tally.clone();
                self.tally.join(&tally);
            }
        }
        let mishaps = self.net.mishaps();
        self.tally.add("traffic: delayed by loss", mishaps.late);
        let what = "traffic: overtaken on another stream";
        self.tally.add(what, mishaps.overtaking);
        self.tally.add("traffic: frame lost", mishaps.lost);
        self.tally.add("traffic: frame doubled", mishaps.doubled);
    }

    /// What every shard holds, for a person who wants to know why they differ.
    fn describe(&mut self) -> String {
        let mut lines = Vec::new();
        for number in 0..NUMBERS {
            for at in 1..=REGIONS {
                let (replica, now_ms) = self.net.shard(at, number);
                let held = replica.held().clone();
                let unsettled = replica.shard.state().unsettled();
                let delivery = replica.shard.delivery();
                lines.push(format!(
                    "region {at} shard {number} at {now_ms}: {unsettled} unsettled, waiting {}, \
                     endings {:?}\n  holds {held:?}\n  stable {:?}",
                    delivery.waiting_bytes(),
                    delivery.open_endings(),
                    delivery.stable(),
                ));
            }
        }
        lines.join("\n")
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

/// What readers see of a replica, and its digest.
fn seen(replica: &Replica, names: &[Vec<u8>], now_ms: u64) -> (u64, Vec<super::model::look::Look>) {
    (replica.shard.state().digest(), replica.looks(names, now_ms))
}

/// Collects what a replica knows to be stable, which changes nothing that is read.
fn settle_seen(replica: &mut Replica, names: &[Vec<u8>], now_ms: u64) {
    let before = seen(replica, names, now_ms);
    while replica.shard.settle(1_000) {}
    let after = seen(replica, names, now_ms);
    assert_eq!(before, after, "collecting changes nothing that is read");
}
