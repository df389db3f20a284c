//! What the connections of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use parking_lot::RwLock;

use crate::backup::Backups;
use crate::clock;
use crate::durability::{Durability, Fsync};
use crate::resp::ProtocolError;
use crate::session::Client;
use crate::shards::Shards;
use crate::snapshot::Snapshots;
use crate::store::Repairs;

/// Where the keys of one command may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Several shards that look like one server; see `active_active` in [`Settings`].
    Enterprise,
    /// One shard: every command may take any keys.
    NonClustered,
}

/// What is set when a node starts, and by `CONFIG SET`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the node.
    pub node: String,
    /// The password, if clients need one.
    pub password: Option<Vec<u8>>,
    /// How many clients may be connected.
    pub clients_max: usize,
    /// Where the keys of one command may be.
    pub policy: Policy,
    /// Whether the stricter rules of a database of several regions hold.
    pub active_active: bool,
    /// Where data is kept, or `.`, as in Redis, if it is not.
    pub dir: String,
    /// How safe a write is before its reply, where nothing is kept on disk.
    pub fsync: Fsync,
    /// The port of clients.
    pub port: u16,
    /// `CONFIG SET` of what has no effect here but that clients like to set and read back.
    pub free: std::collections::BTreeMap<String, String>,
}

/// What a node knows of regions: `REGION …` and the section of `INFO`.
pub trait Regions: Send + Sync + std::fmt::Debug {
    /// Tells links that something was written.
    fn wake(&self);
    /// Looks whether a node that does not serve yet may do so now: time has passed.
    fn look_at_refill(&self);
    /// The name of another region. Takes no lock of a shard or a link.
    fn name_of(&self, region: crdt::Region) -> Option<String>;
    /// What is known of another region's silence. Takes no lock of a shard or a link.
    fn silence_of(&self, region: crdt::Region) -> SilentRegion;
    /// The regions to which there is no link.
    fn down(&self) -> Vec<crdt::Region>;
    /// `REGION LIST`: one entry a region.
    fn list(&self, now_ms: u64) -> Vec<RegionState>;
    /// How many other regions have applied, or kept, what `wanted` says, by shard.
    fn holding(&self, wanted: &[(usize, crdt::Version)], kept: bool) -> usize;
    /// Has this node serve without what it has not got back from the others, or says why not.
    fn accept_loss(&self) -> Result<(), String>;
    /// Adds a region to the database, or says why not.
    fn add_region(&self, id: crdt::Region, name: &str, address: &str) -> Result<(), String>;
    /// Forgets a region, or says why not.
    fn forget_region(&self, name: &str) -> Result<(), String>;
    /// Lets a forgotten region back in, or says why not.
    fn rejoin_region(&self, name: &str) -> Result<(), String>;
    /// Admits times of the region of this name however far ahead they are; if it is ours, writes
    /// are no longer refused for that. Returns whether there is such a region.
    fn accept_clock(&self, name: &str) -> bool;
}

/// One line of `REGION LIST`.
#[derive(Clone, Debug)]
pub struct RegionState {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// Whether it is this one.
    pub is_self: bool,
    /// `self`, or `full` if this one takes no ops for want of memory; `live`, `lagging` or `down`.
    pub state: &'static str,
    /// How far it is on its way in or out: `member`, `joining`, `excluded`, `forgotten`, or `clash`
    /// where another region claims its id or name.
    pub stage: &'static str,
    /// For how long nothing has been heard of it, nor passed on by others, while this node was up.
    pub silent_ms: u64,
    /// Whether it is time to exclude it, but an operator has to decide.
    pub must_decide: bool,
    /// Regions that have yet to let it in.
    pub waits_for: Vec<String>,
    /// How long its last heartbeat has not said that we have everything.
    pub lag_ms: u64,
    /// Ops that we know of and it lacks.
    pub pending_ops: u64,
    /// The shard that is being caught up by its state, and how many per cent of it are.
    pub catching_up: Option<(u16, u32)>,
    /// Shards that have been caught up by its state.
    pub caught_up: u64,
    /// Bytes of state that were sent to it, and that came from it.
    pub state_bytes: (u64, u64),
}

