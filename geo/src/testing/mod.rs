//! Regions linked in virtual time: everything from a seed, nothing from the machine.
//!
//! A [`Net`] has one node a region, each with a few shards that only remember which ops they have
//! applied. Between them are connections as the proto layer knows them: one ordered stream of
//! control messages and ordered lanes of frames, with delay, jitter and loss (which delays
//! further), in no order between them. Connections stall when cut and end when a side gives up;
//! new ones are made as soon as nothing is cut. Every op that is applied is checked: once, without
//! a gap, after its deps.

mod chance;
mod shard;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use crdt::{Epoch, Origin, Region, Stamp};

use crate::proto::{
    Accept, Config, Delivery, DeliveryConfig, Event, Instant, Link, RETRY_AFTER, Reach, Shards,
    Span, Transmit,
};
pub use chance::Chance;
use shard::{SimShard, View};

/// The wall clock when the virtual time is zero, in milliseconds.
const START_MS: u64 = 1_700_000_000_000;
/// How soon a connection is tried again.
const RECONNECT: Span = Span::from_ms(100);
/// The lane that stands for the control stream.
const CONTROL: u16 = u16::MAX;

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
            bytes_max,
        }
    }
}

/// One region.
struct Node {
    epoch: Epoch,
    shards: Vec<SimShard>,
    reach: Reach,
    links: BTreeMap<Region, Link>,
    skew_ms: i64,
}

/// What is on its way in one direction, by lane: when it arrives, and what it is.
#[derive(Debug, Default)]
struct Pipe {
    lanes: BTreeMap<u16, VecDeque<(Instant, Bytes)>>,
}

/// The connection between two regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Open,
    RetryAt(Instant),
}

/// What was sent on all connections in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Control messages and frames.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// See the module.
pub struct Net {
    setup: Setup,
    now: Instant,
    chance: Chance,
    nodes: BTreeMap<Region, Node>,
    connections: BTreeMap<(Region, Region), Connection>,
    pipes: BTreeMap<(Region, Region), Pipe>,
    cuts: BTreeSet<(Region, Region)>,
    traffic: BTreeMap<(Region, Region), Traffic>,
    /// Ways on which the next frame gets lost.
    dropping: BTreeSet<(Region, Region)>,
    /// What links said, by region and peer.
    pub events: Vec<(Instant, Region, Region, Event)>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("setup", &self.setup)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The region with this number.
pub fn region(id: u8) -> Region {
    Region::new(id).expect("regions are numbered from 1")
}

impl Net {
    /// Regions that have just started and know nothing of each other.
    pub fn new(setup: Setup) -> Self {
        let mut net = Self {
            setup,
            now: Instant(0),
            chance: Chance::new(setup.seed),
            nodes: BTreeMap::new(),
            connections: BTreeMap::new(),
            pipes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            traffic: BTreeMap::new(),
            dropping: BTreeSet::new(),
            events: Vec::new(),
        };
        for id in 1..=setup.regions {
            let node = net.node(region(id), Epoch(1), 0);
            net.nodes.insert(region(id), node);
            for other in 1..id {
                let pair = (region(other), region(id));
                net.connections.insert(pair, Connection::RetryAt(net.now));
            }
        }
        net
    }

    fn node(&mut self, own: Region, epoch: Epoch, skew_ms: i64) -> Node {
        let setup = self.setup;
        let members: BTreeSet<Region> = (1..=setup.regions).map(region).collect();
        let delivery = DeliveryConfig {
            own: Origin::new(own, epoch),
            members: members.clone(),
            inbox_bytes_max: 4 * setup.bytes_max,
            max_clock_drift_ms: 500,
        };
        let shard = |number| SimShard::new(number, delivery.clone());
        let shards = (0..setup.shards).map(shard).collect();
        let others: Vec<Region> = members
            .iter()
            .copied()
            .filter(|&other| other != own)
            .collect();
        let config = Config {
            own,
            database: "test".into(),
            level: 1,
            lanes: 2,
            window_bytes: setup.bytes_max,
            relay_window_bytes: setup.bytes_max,
        };
        let seeds: Vec<u64> = others.iter().map(|_| self.chance.below(u64::MAX)).collect();
        let link = |(&peer, seed)| (peer, Link::new(config.clone(), peer, seed));
        let links = others.iter().zip(seeds).map(link).collect();
        let reach = Reach::new(others.iter().copied(), self.now);
        Node {
            epoch,
            shards,
            reach,
            links,
            skew_ms,
        }
    }

