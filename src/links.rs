//! Links with the other regions: a `geo` link for each peer, over the shards of this node.
//!
//! The driver's calls come in here and reach the link under its lock, which reaches one shard at a
//! time under its lock, never the other way round. A client's write only wakes the links.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt::{Frame, Region, Time, Version};
use geo::net::{Accept, Ended, Handler, Reject, Transmit, Waker};
use geo::proto::{
    self, Delivery, Event, Fault, Heartbeat, Lack, Link, LinkError, LinkState, Next, Offer, Reach,
    Refill,
};
use parking_lot::Mutex;

use crate::clock;
use crate::oplog::backlog::{Backlog, Old};
use crate::proxy::{RegionState, Regions, Server, Waits};

/// What the links of a node share.
#[derive(Debug)]
struct Common {
    server: Arc<Server>,
    reach: Mutex<Reach>,
    wakers: Vec<Waker>,
    clocks: Clocks,
    refill: Mutex<Refill>,
    /// Regions whose logs no longer have all that we lack.
    cut_off: Mutex<BTreeSet<Region>>,
    names: BTreeMap<Region, String>,
}

impl Common {
    fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }

    /// Serves clients from now on; the next life does so at once, if there is a disk. If that
    /// fails, the disk has said why, and it is tried again.
    fn serve(&self) {
        let disk = self.server.durability.get();
        if disk.is_none_or(|disk| disk.fill(&self.server.shards).is_ok()) {
            self.server.loading.end();
        }
    }

    /// Looks whether a node that does not serve yet may do so now.
    fn look_at_refill(&self) {
        let loading = &self.server.loading;
        if !loading.is_loading() {
            return;
        }
        let now = proto::Instant(clock::monotonic_ns());
        let lack = self
            .refill
            .lock()
            .look(now, &mut Reached(self, &Mutex::default()));
        let name = |region| self.names.get(&region).cloned().unwrap_or_default();
        match lack {
            Lack::Nothing => self.serve(),
            Lack::Word(region) => loading.set_waits(Waits::Word(name(region))),
            Lack::Ops(region) => {
                let cut_off = self.cut_off.lock().first().copied();
                loading.set_waits(match cut_off {
                    Some(region) => Waits::Decision(name(region)),
                    None => Waits::Ops(name(region)),
                });
            }
        }
    }
}

/// How far our clock is ahead of each other region's.
#[derive(Debug)]
struct Clocks {
    /// By how much it may be ahead of all of them, milliseconds.
    drift_max_ms: i64,
    /// Those that are heard, and by how much.
    ahead_ms: Mutex<BTreeMap<Region, i64>>,
    /// Whether an operator has said that it may be ahead.
    is_accepted: AtomicBool,
}

impl Clocks {
    /// Takes note of one region, or that it is not heard. Returns whether our clock is too far
    /// ahead: of every region that is heard, for where only some are behind it is they.
    fn note(&self, region: Region, ahead_ms: Option<i64>) -> bool {
        let mut all = self.ahead_ms.lock();
        match ahead_ms {
            Some(ms) => all.insert(region, ms),
            None => all.remove(&region),
        };
        let is_ahead = !all.is_empty() && all.values().all(|&ms| self.drift_max_ms < ms);
        is_ahead && !self.is_accepted.load(Ordering::Relaxed)
    }
}

/// The shards, as a link sees them.
struct Reached<'a>(&'a Common, &'a Mutex<Backlog>);