/// How silent a region is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SilentRegion {
    /// For how long.
    pub silent_ms: u64,
    /// Whether it is time to exclude it, but those that hear each other do not outweigh the rest.
    pub must_decide: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// The values.
    pub shards: Arc<Shards>,
    /// What makes them durable, if anything does.
    pub durability: std::sync::OnceLock<Arc<Durability>>,
    /// What makes snapshots of them, if anything does.
    pub snapshots: std::sync::OnceLock<Arc<Snapshots>>,
    /// What is damaged of what is on disk, if anything is there.
    pub repairs: std::sync::OnceLock<Repairs>,
    /// What makes backups of them, if there is anything on disk.
    pub backups: std::sync::OnceLock<Arc<Backups>>,
    /// What is set.
    pub settings: RwLock<Settings>,
    /// Who is connected.
    pub clients: DashMap<u64, Arc<Client>>,
    /// The other regions, if there are any.
    pub regions: std::sync::OnceLock<Arc<dyn Regions>>,
    /// What is counted of connections with other regions.
    pub geo_figures: std::sync::OnceLock<geo::net::Figures>,
    /// When the node started, milliseconds since 1970.
    pub started_ms: u64,
    /// A random name of this run, 40 hex digits.
    pub run_id: String,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections that were closed because what came was no request.
    pub malformed: AtomicU64,
    /// When that was last logged, seconds since 1970.
    malformed_logged_s: AtomicU64,
    /// Connections refused.
    pub refused: AtomicU64,
    /// Until when clients are paused, milliseconds since 1970.
    pub paused_until_ms: AtomicU64,
    /// Whether only writes are paused.
    pub paused_writes_only: AtomicBool,
    /// How often each command ran.
    pub stats: super::CommandStats,
    /// Which errors clients were told.
    pub errors: super::ErrorStats,
    /// What clients have sent and were sent.
    pub traffic: super::Traffic,
    /// Slow log, latency events and monitors.
    pub slow: super::Slow,
    /// Wakes who waits for other regions: one of them has applied or acknowledged something, or
    /// something of theirs was applied here.
    pub progress: tokio::sync::Notify,
    /// The limit of memory, and what goes with it.
    pub room: super::Room,
    /// For how long other regions may be silent, and how much may wait for them.
    pub silence: super::Silence,
    /// Whether our clock is so far ahead of those of all regions that we hear that writes are
    /// refused.
    pub clock_ahead: AtomicBool,
    /// Whether the node serves yet.
    pub loading: super::Loading,
    /// Clients that are silent for longer are disconnected, seconds; 0 is no limit.
    pub idle_max_s: AtomicU64,
    /// Bytes of one argument.
    pub bulk_bytes_max: AtomicUsize,
    /// Bytes of one request.
    pub request_bytes_max: AtomicUsize,
    /// Clients that were disconnected for a request of more.
    pub request_exceeded: AtomicU64,
    /// What clients may leave unread.
    pub output: super::OutputLimits,
    /// Clients that wait for the end of a pause.
    pub paused_clients: AtomicUsize,
    /// Wakes clients that are paused.
    pub resumed: tokio::sync::Notify,
    /// Ends the node.
    pub stop: tokio::sync::Notify,
    next_client: AtomicU64,
}

impl Server {
    /// A server without clients.
    pub fn new(shards: Shards, settings: Settings) -> Self {
        let run_id = (0..40).map(|_| char::from_digit(fastrand::u32(0..16), 16).unwrap_or('0'));
        let server = Self {
            shards: Arc::new(shards),
            durability: std::sync::OnceLock::new(),
            snapshots: std::sync::OnceLock::new(),
            repairs: std::sync::OnceLock::new(),
            backups: std::sync::OnceLock::new(),
            settings: RwLock::new(settings),
            clients: DashMap::new(),
            regions: std::sync::OnceLock::new(),
            geo_figures: std::sync::OnceLock::new(),
            started_ms: clock::now_ms(),
            run_id: run_id.collect(),
            accepted: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            malformed_logged_s: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            paused_until_ms: AtomicU64::new(0),
            paused_writes_only: AtomicBool::new(false),
            paused_clients: AtomicUsize::new(0),
            stats: super::CommandStats::default(),
            errors: super::ErrorStats::default(),
            traffic: super::Traffic::default(),
            slow: super::Slow::default(),
            progress: tokio::sync::Notify::new(),
            room: super::Room::default(),
            silence: super::Silence::default(),
            clock_ahead: AtomicBool::new(false),
            loading: super::Loading::default(),
            idle_max_s: AtomicU64::new(0),
            bulk_bytes_max: AtomicUsize::new(crate::limits::BULK_BYTES_MAX),
            request_bytes_max: AtomicUsize::new(crate::limits::QUERY_BUFFER_BYTES_MAX),
            request_exceeded: AtomicU64::new(0),
            output: super::OutputLimits::default(),
            resumed: tokio::sync::Notify::new(),
            stop: tokio::sync::Notify::new(),
            next_client: AtomicU64::new(1),
        };
        server.set_room(super::RoomSettings::default());
        server
    }

