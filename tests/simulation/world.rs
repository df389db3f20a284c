//! The simulated database: shards of several regions, and the frames between them.

use std::collections::BTreeMap;

use crdt::{Epoch, Frame, Kind, Origin, Region, Seed, Slot, Version};
use meridian::shard::{Identity, Shard};
use meridian::shards::Shards;

use super::intent;

/// Shards that the simulated database has; only the first few are used. Many, so that each has few
/// slots, and looking at all of them is cheap.
const SHARDS: u16 = 1_024;

/// One region's copy of one shard.
struct Replica {
    shard: Shard,
    /// Frames of other regions that have arrived or may, by region; each with the version of its
    /// sender when it was sealed.
    incoming: BTreeMap<usize, Vec<(Frame, Version)>>,
    /// Up to where each region has said it holds everything, as far as we have heard.
    heard: BTreeMap<usize, Version>,
    now_ms: u64,
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
        let replica = |region: usize, number| {
            let id = Region::new(region as u8 + 1).expect("not 0");
            let (first, slots) = Shards::slots_of(number, SHARDS);
            let origin = Origin::new(id, Epoch(1_000));
            let identity = Identity {
                number,
                first,
                slots,
                origin,
                alone: false,
            };
            let others = || (0..regions).filter(move |&other| other != region);
            Replica {
                shard: Shard::new(identity, keys, 1),
                incoming: others().map(|other| (other, Vec::new())).collect(),
                heard: others().map(|other| (other, Version::new())).collect(),
                now_ms: 1_000,
            }
        };
        let replicas = (0..regions)
            .map(|region| (0..shards).map(|number| replica(region, number)).collect())
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
        match self.random.u32(0..10) {
            0..4 => self.write(region, number),
            4..9 => self.deliver(region, number),
            _ => self.settle(region, number),
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
        let frame = Frame::parse(frame.bytes().clone()).expect("what was sealed is a frame");
        let version = self.replicas[from][number].shard.version().clone();
        for region in (0..self.replicas.len()).filter(|&region| region != from) {
            let incoming = self.replicas[region][number].incoming.get_mut(&from);
            incoming
                .expect("every other region")
                .push((frame.clone(), version.clone()));
        }
    }

    /// A frame arrives, if its turn has come; now and then one that is there already.
    fn deliver(&mut self, region: usize, number: usize) {
        let others: Vec<usize> = (0..self.replicas.len())
            .filter(|&other| other != region)
            .collect();
        let from = others[self.random.usize(0..others.len())];
        let replica = &mut self.replicas[region][number];
        let origin = Origin::new(Region::new(from as u8 + 1).expect("not 0"), Epoch(1_000));
        let incoming = &replica.incoming[&from];
        let version = replica.shard.version().clone();
        let next = incoming
            .iter()
            .position(|(frame, _)| version.get(origin) < frame.last());
        let again = self.random.u32(0..10) == 0;
        let at = match next {
            Some(at) if again && 0 < at => self.random.usize(0..at),
            Some(at) => at,
            None => return,
        };
        let (frame, sent_at) = &incoming[at];
        if !version.includes(frame.deps()) {
            return;
        }
        let skip = version.get(origin);
        replica.now_ms = replica.now_ms.max(frame.last().ms());
        replica.shard.apply(frame, skip, replica.now_ms);
        replica
            .shard
            .apply(frame, replica.shard.version().get(origin), replica.now_ms);
        if next == Some(at) {
            replica
                .heard
                .get_mut(&from)
                .expect("every other region")
                .join(sent_at);
        }
        self.note(&format!("{region} {number} takes {from}"));
    }

    /// Collects what this replica knows to be stable.
    fn settle(&mut self, region: usize, number: usize) {
        let names = &self.names[number];
        let replica = &mut self.replicas[region][number];
        let heard = replica.heard.values();
        let stable = heard.fold(replica.shard.version().clone(), |stable, heard| {
            stable.meet(heard)
        });
        let before = (
            replica.shard.state().digest(),
            dump(&replica.shard, names, replica.now_ms),
        );
        replica.shard.settle(&stable, usize::MAX);
        let after = (
            replica.shard.state().digest(),
            dump(&replica.shard, names, replica.now_ms),
        );
        assert_eq!(
            before, after,
            "collecting what is stable changes nothing that is read"
        );
    }

    /// Replicas that hold the same ops show the same.
    fn check_equal_versions(&self, number: usize) {
        let names = &self.names[number];
        for (at, one) in self.replicas.iter().enumerate() {
            for other in &self.replicas[at + 1..] {
                let (a, b) = (&one[number], &other[number]);
                if a.shard.version() == b.shard.version() {
                    assert_eq!(
                        a.shard.state().digest(),
                        b.shard.state().digest(),
                        "digests differ"
                    );
                    assert_eq!(
                        dump(&a.shard, names, 0),
                        dump(&b.shard, names, 0),
                        "values differ"
                    );
                }
            }
        }
    }

    /// Everything arrives, everybody hears so, and nothing is left to settle.
    pub(super) fn finish(&mut self) {
        for number in 0..self.shards.into() {
            while !self.is_level(number) {
                let region = self.random.usize(0..self.replicas.len());
                self.deliver(region, number);
            }
            self.check_equal_versions(number);
            let version = self.replicas[0][number].shard.version().clone();
            for region in 0..self.replicas.len() {
                let replica = &mut self.replicas[region][number];
                replica
                    .heard
                    .values_mut()
                    .for_each(|heard| heard.join(&version));
                self.settle(region, number);
                self.settle(region, number);
                let left = self.replicas[region][number].shard.state().unsettled();
                assert_eq!(left, 0, "everything unstable drains to nothing");
            }
            self.check_equal_versions(number);
            self.check_replay(number);
        }
    }

    fn is_level(&self, number: usize) -> bool {
        let first = self.replicas[0][number].shard.version();
        self.replicas
            .iter()
            .all(|region| region[number].shard.version() == first)
    }

    /// A replica that starts now and is given everything ends up the same.
    fn check_replay(&mut self, number: usize) {
        let mut frames: Vec<Frame> = Vec::new();
        for region in &self.replicas[..2] {
            for (frame, _) in region[number].incoming.values().flatten() {
                if frames.iter().all(|known| known.bytes() != frame.bytes()) {
                    frames.push(frame.clone());
                }
            }
        }
        frames.sort_by_key(|frame| (frame.first(), frame.origin()));
        let id = Region::new(200).expect("not 0");
        let (first, slots) = Shards::slots_of(number as u16, SHARDS);
        let origin = Origin::new(id, Epoch(1));
        let identity = Identity {
            number: number as u16,
            first,
            slots,
            origin,
            alone: false,
        };
        let mut late = Shard::new(identity, self.seed, 1);
        while let Some(at) = frames.iter().position(|frame| {
            late.version().includes(frame.deps())
                && frame.prev() <= late.version().get(frame.origin())
        }) {
            let frame = frames.remove(at);
            late.apply(&frame, late.version().get(frame.origin()), 0);
        }
        assert!(frames.is_empty(), "every op can be applied");
        let one = &self.replicas[0][number].shard;
        let names = &self.names[number];
        assert_eq!(
            late.state().digest(),
            one.state().digest(),
            "late replica: digests differ"
        );
        assert_eq!(
            dump(&late, names, 0),
            dump(one, names, 0),
            "late replica: values differ"
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
            show(&name),
            format!("{} {parts:?} ends {ends:?}", kind.name()),
        )
    });
    shown.collect()
}
