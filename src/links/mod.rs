//! Links with the other regions: a `geo` link for each peer, over the shards of this node.
//!
//! The driver's calls come in here and reach the link under its lock, which reaches one shard at a
//! time under its lock, never the other way round. A client's write only wakes the links.

mod clocks;
mod joining;
mod reached;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt::{Region, Version};
use geo::net::{Accept, Ended, Handler, Reject, Transmit, Waker};
use geo::proto::{self, Event, Fault, Lack, Link, LinkError, LinkState, Reach, Refill, Why};
use parking_lot::{Mutex, RwLock};

use crate::clock::{self, Moment};
use crate::durability::Durability;
use crate::membership::Membership;
use crate::oplog::backlog::Backlog;
use crate::proxy::{RegionState, Regions, Server, SilentRegion, Waits};
use clocks::Clocks;
pub use joining::Newcomer;
use joining::{Newcomers, Wakers};
use reached::Reached;

/// What the links of a node share.
#[derive(Debug)]
struct Common {
    server: Arc<Server>,
    reach: Mutex<Reach>,
    wakers: Wakers,
    members: Arc<Membership>,
    clocks: Clocks,
    refill: Mutex<Refill>,
    /// Regions whose logs no longer have all that we lack, and of which no state can be had.
    cut_off: Mutex<BTreeSet<Region>>,
    names: RwLock<BTreeMap<Region, String>>,
    watch: silence::Watching,
}

impl Common {
    fn wake(&self) {
        self.wakers.wake();
    }

    /// Serves clients from now on; the next life does so at once, if there is a disk. If that
    /// fails, the disk has said why, and it is tried again.
    fn serve(&self) {
        let disk = self.server.durability.get();
        let fill = |disk: &Arc<Durability>| disk.fill(&self.server.shards, Moment::now());
        if disk.is_none_or(|disk| fill(disk).is_ok()) {
            self.server.loading.end();
            self.members.look();
        }
    }

    /// Why this region takes no part, if it does not.
    fn is_out(&self) -> Option<Waits> {
        let is_back = self.members.is_stale();
        if !is_back && self.members.is_excluded() {
            return Some(Waits::Excluded);
        }
        let is_out = is_back || self.members.is_forgotten();
        is_out.then_some(Waits::Forgotten { is_back })
    }

    /// Looks whether a node that does not serve yet may do so now.
    fn look_at_refill(&self) {
        let loading = &self.server.loading;
        if !loading.is_loading() {
            return;
        }
        let now = proto::Instant(clock::monotonic_ns());
        let mut shards = Reached(self, &Mutex::default());
        // Whoever runs it may not have said so.
        if let Some(waits) = self.is_out() {
            loading.set_waits(waits);
            return;
        }
        let joins = self.members.joins();
        let lack = if joins {
            loading.join();
            let unconfirmed = self.members.unconfirmed_by();
            if !unconfirmed.is_empty() {
                loading.set_waits(Waits::Confirmation(unconfirmed));
                return;
            }
            // All know of us by now, so none can do without: it may have collected what we lack.
            let nobody = BTreeSet::new();
            self.refill.lock().look_without(nobody, &mut shards)
        } else {
            self.refill.lock().look(now, &mut shards)
        };
        let name = |region| self.names.read().get(&region).cloned().unwrap_or_default();
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

/// Our side of the link with one peer.
#[derive(Debug)]
pub struct PeerLink {
    region: Region,
    name: String,
    waker: Waker,
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
            let is_refused = link.is_refused() || self.common.is_out().is_some();
            self.tell(&event, is_refused, link.catches_up());
        }
        result
    }

