//! Regions linked in virtual time: everything from a seed, nothing from the machine.
//!
//! A [`Net`] has one node a region, each with a few shards: any [`Replica`], as a rule one that
//! only remembers which ops it has applied. Between them are connections as the proto layer knows
//! them: one ordered stream of control messages and ordered lanes of frames, with delay, jitter
//! and loss (which delays further), in no order between them. Connections stall when cut and end
//! when a side gives up; new ones are made as soon as nothing is cut. [`Remembering`] shards check
//! every op that they apply: once, without a gap, after its deps.

mod chance;
mod dropping;
mod joining;
mod remembering;
mod replica;
mod setup;
mod silence;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use crdt::{Epoch, Origin, Region};

use crate::proto::{
    Accept, Config, DeliveryConfig, Event, Instant, Link, RETRY_AFTER, Reach, Shards, Span,
    Transmit,
};
pub use chance::Chance;
use joining::Record;
pub use remembering::Remembering;
pub use replica::Replica;
use replica::View;
pub use setup::{Mishaps, Setup, Traffic};

/// The wall clock when the virtual time is zero, in milliseconds.
const START_MS: u64 = 1_700_000_000_000;
/// The level of features that nodes know.
pub const LEVEL: u32 = 8;
/// How soon a connection is tried again.
const RECONNECT: Span = Span::from_ms(100);
/// The lane that stands for the control stream.
const CONTROL: u16 = u16::MAX;
/// Lanes of frames.
const LANES: u16 = 2;

/// One region.
struct Node<R> {
    epoch: Epoch,
    shards: Vec<R>,
    reach: Reach,
    record: Record,
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

/// Makes the shard of a number.
type Make<R> = Box<dyn FnMut(u16, DeliveryConfig) -> R>;

/// See the module.
pub struct Net<R = Remembering> {
    setup: Setup,
    now: Instant,
    chance: Chance,
    make: Make<R>,
    nodes: BTreeMap<Region, Node<R>>,
    connections: BTreeMap<(Region, Region), Connection>,
    pipes: BTreeMap<(Region, Region), Pipe>,
    cuts: BTreeSet<(Region, Region)>,
    traffic: BTreeMap<(Region, Region), Traffic>,
    /// Ways on which the next frame gets lost.
    dropping: BTreeSet<(Region, Region)>,
    /// From whom no state comes, and where to.
    dropping_state: BTreeSet<(Region, Region)>,
    mishaps: Mishaps,
    /// The level of features that builds know, where it is not the latest.
    levels: BTreeMap<Region, u32>,
    silence: Option<silence::Silence>,
    /// What links said, by region and peer.
    pub events: Vec<(Instant, Region, Region, Event)>,
}

impl<R> std::fmt::Debug for Net<R> {
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

impl<R: Replica> Net<R> {
    /// Regions that have just started and know nothing of each other, with shards that `make`
    /// makes, now and at every restart.
    pub fn with(setup: Setup, make: impl FnMut(u16, DeliveryConfig) -> R + 'static) -> Self {
        let mut net = Self {
            setup,
            now: Instant(0),
            chance: Chance::new(setup.seed),
            make: Box::new(make),
            nodes: BTreeMap::new(),
            connections: BTreeMap::new(),
            pipes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            traffic: BTreeMap::new(),
            dropping: BTreeSet::new(),
            dropping_state: BTreeSet::new(),
            mishaps: Mishaps::default(),
            levels: BTreeMap::new(),
            silence: None,
            events: Vec::new(),
        };
        for id in 1..=setup.regions {
            let founders = (1..=setup.regions).map(region);
            let record = Record::founding(founders);
            let node = net.node(region(id), Epoch(1), 0, record, None);
            net.nodes.insert(region(id), node);
            for other in 1..id {
                let pair = (region(other), region(id));
                net.connections.insert(pair, Connection::RetryAt(net.now));
            }
        }
        net
    }

