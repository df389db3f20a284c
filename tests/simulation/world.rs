//! The simulated database: shards of several regions, and the frames between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crdt::{Epoch, Frame, Kind, Origin, Region, Seed, Time, Version};
use geo::proto::{Announcement, Heartbeat, Offer};
use meridian::oplog::Budget;
use meridian::shard::{Identity, Peers, Round, Shard};
use meridian::shards::Shards;

use super::intent;

/// Shards that the simulated database has; only the first few are used. Many, so that each has few
/// slots, and looking at all of them is cheap.
const SHARDS: u16 = 1_024;

/// How far ahead of a clock here times from elsewhere may be.
const DRIFT_MS: u64 = 100;

/// When a late replica is given everything.
const LATE_MS: u64 = 1 << 40;

/// How long what has ended is left to the region that set the deadline.
const GRACE_MS: u64 = 200;

/// What is on its way from one region to another: each kind in order, the two in any order.
#[derive(Default)]
struct Road {
    frames: Vec<Frame>,
    /// How many of these have arrived.
    arrived: usize,
    beats: VecDeque<Heartbeat>,
}

/// One region's copy of one shard.
struct Replica {
    shard: Shard,
    /// By region that sends.
    roads: BTreeMap<usize, Road>,
    now_ms: u64,
}

pub(super) fn region(at: usize) -> Region {
    Region::new(at as u8 + 1).expect("not 0")
}

pub(super) fn shard(own: Region, number: u16, regions: usize, seed: Seed) -> Shard {
    let (first, slots) = Shards::slots_of(number, SHARDS);
    let origin = Origin::new(own, Epoch(1_000));
    let identity = Identity {
        number,
        first,
        slots,
        origin,
        alone: false,
    };
    let peers = Peers {
        members: (0..regions).map(region).chain([own]).collect(),
        clock_drift_max_ms: DRIFT_MS,
        budget: Arc::new(Budget::new(1 << 30)),
    };
    Shard::with_peers(identity, seed, 1, peers)
}