    /// Refuses writes, or takes them again, by what is heard of clocks.
    fn check_clock(&self) {
        let (peer, ahead_ms) = self.with(|link, _| {
            let ahead_ms = link.clock_ahead_ms().filter(|_| !link.is_refused());
            (link.peer(), ahead_ms)
        });
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

    /// Tells what has happened. That a link with a region that is refused comes and goes, as it
    /// does every other second for as long as it is, is not worth a line.
    fn tell(&self, event: &Event, is_refused: bool, catches_up: bool) {
        let region = self.name.as_str();
        match event {
            Event::Up | Event::Down(_) if is_refused => {
                tracing::debug!(region, ?event, "link with a region that is refused");
            }
            Event::Up => tracing::info!(region, "link is up"),
            Event::Down(why) => tracing::warn!(region, ?why, "link is down"),
            Event::Behind { shard } => tracing::warn!(
                region,
                shard,
                "the log no longer reaches back to what this region lacks: it is to catch up by state"
            ),
            Event::Unreachable { shards } => {
                tracing::warn!(
                    region,
                    ?shards,
                    "the log of this region no longer reaches back to what we lack"
                );
                if !catches_up {
                    self.common.cut_off.lock().insert(self.region);
                }
            }
            Event::CaughtUp {
                shard,
                bytes,
                elapsed_ms,
            } => {
                tracing::info!(region, shard, bytes, elapsed_ms, "caught up by state");
                self.common.cut_off.lock().remove(&self.region);
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
        // Why one is refused, and by whom, is told where that is noticed.
        let is_refused = self.side.lock().is_refused() || self.common.is_out().is_some();
        if is_refused {
            tracing::debug!(region = self.name, %why, "connection ended");
        } else {
            tracing::info!(region = self.name, %why, "connection ended");
        }
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
            if was_down || !link.is_down() {
                return Ok(());
            }
            let name = &self.name;
            let (reason, needs_operator) = match link.went_down() {
                Some(Why::Forgotten) if link.may_return() => (
                    format!(
                        "region {name} was silent for too long and is excluded here: start its node \
                         again, and it comes back"
                    ),
                    true,
                ),
                Some(Why::Forgotten) => (
                    format!(
                        "region {name} was forgotten here; `meridian admin region rejoin {name}` \
                         lets it back in"
                    ),
                    true,
                ),
                Some(Why::Disconnected) => (format!("region {name} takes part again"), false),
                Some(Why::Silent) | None => {
                    ("the peer has been silent for three seconds".to_owned(), false)
                }
            };
            Err(Reject {
                reason,
                needs_operator,
            })
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

    fn takes_compressed(&self) -> bool {
        self.side.lock().takes_compressed()
    }
}

/// All links of a node.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "links are what it has")]
pub struct Links {
    own: (Region, String),
    config: proto::Config,
    common: Arc<Common>,
    links: RwLock<BTreeMap<Region, Arc<PeerLink>>>,
    newcomers: Newcomers,
}

impl Links {
    /// Links, without connections, to these regions.
    pub fn new(
        server: Arc<Server>,
        config: &proto::Config,
        own_name: &str,
        peers: &[(Region, String)],
        drift_max: Duration,
        members: Arc<Membership>,
    ) -> Self {
        let now = proto::Instant(clock::monotonic_ns());
        let reach = Mutex::new(Reach::new(peers.iter().map(|peer| peer.0), now));
        let common = Arc::new(Common {
            server,
            reach,
            wakers: Wakers::default(),
            members,
            clocks: Clocks {
                drift_max_ms: drift_max.as_millis() as i64,
                ahead_ms: Mutex::default(),
                is_accepted: AtomicBool::new(false),
            },
            refill: Mutex::default(),
            cut_off: Mutex::default(),
            names: RwLock::default(),
            watch: silence::Watching::default(),
        });
        let links = Self {
            own: (config.own, own_name.to_owned()),
            config: config.clone(),
            common,
            links: RwLock::default(),
            newcomers: Newcomers::default(),
        };
        for (region, name) in peers {
            links.link(*region, name);
        }
        links
    }

    /// Makes our side of the link with a region.
    fn link(&self, region: Region, name: &str) -> Arc<PeerLink> {
        let common = &self.common;
        let side = Link::new(self.config.clone(), region, fastrand::u64(..));
        let link = Arc::new(PeerLink {
            region,
            name: name.to_owned(),
            waker: common.wakers.another(),
            side: Mutex::new(side),
            backlog: Mutex::default(),
            common: Arc::clone(common),
        });
        common.names.write().insert(region, name.to_owned());
        self.links.write().insert(region, Arc::clone(&link));
        link
    }

    /// Each peer's link, and what wakes the task that sends to it.
    pub fn handlers(&self) -> impl Iterator<Item = (Region, Arc<PeerLink>, Waker)> + use<> {
        let with_waker = |link: Arc<PeerLink>| (link.region, Arc::clone(&link), link.waker.clone());
        self.all().into_iter().map(with_waker)
    }

    /// The links, by region. Looked at without a lock on them all: a link waits for its own.
    fn all(&self) -> Vec<Arc<PeerLink>> {
        self.links.read().values().map(Arc::clone).collect()
    }
}

impl Regions for Links {
    fn wake(&self) {
        self.common.wake();
    }

    fn look_at_refill(&self) {
        self.common.look_at_refill();
    }

    fn name_of(&self, region: Region) -> Option<String> {
        self.common.names.read().get(&region).cloned()
    }

    fn accept_loss(&self) -> Result<(), String> {
        // No loss here excuses the others: they would collect without it.
        self.check_let_in()?;
        self.common
            .refill
            .lock()
            .end(&mut Reached(&self.common, &Mutex::default()));
        tracing::warn!(
            "serving clients without what was not got back: an operator has accepted it"
        );
        self.common.serve();
        Ok(())
    }

    fn silence_of(&self, region: Region) -> SilentRegion {
        self.silent_region(region)
    }

    fn down(&self) -> Vec<Region> {
        let now = proto::Instant(clock::monotonic_ns());
        let links = self.all().into_iter();
        let is_down = |link: &Arc<PeerLink>| {
            let side = link.side.lock();
            side.is_refused() || side.is_lost(now)
        };
        let down = links.filter(is_down);
        down.map(|link| link.region).collect()
    }

    fn list(&self, _now_ms: u64) -> Vec<RegionState> {
        let now = proto::Instant(clock::monotonic_ns());
        let own = RegionState {
            name: self.own.1.clone(),
            id: self.own.0.id(),
            is_self: true,
            state: if self.common.server.room.has_stopped() {
                "full"
            } else {
                "self"
            },
            lag_ms: 0,
            pending_ops: 0,
            catching_up: None,
            caught_up: 0,
            state_bytes: (0, 0),
            stage: "",
            silent_ms: 0,
            must_decide: false,
            waits_for: Vec::new(),
        };
        let other = |link: Arc<PeerLink>| {
            link.with(|side, shards| {
                // What is refused is told why now and then, and lacks nothing that counts.
                let is_refused = side.is_refused();
                let stats = (!is_refused).then(|| side.stats(now, shards));
                let stats = stats.unwrap_or_default();
                let state = match side.state(now, shards) {
                    LinkState::Live | LinkState::Lagging if is_refused => "down",
                    LinkState::Live => "live",
                    LinkState::Lagging => "lagging",
                    LinkState::Down => "down",
                };
                let silence = self.silent_region(link.region);
                RegionState {
                    name: link.name.clone(),
                    id: link.region.id(),
                    is_self: false,
                    state,
                    lag_ms: stats.lag_ms,
                    pending_ops: stats.pending_ops,
                    catching_up: stats
                        .catching_up
                        .map(|of| (of.shard, of.slots_done * 100 / of.slots.max(1))),
                    caught_up: stats.caught_up,
                    state_bytes: (stats.state_bytes_sent, stats.state_bytes_received),
                    stage: "",
                    silent_ms: silence.silent_ms,
                    must_decide: silence.must_decide,
                    waits_for: Vec::new(),
                }
            })
        };
        let others = self.all().into_iter().map(other);
        self.by_record(others.chain([own]).collect())
    }

    fn add_region(&self, id: Region, name: &str, address: &str) -> Result<(), String> {
        self.add(id, name, address)
    }

    fn forget_region(&self, name: &str) -> Result<(), String> {
        self.forget(name)
    }

    fn rejoin_region(&self, name: &str) -> Result<(), String> {
        self.rejoin(name)
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
        let links = self.all();
        let Some(region) = links.iter().find(|link| link.name == name) else {
            return false;
        };
        let region = region.region;
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
                let shards = &self.common.server.shards;
                shards.with(*shard, |shard| shard.delivery().has(region, version, kept))
            })
        };
        let links = self.all();
        links.iter().filter(|link| has(link.region)).count()
    }
}