    fn node(
        &mut self,
        own: Region,
        epoch: Epoch,
        skew_ms: i64,
        record: Record,
        shards: Option<Vec<R>>,
    ) -> Node<R> {
        let setup = self.setup;
        let mut members: BTreeSet<Region> = record.roster.ids();
        members.insert(own);
        let shards = shards.unwrap_or_else(|| {
            let config = setup.delivery(Origin::new(own, epoch), members.clone());
            let make = &mut self.make;
            let shard = |number| make(number, config.clone());
            (0..setup.shards).map(shard).collect()
        });
        let others: Vec<Region> = members
            .iter()
            .copied()
            .filter(|&other| other != own)
            .collect();
        let links = others.iter().map(|&peer| (peer, self.new_link(own, peer)));
        let links = links.collect();
        let reach = Reach::new(others.iter().copied(), self.now);
        Node {
            epoch,
            shards,
            reach,
            record,
            links,
            skew_ms,
        }
    }

    fn new_link(&mut self, own: Region, peer: Region) -> Link {
        let config = Config {
            own,
            database: "test".into(),
            level: self.levels.get(&own).copied().unwrap_or(LEVEL),
            lanes: LANES,
            window_bytes: self.setup.bytes_max,
            relay_window_bytes: self.setup.bytes_max,
            state_window_bytes: 4 * self.setup.bytes_max,
            state_bytes_per_s: 1 << 30,
        };
        Link::new(config, peer, self.chance.below(u64::MAX))
    }

    // --- What a test does ---

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
        self.dropping.clear();
        self.cuts.clear();
    }

    /// A region crashes and comes up empty, under the next epoch. Returns what it had.
    pub fn restart(&mut self, at: u8) -> Vec<R> {
        let node = self.nodes.get(&region(at)).expect("a region of the net");
        let epoch = Epoch(node.epoch.0 + 1);
        self.restart_with(at, epoch, None)
    }

    /// A region crashes and comes up under this epoch: with these shards, or with empty ones.
    /// Returns what it had.
    pub fn restart_with(&mut self, at: u8, epoch: Epoch, shards: Option<Vec<R>>) -> Vec<R> {
        let own = region(at);
        let (skew_ms, record) = {
            let node = self.nodes.get(&own).expect("a region of the net");
            (node.skew_ms, node.record.kept())
        };
        let node = self.node(own, epoch, skew_ms, record, shards);
        self.put(own, node)
    }

    /// A region comes up with nothing, under this epoch and with this record. Returns what it had.
    fn replace(&mut self, at: u8, epoch: Epoch, record: Record) -> Vec<R> {
        let skew_ms = self.nodes.get(&region(at)).map_or(0, |node| node.skew_ms);
        let node = self.node(region(at), epoch, skew_ms, record, None);
        self.put(region(at), node)
    }

    fn put(&mut self, own: Region, node: Node<R>) -> Vec<R> {
        if let Some(silence) = &mut self.silence {
            silence.restart(own);
        }
        let pairs: Vec<_> = self.connections.keys().copied().collect();
        for pair in pairs.into_iter().filter(|&(a, b)| a == own || b == own) {
            self.disconnect(pair);
        }
        let before = self.nodes.insert(own, node);
        self.relink(own);
        self.follow_record(own);
        before.map(|node| node.shards).unwrap_or_default()
    }

    /// From its next start on a region says that it knows features up to this level alone.
    pub fn set_level(&mut self, at: u8, level: u32) {
        self.levels.insert(region(at), level);
    }