impl proto::Shards for Reached<'_> {
    fn count(&self) -> u16 {
        self.0.server.shards.count() as u16
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    fn reach(&mut self, run: &mut dyn FnMut(&mut Reach)) {
        run(&mut self.0.reach.lock());
    }

    fn delivery(&mut self, shard: u16, run: &mut dyn FnMut(&mut Delivery)) {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| run(shard.delivery()));
    }

    fn heartbeat(&mut self, shard: u16, time: Time) -> Heartbeat {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.heartbeat(time))
    }

    fn offer(&mut self, frame: Frame, from: Region) -> Offer {
        let shard = frame.shard();
        let answer = self.0.server.shards.with(shard.into(), |shard| {
            shard.offer(frame, from, clock::now_ms())
        });
        if let Some(durability) = self.0.server.durability.get() {
            durability.nudge();
        }
        self.0.wake();
        answer
    }

    fn heard(&mut self, shard: u16, heartbeat: Heartbeat, from: Region) {
        let now_ms = clock::now_ms();
        let has_applied = self
            .0
            .server
            .shards
            .with(shard.into(), |shard| shard.heard(heartbeat, from, now_ms));
        if has_applied {
            self.0.wake();
        }
    }

    fn start(&mut self, shard: u16, region: Region, applied: &Version) -> Option<u64> {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_start(region, applied))
    }

    fn next_frame(
        &mut self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        let in_memory = self
            .0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_next(position, &mut *wanted));
        match in_memory {
            Some(next) => next,
            None => self.next_on_disk(shard, position, wanted),
        }
    }

    fn pending(&mut self, shard: u16, peer: Region, applied: &Version) -> u64 {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_pending(peer, applied))
    }
}

impl Reached<'_> {
    /// The next frame of those that have been dropped from memory.
    fn next_on_disk(
        &self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        let Some(durability) = self.0.server.durability.get() else {
            return Next::Behind;
        };
        let mut backlog = self.1.lock();
        match backlog.next(|| durability.journal(), shard, position, wanted) {
            Ok(Old::Frame(frame, next)) => Next::Frame(frame, next),
            Ok(Old::End(next)) => Next::End(next),
            Ok(Old::Further(next)) => {
                // There is more to look at, but something else may run first.
                self.0.wake();
                Next::End(next)
            }
            Ok(Old::Gone) => Next::Behind,
            Err(error) => {
                tracing::error!(shard, %error, "the op log on disk cannot be read");
                Next::Behind
            }
        }
    }
}

/// Our side of the link with one peer.
#[derive(Debug)]
pub struct PeerLink {
    region: Region,
    name: String,
    side: Mutex<Link>,
    backlog: Mutex<Backlog>,
    common: Arc<Common>,
}

impl PeerLink {
    /// Runs on the link, and tells what has happened.
    fn with<R>(&self, run: impl FnOnce(&mut Link, &mut Reached<'_>) -> R) -> R {
        let mut link = self.side.lock();
        let result = run(&mut link, &mut Reached(&self.common, &self.backlog));
        while let Some(event) = link.poll_event() {
            self.tell(&event);
        }
        result
    }

    /// Refuses writes, or takes them again, by what is heard of clocks.
    fn check_clock(&self) {
        let (peer, ahead_ms) = self.with(|link, _| (link.peer(), link.clock_ahead_ms()));
        let is_ahead = self.common.clocks.note(peer, ahead_ms);
        let server = &self.common.server;
        if server.clock_ahead.swap(is_ahead, Ordering::Relaxed) != is_ahead {
            if is_ahead {
                tracing::error!(
                    ahead_ms,
                    "our clock is ahead of every region's: writes are refused until it is right"
                );
            } else {
                tracing::info!("our clock is no longer ahead of every region's");
            }
        }
    }

    fn tell(&self, event: &Event) {
        let region = self.name.as_str();
        match event {
            Event::Up => tracing::info!(region, "link is up"),
            Event::Down(why) => tracing::warn!(region, ?why, "link is down"),
            Event::Behind { shard } => tracing::error!(
                region,
                shard,
                "the log no longer reaches back to what this region lacks: it gets nothing more of this shard"
            ),
            Event::Unreachable { shards } => {
                tracing::error!(
                    region,
                    ?shards,
                    "the log of this region no longer reaches back to what we lack"
                );
                self.common.cut_off.lock().insert(self.region);
            }
            Event::Late(frame) => tracing::warn!(
                region,
                origin = %frame.origin(),
                ops = frame.ops(),
                "ops of an origin that is closed have turned up"
            ),
            Event::Refused { origin, refusal } => {
                tracing::warn!(region, %origin, ?refusal, "a frame was refused");
            }
        }
    }
}

/// A moment as links count them.
fn moment(now: Instant) -> proto::Instant {
    proto::Instant(now.saturating_duration_since(clock::start()).as_nanos() as u64)
}

fn reject(error: &LinkError) -> Reject {
    Reject {
        reason: error.to_string(),
        needs_operator: error.fault() == Fault::Setup,
    }
}

impl Handler for PeerLink {
    fn connected(&self, now: Instant) {
        self.with(|link, _| link.connected(moment(now)));
    }