    /// How safe a write is before its reply, if it is to be kept on disk.
    pub fn fsync(&self) -> Fsync {
        match self.durability.get() {
            Some(durability) => durability.fsync(),
            None => self.settings.read().fsync,
        }
    }

    /// Sets how safe a write is before its reply.
    pub fn set_fsync(&self, fsync: Fsync) {
        if let Some(durability) = self.durability.get() {
            durability.set_fsync(fsync);
        }
        self.settings.write().fsync = fsync;
    }

    /// A new client's id.
    pub fn client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a client whose bytes are no request, and says so once a second at most.
    pub(super) fn note_malformed(&self, client: &Client, error: ProtocolError) {
        if error == ProtocolError::RequestTooBig {
            self.request_exceeded.fetch_add(1, Ordering::Relaxed);
        }
        let count = self.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        let now_s = clock::now_ms() / 1000;
        if self.malformed_logged_s.swap(now_s, Ordering::Relaxed) != now_s {
            tracing::warn!(client = client.id, addr = client.address, %error, count, "no request");
        }
    }

    /// Counts a client that speaks HTTP among those whose bytes are no request, and says so once a
    /// second at most.
    pub(super) fn note_http(&self, client: &Client) {
        static HTTP: crate::telemetry::Seldom = crate::telemetry::Seldom::new();
        self.malformed.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = HTTP.admit(clock::monotonic()) {
            let (client, addr) = (client.id, &client.address);
            tracing::warn!(client, addr, suppressed, "speaks HTTP: it may be an attack");
        }
    }

    /// Counts a client that leaves too much unread, and says so once a second at most.
    pub(super) fn note_unread(&self, client: &Client, bytes: usize) {
        static UNREAD: crate::telemetry::Seldom = crate::telemetry::Seldom::new();
        self.output.exceeded.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = UNREAD.admit(clock::monotonic()) {
            let (client, addr) = (client.id, &client.address);
            tracing::warn!(client, addr, bytes, suppressed, "replies are not read");
        }
    }

    /// Lets clients wait until then, milliseconds since 1970; 0 ends it.
    pub fn pause(&self, until_ms: u64, writes_only: bool) {
        self.paused_writes_only
            .store(writes_only, Ordering::Relaxed);
        self.paused_until_ms.store(until_ms, Ordering::Release);
        self.resumed.notify_waiters();
    }

    /// Whether some commands have to wait now.
    pub fn is_paused(&self) -> bool {
        self.paused_until_ms.load(Ordering::Acquire) != 0
    }

    /// How long a command has to wait now, if it does. Costs a load while nothing is paused.
    pub fn paused_for_ms(&self, writes: bool) -> Option<u64> {
        let until_ms = self.paused_until_ms.load(Ordering::Acquire);
        if until_ms == 0 || (self.paused_writes_only.load(Ordering::Relaxed) && !writes) {
            return None;
        }
        until_ms
            .checked_sub(clock::now_ms())
            .filter(|&left_ms| 0 < left_ms)
    }

    /// Disconnects clients that were silent for too long, as `timeout` says; not those that wait or
    /// watch others.
    pub fn drop_idle(&self, now_ms: u64) {
        let max_ms = self.idle_max_s.load(Ordering::Relaxed) * 1000;
        if max_ms == 0 {
            return;
        }
        for client in &self.clients {
            let idle_ms = now_ms.saturating_sub(client.active_ms.load(Ordering::Relaxed));
            let facts = client.facts.lock();
            if max_ms < idle_ms && !facts.blocked && !facts.monitors {
                drop(facts);
                client.kill();
            }
        }
    }

    /// Something was written: links have something to send.
    pub fn wrote(&self) {
        if let Some(regions) = self.regions.get() {
            regions.wake();
        }
    }
}