    /// A region's wall clock is so many milliseconds off from now on.
    pub fn set_skew(&mut self, at: u8, skew_ms: i64) {
        self.nodes
            .get_mut(&region(at))
            .expect("a region of the net")
            .skew_ms = skew_ms;
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
            self.follow_records();
            self.look_at_horizons();
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

    /// A shard of a region, and the region's wall clock in milliseconds.
    pub fn shard(&mut self, at: u8, shard: u16) -> (&mut R, u64) {
        let now = self.now;
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        let now_ms = node.now_ms(now);
        (&mut node.shards[usize::from(shard)], now_ms)
    }

    /// What traffic has met with.
    pub const fn mishaps(&self) -> Mishaps {
        self.mishaps
    }

    /// All shards of a number.
    fn shards_of(&self, number: u16) -> impl Iterator<Item = &R> {
        self.nodes
            .values()
            .map(move |node| &node.shards[usize::from(number)])
    }

    /// The epoch of a region.
    pub fn epoch(&self, at: u8) -> Epoch {
        self.nodes
            .get(&region(at))
            .expect("a region of the net")
            .epoch
    }

    /// A region's wall clock in milliseconds.
    pub fn now_ms(&self, at: u8) -> u64 {
        let node = self.nodes.get(&region(at)).expect("a region of the net");
        node.now_ms(self.now)
    }

    /// Runs with a region's shards, and the time.
    pub fn with_shards<T>(&mut self, at: u8, run: impl FnOnce(Instant, &mut dyn Shards) -> T) -> T {
        let now = self.now;
        let node = self.nodes.get_mut(&region(at));
        let node = node.expect("a region of the net");
        let now_ms = node.now_ms(now);
        run(now, &mut node.view(now_ms))
    }

    /// Runs with a region's link to a peer, its shards, and the time.
    pub fn with_link<T>(
        &mut self,
        at: u8,
        peer: u8,
        run: impl FnOnce(&mut Link, Instant, &mut dyn Shards) -> T,
    ) -> T {
        self.on_link(region(at), region(peer), run)
    }

    /// What was sent from one region to another.
    pub fn traffic(&self, from: u8, to: u8) -> Traffic {
        self.traffic
            .get(&(region(from), region(to)))
            .copied()
            .unwrap_or_default()
    }

    // --- How it works ---

    fn on_link<T>(
        &mut self,
        at: Region,
        peer: Region,
        run: impl FnOnce(&mut Link, Instant, &mut dyn Shards) -> T,
    ) -> T {
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
            record: &mut node.record,
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
        let looks = self.silence.iter().map(silence::Silence::next);
        let next = arrivals.chain(timeouts).chain(connects).chain(looks);
        let next = next.min()?;
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
                        self.on_link(at, peer, |link, now, _| link.connected(now));
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
            self.on_link(at, peer, |link, now, shards| link.disconnected(now, shards));
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
            let result = self.on_link(to, from, |link, now, shards| {
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
            self.on_link(at, peer, |link, now, shards| {
                if link.poll_timeout().is_some_and(|due| due <= now) {
                    link.handle_timeout(now, shards);
                }
            });
        }
    }

    /// Lets every link say what it has to say.
    fn pump(&mut self) {
        for (at, peer) in self.links() {
            while let Some(event) = self.on_link(at, peer, |link, _, _| link.poll_event()) {
                if matches!(event, Event::Down(_)) && self.is_open(at, peer) {
                    self.disconnect((at.min(peer), at.max(peer)));
                }
                self.events.push((self.now, at, peer, event));
            }
            while let Some(transmit) = self.on_link(at, peer, |link, now, shards| {
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
        let is_dropped = match lane {
            ..=LANES => self.dropping.remove(&(from, to)),
            CONTROL => false,
            _ => self.dropping_state.contains(&(from, to)),
        };
        if is_dropped {
            self.mishaps.lost += 1;
            return;
        }
        let setup = self.setup;
        let is_double = lane != CONTROL && self.chance.below(100) < setup.double_percent;
        let is_lost = self.chance.below(100) < setup.loss_percent;
        let jitter_ns = self.chance.below(setup.jitter_ms * 1_000_000 + 1);
        let trips = if is_lost { 3 } else { 1 };
        let arrives = self.now + Span(trips * Span::from_ms(setup.delay_ms).0 + jitter_ns);
        let traffic = self.traffic.entry((from, to)).or_default();
        traffic.count += 1;
        traffic.bytes += bytes.len() as u64;
        let pipe = self.pipes.entry((from, to)).or_default();
        let mut others = pipe.lanes.values().filter_map(VecDeque::back);
        self.mishaps.late += u64::from(is_lost);
        self.mishaps.overtaking += u64::from(others.any(|(at, _)| arrives < *at));
        let queue = pipe.lanes.entry(lane).or_default();
        let arrives = queue
            .back()
            .map_or(arrives, |(before, _)| arrives.max(*before));
        if is_double {
            self.mishaps.doubled += 1;
            queue.push_back((arrives, bytes.clone()));
        }
        queue.push_back((arrives, bytes));
    }
}

impl<R> Node<R> {
    const fn view(&mut self, now_ms: u64) -> View<'_, R> {
        View {
            shards: self.shards.as_mut_slice(),
            reach: &mut self.reach,
            record: &mut self.record,
            now_ms,
        }
    }

    fn now_ms(&self, now: Instant) -> u64 {
        (START_MS + now.0 / 1_000_000).saturating_add_signed(self.skew_ms)
    }
}