/// See the module.
pub(super) struct World {
    random: fastrand::Rng,
    seed: Seed,
    shards: u16,
    /// The keys of each shard.
    names: Vec<Vec<Vec<u8>>>,
    /// By region, then shard.
    replicas: Vec<Vec<Replica>>,
    trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, regions: usize, shards: u16) -> Self {
        let keys = Seed::from_text(b"simulation");
        let replica = |at: usize, number| Replica {
            shard: shard(region(at), number, regions, keys),
            roads: (0..regions)
                .filter(|&from| from != at)
                .map(|from| (from, Road::default()))
                .collect(),
            now_ms: 1_000,
        };
        let replicas = (0..regions)
            .map(|at| (0..shards).map(|number| replica(at, number)).collect())
            .collect();
        let names = (0..shards)
            .map(|number| {
                let (first, slots) = Shards::slots_of(number, SHARDS);
                let range = first.number()..first.number() + slots;
                intent::key_names(|slot| range.contains(&slot.number()))
            })
            .collect();
        Self {
            random: fastrand::Rng::with_seed(seed),
            seed: keys,
            shards,
            replicas,
            names,
            trace: 0,
        }
    }

    /// One thing happens somewhere.
    pub(super) fn step(&mut self) {
        let region = self.random.usize(0..self.replicas.len());
        let number = self.random.usize(0..self.shards.into());
        match self.random.u32(0..13) {
            0..4 => self.write(region, number),
            4..9 => self.deliver(region, number),
            9..11 => self.beat(region, number),
            11 => self.settle(region, number),
            _ => self.expire(region, number),
        }
        self.check_equal_versions(number);
    }

    fn write(&mut self, region: usize, number: usize) {
        let names = &self.names[number];
        let name = names[self.random.usize(0..names.len())].clone();
        // Clocks run apart, and sometimes stand still.
        let replica = &mut self.replicas[region][number];
        replica.now_ms += self.random.u64(0..30);
        let now_ms = replica.now_ms;
        let key = self.seed.key(&name);
        let random = &mut self.random;
        let done = replica
            .shard
            .transact(now_ms, Some(key), |txn| intent::write(txn, &key, random));
        self.note(&format!("{region} {number} {done}"));
        if let Some(frame) = self.replicas[region][number].shard.seal() {
            self.send(region, number, &frame);
        }
    }

    fn send(&mut self, from: usize, number: usize, frame: &Frame) {
        for to in (0..self.replicas.len()).filter(|&to| to != from) {
            let frame = Frame::parse(frame.bytes().clone()).expect("what was sealed is a frame");
            self.road(from, to, number).frames.push(frame);
        }
    }

    fn road(&mut self, from: usize, to: usize, number: usize) -> &mut Road {
        let roads = &mut self.replicas[to][number].roads;
        roads
            .get_mut(&from)
            .expect("there is a road between any two regions")
    }

    /// A region says how far it is.
    fn beat(&mut self, from: usize, number: usize) {
        let replica = &mut self.replicas[from][number];
        let beat = replica.shard.heartbeat(Time::from_ms(replica.now_ms));
        for to in (0..self.replicas.len()).filter(|&to| to != from) {
            self.road(from, to, number).beats.push_back(beat.clone());
        }
    }

    /// Something arrives: the next frame, now and then one that was there already or whose turn
    /// has not come, or a heartbeat.
    fn deliver(&mut self, to: usize, number: usize) {
        let others: Vec<usize> = (0..self.replicas.len())
            .filter(|&from| from != to)
            .collect();
        let from = others[self.random.usize(0..others.len())];
        let (beat, stray) = (self.random.bool(), self.random.u32(0..10) == 0);
        let pick = self.random.usize(..);
        let replica = &mut self.replicas[to][number];
        let road = replica.roads.get_mut(&from).expect("another region");
        if beat && let Some(beat) = road.beats.pop_front() {
            replica.shard.heard(beat, region(from), replica.now_ms);
            return;
        }
        let at = if stray && !road.frames.is_empty() {
            pick % road.frames.len()
        } else {
            road.arrived
        };
        let Some(frame) = road.frames.get(at).cloned() else {
            return;
        };
        replica.now_ms = replica.now_ms.max(frame.last().ms());
        let answer = replica.shard.offer(frame, region(from), replica.now_ms);
        match answer {
            Offer::Ready | Offer::Waiting | Offer::Duplicate => {
                road.arrived = road
                    .arrived
                    .max(if at == road.arrived { at + 1 } else { 0 });
            }
            Offer::Gap => assert!(road.arrived < at, "only a stray frame leaves a gap"),
            Offer::Ahead
            | Offer::Full
            | Offer::OutOfService
            | Offer::Late(_)
            | Offer::Refused(_) => {
                panic!("a frame was answered with {answer:?}");
            }
        }
        self.note(&format!("{to} {number} takes {from}"));
    }

    /// Collects what this replica knows to be stable.
    fn settle(&mut self, region: usize, number: usize) {
        let names = &self.names[number];
        let replica = &mut self.replicas[region][number];
        let seen = |replica: &Replica| {
            (
                replica.shard.state().digest(),
                dump(&replica.shard, names, replica.now_ms),
            )
        };
        let before = seen(replica);
        replica.shard.settle(usize::MAX);
        assert_eq!(
            before,
            seen(replica),
            "collecting what is stable changes nothing that is read"
        );
    }

    /// Removes what has ended and is this region's to remove.
    fn expire(&mut self, region: usize, number: usize) {
        let replica = &mut self.replicas[region][number];
        let round = Round {
            now_ms: replica.now_ms,
            grace_ms: GRACE_MS,
            down: &[],
            limit: 3,
        };
        let removed = replica.shard.expire(&round);
        self.note(&format!("{region} {number} removes {removed}"));
        if let Some(frame) = self.replicas[region][number].shard.seal() {
            self.send(region, number, &frame);
        }
    }

    /// Deadlines pass, and what has ended goes, here and there, until nothing of it is left.
    fn end(&mut self, number: usize) {
        let clocks = self.replicas.iter().map(|region| region[number].now_ms);
        let mut now_ms = clocks.max().unwrap_or_default() + 1_000;
        // What is left of one deadline may be behind another, of another region.
        for _ in 0..10 {
            for region in 0..self.replicas.len() {
                self.replicas[region][number].now_ms = now_ms;
                self.beat(region, number);
            }
            self.drain(number);
            for region in 0..self.replicas.len() {
                // Three at a time, of four keys and their fields.
                (0..8).for_each(|_| self.expire(region, number));
            }
            self.drain(number);
            now_ms += 1_000;
        }
        for region in &self.replicas {
            let setters = region[number].shard.state().ending_regions();
            assert_eq!(setters, [], "what has ended goes, and all ends that can");
        }
    }

    /// Replicas that hold the same ops show the same.
    fn check_equal_versions(&mut self, number: usize) {
        let names = &self.names[number];
        let seen = |at: &mut Vec<Replica>| {
            let shard = &mut at[number].shard;
            let version = shard.delivery().applied_ops();
            (version, shard.state().digest(), dump(shard, names, 0))
        };
        let all: Vec<_> = self.replicas.iter_mut().map(seen).collect();
        for (at, one) in all.iter().enumerate() {
            for other in all[at + 1..].iter().filter(|other| other.0 == one.0) {
                assert_eq!(one.1, other.1, "equal versions, other digests");
                assert_eq!(one.2, other.2, "equal versions, other values");
            }
        }
    }

    /// Everything arrives, everybody hears so, and nothing is left to settle.
    pub(super) fn finish(&mut self) {
        for number in 0..self.shards.into() {
            self.drain(number);
            assert!(self.is_level(number), "everything has arrived everywhere");
            self.check_equal_versions(number);
            self.end(number);
            for region in 0..self.replicas.len() {
                self.replicas[region][number].now_ms += 1;
                self.beat(region, number);
            }
            self.drain(number);
            for region in 0..self.replicas.len() {
                self.settle(region, number);
                self.settle(region, number);
                let left = self.replicas[region][number].shard.state().unsettled();
                assert_eq!(left, 0, "everything unstable drains to nothing");
            }
            self.check_equal_versions(number);
            self.check_replay(number);
        }
    }

    /// Until nothing is on its way.
    fn drain(&mut self, number: usize) {
        while self.replicas.iter().any(|region| {
            let mut roads = region[number].roads.values();
            roads.any(|road| road.arrived < road.frames.len() || !road.beats.is_empty())
        }) {
            let region = self.random.usize(0..self.replicas.len());
            self.deliver(region, number);
        }
    }

    fn is_level(&mut self, number: usize) -> bool {
        let versions = self
            .replicas
            .iter_mut()
            .map(|at| at[number].shard.delivery().applied_ops());
        let versions: Vec<Version> = versions.collect();
        versions.iter().all(|version| *version == versions[0])
    }

    /// A replica that starts now and is given everything, an origin at a time, ends up the same.
    fn check_replay(&mut self, number: usize) {
        let late_region = Region::new(200).expect("not 0");
        let mut late = shard(late_region, number as u16, self.replicas.len(), self.seed);
        for from in 0..self.replicas.len() {
            // A hello says which epochs have ended, as every beat does.
            let now = Time::from_ms(self.replicas[from][number].now_ms);
            let mut hello = self.replicas[from][number].shard.heartbeat(now);
            // They would say so once they had heard of it.
            hello.announced.push(Announcement {
                region: late_region,
                below: late.origin().epoch,
                held: Version::new(),
            });
            late.heard(hello, region(from), LATE_MS);
        }
        for from in 0..self.replicas.len() {
            let to = usize::from(from == 0);
            for frame in self.road(from, to, number).frames.clone() {
                let answer = late.offer(frame, region(from), LATE_MS);
                assert!(
                    matches!(answer, Offer::Ready | Offer::Waiting),
                    "{answer:?}"
                );
            }
        }
        let names = &self.names[number];
        let one = &mut self.replicas[0][number].shard;
        let (all, held) = (one.delivery().applied_ops(), late.delivery().applied_ops());
        assert!(held.includes(&all), "a late replica gets everything");
        assert_eq!(
            dump(&late, names, 0),
            dump(one, names, 0),
            "late replica: values differ"
        );
        assert_eq!(
            late.state().digest(),
            one.state().digest(),
            "late replica: digests differ"
        );
    }

    fn note(&mut self, what: &str) {
        let mix = |trace: u64, byte: u8| (trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.trace = what.bytes().fold(self.trace, mix);
    }

    pub(super) const fn trace(&self) -> u64 {
        self.trace
    }
}