    fn disconnected(&self, now: Instant, why: &Ended) {
        tracing::info!(region = self.name, %why, "connection ended");
        self.with(|link, shards| link.disconnected(moment(now), shards));
        self.check_clock();
    }

    fn control(&self, now: Instant, message: &[u8]) -> Result<(), Reject> {
        let taken = self.with(|link, shards| link.handle_control(moment(now), message, shards));
        self.check_clock();
        self.common.look_at_refill();
        self.common.server.progress.notify_waiters();
        taken.map_err(|error| reject(&error))
    }

    fn frame(&self, now: Instant, frame: Bytes) -> Result<Accept, Reject> {
        let taken = self.with(|link, shards| link.handle_frame(moment(now), frame, shards));
        self.common.look_at_refill();
        self.common.server.progress.notify_waiters();
        match taken {
            Ok(proto::Accept::Taken) => Ok(Accept::Taken),
            Ok(proto::Accept::Later) => Ok(Accept::Later),
            Err(error) => Err(reject(&error)),
        }
    }

    fn timeout(&self, now: Instant) -> Result<(), Reject> {
        self.with(|link, shards| {
            let was_down = link.is_down();
            link.handle_timeout(moment(now), shards);
            if !was_down && link.is_down() {
                let reason = "the peer has been silent for three seconds".to_owned();
                return Err(Reject {
                    reason,
                    needs_operator: false,
                });
            }
            Ok(())
        })
    }

    fn next_timeout(&self) -> Option<Instant> {
        let at = self.side.lock().poll_timeout()?;
        Some(clock::start() + Duration::from_nanos(at.0))
    }

    fn poll(&self, now: Instant) -> Option<Transmit> {
        let transmit = self.with(|link, shards| link.poll_transmit(moment(now), shards))?;
        Some(match transmit {
            proto::Transmit::Control(message) => Transmit::Control(message),
            proto::Transmit::Frame { lane, bytes } => Transmit::Frame { lane, bytes },
        })
    }
}

/// All links of a node.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "links are what it has")]
pub struct Links {
    own: (Region, String),
    common: Arc<Common>,
    links: BTreeMap<Region, Arc<PeerLink>>,
}

impl Links {
    /// Links, without connections, to these regions.
    pub fn new(
        server: Arc<Server>,
        config: &proto::Config,
        own_name: &str,
        peers: &[(Region, String)],
        drift_max: Duration,
    ) -> Self {
        let wakers = peers.iter().map(|_| Waker::default()).collect();
        let now = proto::Instant(clock::monotonic_ns());
        let reach = Mutex::new(Reach::new(peers.iter().map(|peer| peer.0), now));
        let common = Arc::new(Common {
            server,
            reach,
            wakers,
            clocks: Clocks {
                drift_max_ms: drift_max.as_millis() as i64,
                ahead_ms: Mutex::default(),
                is_accepted: AtomicBool::new(false),
            },
            refill: Mutex::default(),
            cut_off: Mutex::default(),
            names: peers.iter().cloned().collect(),
        });
        let link = |(region, name): &(Region, String)| {
            let side = Mutex::new(Link::new(config.clone(), *region, fastrand::u64(..)));
            let link = PeerLink {
                region: *region,
                name: name.clone(),
                side,
                backlog: Mutex::default(),
                common: Arc::clone(&common),
            };
            (*region, Arc::new(link))
        };
        let links = peers.iter().map(link).collect();
        Self {
            own: (config.own, own_name.to_owned()),
            common,
            links,
        }
    }