    // --- What a test does ---

    /// Writes one op.
    pub fn write(&mut self, at: u8, shard: u16) -> Stamp {
        let now = self.now;
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        let now_ms = node.now_ms(now);
        node.shards[usize::from(shard)].write(now_ms)
    }

    /// Nothing gets through between two regions from now on.
    pub fn cut(&mut self, a: u8, b: u8) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing gets from one region to another from now on.
    pub fn cut_one_way(&mut self, from: u8, to: u8) {
        self.cuts.insert((region(from), region(to)));
    }

    /// Everything gets through again.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// The next frame from one region to another gets lost, which a transport must not do.
    pub fn drop_next_frame(&mut self, from: u8, to: u8) {
        self.dropping.insert((region(from), region(to)));
    }

    /// A region crashes and comes up empty, under the next epoch.
    pub fn restart(&mut self, at: u8) {
        let own = region(at);
        let (epoch, skew_ms) = {
            let node = self.nodes.get(&own).expect("a region of the net");
            (Epoch(node.epoch.0 + 1), node.skew_ms)
        };
        let pairs: Vec<_> = self.connections.keys().copied().collect();
        for pair in pairs.into_iter().filter(|&(a, b)| a == own || b == own) {
            self.disconnect(pair);
        }
        let node = self.node(own, epoch, skew_ms);
        self.nodes.insert(own, node);
    }

    /// A region's wall clock is so many milliseconds off from now on.
    pub fn set_skew(&mut self, at: u8, skew_ms: i64) {
        self.nodes
            .get_mut(&region(at))
            .expect("a region of the net")
            .skew_ms = skew_ms;
    }

    /// A region's logs hold no more frames than this from now on.
    pub fn limit_log(&mut self, at: u8, frames: usize) {
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        for shard in &mut node.shards {
            shard.log_frames_max = frames;
        }
    }

    /// Lets so many milliseconds pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + Span::from_ms(ms);
        self.pump();
        while let Some(next) = self.next_moment().filter(|&next| next <= end) {
            self.now = next.max(self.now);
            self.connect();
            self.deliver();
            self.time_out();
            self.pump();
        }
        self.now = end;
    }

    /// Lets time pass until a condition holds. Returns whether it did, within so many milliseconds.
    pub fn run_until(&mut self, ms: u64, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        for _ in 0..=ms / 10 {
            if holds(self) {
                return true;
            }
            self.run_for(10);
        }
        false
    }

    // --- What a test sees ---