/// Everything that readers see in a shard.
fn dump(shard: &Shard, names: &[Vec<u8>], now_ms: u64) -> BTreeMap<String, String> {
    let names = names.iter().filter(|name| {
        let key = shard.state().seed().key(name);
        shard.state().kind(&key, now_ms).is_some()
    });
    let state = shard.state();
    let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let shown = names.map(|name| {
        let key = state.seed().key(name);
        let kind = state
            .kind(&key, now_ms)
            .expect("a key that was walked exists");
        let mut parts: Vec<String> = Vec::new();
        match kind {
            Kind::String => parts.push(show(&state.string(&key, now_ms).unwrap_or_default())),
            Kind::Hash => {
                let hash = state.hash(&key, now_ms).expect("its kind");
                assert_eq!(
                    hash.len(),
                    hash.iter().count(),
                    "the count of fields is kept up"
                );
                parts.extend(
                    hash.iter().map(|(f, v)| {
                        format!("{}={} ends {:?}", show(f), show(&v), hash.deadline(f))
                    }),
                );
                parts.sort();
            }
            Kind::Set => {
                let set = state.set(&key).expect("its kind");
                assert_eq!(
                    set.len(),
                    set.iter().count(),
                    "the count of members is kept up"
                );
                parts.extend(set.iter().map(show));
                parts.sort();
            }
            Kind::SortedSet => {
                let zset = state.sorted_set(&key).expect("its kind");
                parts.extend(zset.range(0..zset.len()).map(|(m, s)| {
                    assert_eq!(zset.score(m), Some(s), "the order has the scores");
                    format!("{}={s:?}", show(m))
                }));
                let order: Vec<_> = zset.range(0..zset.len()).collect();
                assert!(order.is_sorted_by(|a, b| a.1 < b.1 || (a.1 <= b.1 && a.0 < b.0)));
            }
            Kind::List => {
                let list = state.list(&key).expect("its kind");
                parts.extend(list.range(0..list.len()).map(show));
                let positions: Vec<_> = (0..list.len()).map(|rank| list.position(rank)).collect();
                assert!(
                    positions.is_sorted(),
                    "elements stand in the order of their positions"
                );
            }
        }
        let ends = state.deadline(&key);
        (
            show(name),
            format!("{} {parts:?} ends {ends:?}", kind.name()),
        )
    });
    shown.collect()
}