    /// Each peer's link, and what wakes the task that sends to it.
    pub fn handlers(&self) -> impl Iterator<Item = (Region, Arc<PeerLink>, Waker)> + '_ {
        let wakers = self.common.wakers.iter();
        self.links
            .iter()
            .zip(wakers)
            .map(|((&region, link), waker)| (region, Arc::clone(link), waker.clone()))
    }
}

impl Regions for Links {
    fn wake(&self) {
        self.common.wake();
    }

    fn look_at_refill(&self) {
        self.common.look_at_refill();
    }

    fn accept_loss(&self) {
        self.common
            .refill
            .lock()
            .end(&mut Reached(&self.common, &Mutex::default()));
        tracing::warn!(
            "serving clients without what was not got back: an operator has accepted it"
        );
        self.common.serve();
    }

    fn down(&self) -> Vec<Region> {
        let now = proto::Instant(clock::monotonic_ns());
        let links = self.links.iter();
        let down = links.filter(|(_, link)| link.side.lock().is_lost(now));
        down.map(|(&region, _)| region).collect()
    }

    fn list(&self, _now_ms: u64) -> Vec<RegionState> {
        let now = proto::Instant(clock::monotonic_ns());
        let own = RegionState {
            name: self.own.1.clone(),
            id: self.own.0.id(),
            is_self: true,
            state: "self",
            lag_ms: 0,
            pending_ops: 0,
        };
        let other = |(region, link): (&Region, &Arc<PeerLink>)| {
            link.with(|side, shards| {
                let stats = side.stats(now, shards);
                let state = match side.state(now, shards) {
                    LinkState::Live => "live",
                    LinkState::Lagging => "lagging",
                    LinkState::Down => "down",
                };
                RegionState {
                    name: link.name.clone(),
                    id: region.id(),
                    is_self: false,
                    state,
                    lag_ms: stats.lag_ms,
                    pending_ops: stats.pending_ops,
                }
            })
        };
        let mut all: Vec<_> = self.links.iter().map(other).chain([own]).collect();
        all.sort_by_key(|region| region.id);
        all
    }

    fn accept_clock(&self, name: &str) -> bool {
        if name == self.own.1 {
            self.common
                .clocks
                .is_accepted
                .store(true, Ordering::Relaxed);
            self.common
                .server
                .clock_ahead
                .store(false, Ordering::Relaxed);
            return true;
        }
        let Some((&region, _)) = self.links.iter().find(|(_, link)| link.name == name) else {
            return false;
        };
        let shards = &self.common.server.shards;
        for index in 0..shards.count() {
            shards.with(index, |shard| shard.delivery().accept_clock(region));
        }
        tracing::warn!(
            region = name,
            "its clock is accepted, however far ahead it is"
        );
        true
    }

    fn holding(&self, wanted: &[(usize, Version)], kept: bool) -> usize {
        let has = |region: Region| {
            wanted.iter().all(|(shard, version)| {
                self.common.server.shards.with(*shard, |shard| {
                    let heard = shard.delivery().latest_of(region);
                    heard.is_some_and(|heard| {
                        let kept = heard.kept.as_ref().filter(|_| kept);
                        let holds = kept.unwrap_or(&heard.applied);
                        version
                            .iter()
                            .all(|(origin, time)| time <= holds.get(origin))
                    })
                })
            })
        };
        self.links.keys().filter(|&&region| has(region)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_clock_is_wrong_where_all_that_are_heard_say_so() {
        let clocks = Clocks {
            drift_max_ms: 500,
            ahead_ms: Mutex::default(),
            is_accepted: AtomicBool::new(false),
        };
        let region = |id| Region::new(id).expect("not 0");
        assert!(!clocks.note(region(2), Some(500)));
        assert!(clocks.note(region(2), Some(501)));
        assert!(!clocks.note(region(3), Some(0)), "region 2 is behind");
        assert!(clocks.note(region(3), Some(600)));
        assert!(clocks.note(region(3), None), "region 2 is heard");
        assert!(!clocks.note(region(2), None), "nobody is");
        clocks.is_accepted.store(true, Ordering::Relaxed);
        assert!(!clocks.note(region(2), Some(501)));
    }
}