    /// The virtual time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A number from the net's seed, below `bound`.
    pub const fn chance(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// The ops that a shard of a region holds.
    pub fn ops(&self, at: u8, shard: u16) -> &BTreeSet<Stamp> {
        &self.nodes[&region(at)].shards[usize::from(shard)].ops
    }

    /// What a shard of a region knows of deliveries.
    pub fn delivery(&mut self, at: u8, shard: u16) -> &mut Delivery {
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        &mut node.shards[usize::from(shard)].delivery
    }

    /// Runs with a region's link to a peer, its shards, and the time.
    pub fn with_link<R>(
        &mut self,
        at: u8,
        peer: u8,
        run: impl FnOnce(&mut Link, Instant, &mut dyn Shards) -> R,
    ) -> R {
        self.with(region(at), region(peer), run)
    }

    /// What was sent from one region to another.
    pub fn traffic(&self, from: u8, to: u8) -> Traffic {
        self.traffic
            .get(&(region(from), region(to)))
            .copied()
            .unwrap_or_default()
    }

    /// Whether all regions hold the same ops in every shard, and every ended origin is closed.
    pub fn has_converged(&self) -> bool {
        (0..usize::from(self.setup.shards)).all(|shard| {
            let mut shards = self.nodes.values().map(|node| &node.shards[shard]);
            let first = shards.next().expect("there is a region");
            let applied = first.delivery.applied_ops();
            first.delivery.open_endings().is_empty()
                && shards.all(|other| {
                    other.delivery.open_endings().is_empty()
                        && other.ops == first.ops
                        && other.delivery.applied_ops() == applied
                })
        })
    }

    /// Whether every op that anybody holds is stable at every region.
    pub fn is_all_stable(&mut self) -> bool {
        self.nodes
            .values_mut()
            .flat_map(|node| &mut node.shards)
            .all(|shard| {
                let stable = shard.delivery.stable().clone();
                shard.ops.iter().all(|&stamp| stable.covers(stamp))
            })
    }

    /// What every shard holds, for a person who wants to know why they differ.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (region, node) in &self.nodes {
            for (number, shard) in node.shards.iter().enumerate() {
                lines.push(format!(
                    "region {region} shard {number}: {} ops, endings {:?}\n  {:?}\n  waiting {}",
                    shard.ops.len(),
                    shard.delivery.open_endings(),
                    shard.delivery.applied_ops(),
                    shard.delivery.waiting_bytes(),
                ));
            }
        }
        lines.join("\n")
    }

    // --- How it works ---

    fn with<R>(
        &mut self,
        at: Region,
        peer: Region,
        run: impl FnOnce(&mut Link, Instant, &mut dyn Shards) -> R,
    ) -> R {
        let now = self.now;
        let node = self.nodes.get_mut(&at).expect("a region of the net");
        let now_ms = node.now_ms(now);
        let link = node
            .links
            .get_mut(&peer)
            .expect("a link to every other region");
        let mut view = View {
            shards: &mut node.shards,
            reach: &mut node.reach,
            now_ms,
        };
        run(link, now, &mut view)
    }

    fn links(&self) -> Vec<(Region, Region)> {
        self.connections
            .keys()
            .flat_map(|&(a, b)| [(a, b), (b, a)])
            .collect()
    }

    fn is_open(&self, from: Region, to: Region) -> bool {
        let pair = (from.min(to), from.max(to));
        self.connections.get(&pair) == Some(&Connection::Open)
    }

    fn can_connect(&self, (a, b): (Region, Region)) -> bool {
        !self.cuts.contains(&(a, b)) && !self.cuts.contains(&(b, a))
    }

    /// When something happens next; never the present moment, or it would never pass.
    fn next_moment(&self) -> Option<Instant> {
        let arrivals = self
            .pipes
            .iter()
            .filter(|(way, _)| !self.cuts.contains(way))
            .flat_map(|(_, pipe)| {
                pipe.lanes
                    .values()
                    .filter_map(|lane| lane.front().map(|item| item.0))
            });
        let timeouts = self
            .nodes
            .values()
            .flat_map(|node| node.links.values().filter_map(Link::poll_timeout));
        let connects = self
            .connections
            .iter()
            .filter(|(pair, _)| self.can_connect(**pair));
        let connects = connects.filter_map(|(_, connection)| match connection {
            Connection::Open => None,
            Connection::RetryAt(at) => Some(*at),
        });
        let next = arrivals.chain(timeouts).chain(connects).min()?;
        Some(next.max(self.now + Span(1_000)))
    }

    fn connect(&mut self) {
        let pairs: Vec<_> = self
            .connections
            .iter()
            .map(|(&pair, &c)| (pair, c))
            .collect();
        for (pair, connection) in pairs {
            match connection {
                Connection::RetryAt(at) if at <= self.now && self.can_connect(pair) => {
                    self.connections.insert(pair, Connection::Open);
                    for (at, peer) in [pair, (pair.1, pair.0)] {
                        self.pipes.insert((at, peer), Pipe::default());
                        self.with(at, peer, |link, now, _| link.connected(now));
                    }
                }
                Connection::RetryAt(_) | Connection::Open => {}
            }
        }
    }

    fn disconnect(&mut self, pair: (Region, Region)) {
        self.connections
            .insert(pair, Connection::RetryAt(self.now + RECONNECT));
        for (at, peer) in [pair, (pair.1, pair.0)] {
            self.pipes.remove(&(at, peer));
            self.with(at, peer, |link, now, shards| link.disconnected(now, shards));
        }
    }

    /// Hands over everything that has arrived.
    fn deliver(&mut self) {
        for (from, to) in self.links() {
            if self.cuts.contains(&(from, to)) {
                continue;
            }
            let Some(pipe) = self.pipes.get(&(from, to)) else {
                continue;
            };
            for lane in pipe.lanes.keys().copied().collect::<Vec<_>>() {
                self.deliver_lane(from, to, lane);
            }
        }
    }

    fn deliver_lane(&mut self, from: Region, to: Region, number: u16) {
        while let Some(lane) = self
            .pipes
            .get_mut(&(from, to))
            .and_then(|pipe| pipe.lanes.get_mut(&number))
        {
            let Some((_, bytes)) = lane.pop_front_if(|(at, _)| *at <= self.now) else {
                return;
            };
            let result = self.with(to, from, |link, now, shards| {
                if number == CONTROL {
                    link.handle_control(now, &bytes, shards)
                        .map(|()| Accept::Taken)
                } else {
                    link.handle_frame(now, bytes.clone(), shards)
                }
            });
            match result.expect("peers of a net are honest") {
                Accept::Taken => {}
                Accept::Later => {
                    let again = self.now + RETRY_AFTER;
                    if let Some(pipe) = self.pipes.get_mut(&(from, to)) {
                        pipe.lanes
                            .entry(number)
                            .or_default()
                            .push_front((again, bytes));
                    }
                    return;
                }
            }
        }
    }

    fn time_out(&mut self) {
        for (at, peer) in self.links() {
            self.with(at, peer, |link, now, shards| {
                if link.poll_timeout().is_some_and(|due| due <= now) {
                    link.handle_timeout(now, shards);
                }
            });
        }
    }

    /// Lets every link say what it has to say.
    fn pump(&mut self) {
        for (at, peer) in self.links() {
            while let Some(event) = self.with(at, peer, |link, _, _| link.poll_event()) {
                if matches!(event, Event::Down(_)) && self.is_open(at, peer) {
                    self.disconnect((at.min(peer), at.max(peer)));
                }
                self.events.push((self.now, at, peer, event));
            }
            while let Some(transmit) = self.with(at, peer, |link, now, shards| {
                link.poll_transmit(now, shards)
            }) {
                let (lane, bytes) = match transmit {
                    Transmit::Control(bytes) => (CONTROL, bytes.into()),
                    Transmit::Frame { lane, bytes } => (lane, bytes),
                };
                self.send(at, peer, lane, bytes);
            }
        }
    }

    fn send(&mut self, from: Region, to: Region, lane: u16, bytes: Bytes) {
        if lane != CONTROL && self.dropping.remove(&(from, to)) {
            return;
        }
        let setup = self.setup;
        let is_lost = self.chance.below(100) < setup.loss_percent;
        let jitter_ns = self.chance.below(setup.jitter_ms * 1_000_000 + 1);
        let trips = if is_lost { 3 } else { 1 };
        let arrives = self.now + Span(trips * Span::from_ms(setup.delay_ms).0 + jitter_ns);
        let traffic = self.traffic.entry((from, to)).or_default();
        traffic.count += 1;
        traffic.bytes += bytes.len() as u64;
        let pipe = self.pipes.entry((from, to)).or_default();
        let queue = pipe.lanes.entry(lane).or_default();
        let arrives = queue
            .back()
            .map_or(arrives, |(before, _)| arrives.max(*before));
        queue.push_back((arrives, bytes));
    }
}

impl Node {
    fn now_ms(&self, now: Instant) -> u64 {
        (START_MS + now.0 / 1_000_000).saturating_add_signed(self.skew_ms)
    }
}
