//! Room in memory: the limit, what is refused and evicted when it is reached, and what happens
//! beyond it.
//!
//! What counts is what the process has allocated (`heap`) less what the op log keeps in memory for
//! regions that lag: that has a bound of its own (`geo-log-memory`), and to evict for its sake
//! would only make it longer. Before each command of a client, and ten times a second, it is held
//! against `maxmemory`; so clients overshoot it by what one command on each thread adds, and by
//! [`heap::STEP_BYTES`] a thread. Above the limit keys are evicted, a few at a time and with no
//! lock held meanwhile but that of the shard of one key; if none may go, commands that add data are
//! refused. What other regions send is taken up to the reserve beyond the limit; then this region
//! takes no more frames, as one that lags, until there is room.
//!
//! The same happens while the disk refuses writes: what is applied then stays in the log's memory
//! until it can be written, so no more of it is taken than has a bound.
//!
//! What can go wrong: a removed key frees nothing while its counter parts wait to become stable, so
//! that a cut link could have all keys evicted to no avail. When evictions free nothing they stop
//! until the next look, and data is refused meanwhile. A large value takes long to free: that is
//! done elsewhere, and nothing more is evicted until it is done, so clients overshoot by what they
//! add meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crdt::Removed;
use parking_lot::Mutex;

use super::Server;
use crate::oplog::Budget;
use crate::shard::{Eviction, Frequency, Noted};
use crate::{clock, heap, limits};

/// Keys that are remembered as good ones to evict, as in Redis.
const POOL: usize = 16;
/// For how long a command evicts before it runs: as in Redis, whose `maxmemory-eviction-tenacity`
/// is 10.
const EVICT_FOR: Duration = Duration::from_micros(500);
/// Evictions in a row that free nothing, after which they stop until the next look.
const FUTILE_MAX: u32 = 32;
/// Things of which a value is freed elsewhere: less takes well below a millisecond.
const LARGE: usize = 8_192;
/// Bytes that must have become free before it is tried again.
const FUTILE_BYTES: u64 = 64 << 10;

/// What is set of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomSettings {
    /// `maxmemory`: bytes; 0 is no limit.
    pub max_bytes: u64,
    /// `maxmemory-reserve`: how far beyond that other regions' ops are taken, percent of it.
    pub reserve_percent: u32,
    /// `maxmemory-policy`.
    pub eviction: Eviction,
    /// `maxmemory-samples`: keys that are looked at for one that is evicted.
    pub samples: usize,
    /// `lfu-log-factor` and `lfu-decay-time`.
    pub frequency: Frequency,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            max_bytes: 0,
            reserve_percent: limits::MEMORY_RESERVE_PERCENT,
            eviction: Eviction::None,
            samples: limits::EVICTION_SAMPLES,
            frequency: Frequency {
                log_factor: limits::LFU_LOG_FACTOR,
                decay_min: limits::LFU_DECAY_MIN,
            },
        }
    }
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is.
    Fits,
    /// There is not, and more is being evicted.
    Evicting,
    /// There is not, and nothing more can be evicted now: what adds data is refused.
    Full,
}

/// A key that should go.
#[derive(Debug)]
struct Candidate {
    rank: u64,
    shard: usize,
    name: Box<[u8]>,
}

/// What is remembered from one eviction to the next.
#[derive(Debug, Default)]
struct Pool {
    /// The best to evict last.
    best: Vec<Candidate>,
    /// How many in a row have freed nothing.
    futile: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Room {
    max_bytes: AtomicU64,
    reserve_percent: AtomicU32,
    /// Index into [`Eviction::ALL`].
    eviction: AtomicU8,
    samples: AtomicUsize,
    log_factor: AtomicU32,
    decay_min: AtomicU32,
    /// Of the op log.
    log: OnceLock<Arc<Budget>>,
    started_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    evicted: AtomicU64,
    /// Large values that were evicted and are being freed.
    freeing: Arc<AtomicUsize>,
    /// Whether evicting has freed nothing.
    is_futile: AtomicBool,
    /// What counted when that was found.
    futile_bytes: AtomicU64,
    /// Whether frames of other regions are not taken, and how often they were not.
    has_stopped: AtomicBool,
    not_taken: AtomicU64,
    /// Whoever has it evicts; shards are locked after it, never before.
    pool: Mutex<Pool>,
}

impl Room {
    /// Nothing is counted of the op log but what this says.
    pub fn begin(&self, log: Arc<Budget>) {
        let _ = self.log.set(log);
        heap::settle();
        self.started_bytes
            .store(heap::used_bytes(), Ordering::Relaxed);
    }

    /// What is set.
    pub fn settings(&self) -> RoomSettings {
        let load = |value: &AtomicU32| value.load(Ordering::Relaxed);
        RoomSettings {
            max_bytes: self.max_bytes.load(Ordering::Relaxed),
            reserve_percent: load(&self.reserve_percent),
            eviction: Eviction::ALL[usize::from(self.eviction.load(Ordering::Relaxed))].0,
            samples: self.samples.load(Ordering::Relaxed),
            frequency: Frequency {
                log_factor: load(&self.log_factor),
                decay_min: load(&self.decay_min),
            },
        }
    }

    /// Bytes that are allocated, those of the op log included.
    pub fn used_bytes(&self) -> u64 {
        heap::settle();
        let used = heap::used_bytes();
        self.peak_bytes.fetch_max(used, Ordering::Relaxed);
        used
    }

    /// The most that were, as far as anybody looked.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// Those that were when the node had started.
    pub fn started_bytes(&self) -> u64 {
        self.started_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the op log has of memory.
    pub fn log_bytes(&self) -> u64 {
        self.log.get().map_or(0, |log| log.memory())
    }

    /// How many keys have been evicted.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Starts the count of evicted keys over.
    pub fn reset_evicted(&self) {
        self.evicted.store(0, Ordering::Relaxed);
    }

    /// How often a frame of another region was not taken for want of room.
    pub fn not_taken(&self) -> u64 {
        self.not_taken.load(Ordering::Relaxed)
    }

    /// Whether frames of other regions are not taken at present.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    /// Whether a large value is being freed: there will be room.
    fn is_freeing(&self) -> bool {
        0 < self.freeing.load(Ordering::Acquire)
    }

    /// Frees what was removed: on another thread, if there is one to be had.
    fn free_elsewhere(&self, removed: Removed) {
        self.freeing.fetch_add(1, Ordering::AcqRel);
        let freeing = Arc::clone(&self.freeing);
        let free = move || {
            drop(removed);
            heap::settle();
            freeing.fetch_sub(1, Ordering::AcqRel);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(free)),
            Err(_) => free(),
        }
    }

    /// Bytes by which frames take more of the log's memory than they may, as they do where the disk
    /// does not take them.
    fn log_excess_bytes(&self) -> u64 {
        let excess = |log: &Arc<Budget>| log.used().saturating_sub(log.bytes_max());
        self.log.get().map_or(0, excess)
    }

    fn counts(&self) -> u64 {
        heap::used_bytes().saturating_sub(self.log_bytes())
    }

    /// Whether more counts than may. Costs a load where there is no limit.
    #[inline]
    pub fn is_short(&self) -> bool {
        let max = self.max_bytes.load(Ordering::Relaxed);
        max != 0 && max < self.counts()
    }

    /// Lets evictions be tried again where memory has become free since they were found to be
    /// futile: counters free theirs once their removal is stable, so trying all the time would
    /// remove them all to no avail.
    fn look_at_futile(&self) {
        let max = self.max_bytes.load(Ordering::Relaxed);
        let then = self.futile_bytes.load(Ordering::Relaxed);
        if self.is_futile.load(Ordering::Relaxed)
            && self.counts() + FUTILE_BYTES.max(max / 1_000) <= then
        {
            self.pool.lock().futile = 0;
            self.is_futile.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a frame of another region may be taken. Says so in the log when that changes.
    pub fn takes_frames(&self) -> bool {
        let RoomSettings {
            max_bytes,
            reserve_percent,
            ..
        } = self.settings();
        let reserve = u128::from(max_bytes) * u128::from(reserve_percent) / 100;
        let takes = max_bytes == 0 || u128::from(self.counts()) <= u128::from(max_bytes) + reserve;
        if !takes {
            self.not_taken.fetch_add(1, Ordering::Relaxed);
        }
        if self.has_stopped.swap(!takes, Ordering::Relaxed) == takes {
            let used_memory = self.counts();
            if takes {
                tracing::info!(used_memory, "there is room again for ops of other regions");
            } else {
                tracing::warn!(
                    used_memory,
                    maxmemory = max_bytes,
                    reserve_percent,
                    "no more ops of other regions are taken: memory is used up beyond the reserve"
                );
            }
        }
        takes
    }
}

impl Server {
    /// Whether a frame of another region may be taken to a shard; if not, it stays with its sender,
    /// as if this region lagged. A node that does not serve yet has to be filled up, whatever
    /// memory it takes, before anything can be removed from it, and so has a shard that is ahead.
    pub fn takes_frames(&self, shard: u16) -> bool {
        if let Some(disk) = self
            .durability
            .get()
            .filter(|disk| disk.refusal().is_some())
        {
            let waiting = disk.unwritten_bytes() + self.room.log_excess_bytes();
            if limits::LOG_UNWRITTEN_BYTES_MAX < waiting {
                return false;
            }
        }
        self.loading.is_loading()
            || self.room.takes_frames()
            || self.shards.with(shard.into(), |shard| shard.is_ahead())
    }

    /// Sets the limit of memory and what goes with it.
    pub fn set_room(&self, settings: RoomSettings) {
        let room = &self.room;
        let index = Eviction::ALL
            .iter()
            .position(|(eviction, _)| *eviction == settings.eviction);
        room.eviction
            .store(index.unwrap_or_default() as u8, Ordering::Relaxed);
        let Frequency {
            log_factor,
            decay_min,
        } = settings.frequency;
        room.reserve_percent
            .store(settings.reserve_percent, Ordering::Relaxed);
        room.samples.store(settings.samples, Ordering::Relaxed);
        room.log_factor.store(log_factor, Ordering::Relaxed);
        room.decay_min.store(decay_min, Ordering::Relaxed);
        let noted = match settings.eviction {
            eviction if eviction.is_lru() => Noted::Recency,
            eviction if eviction.is_lfu() => Noted::Frequency(settings.frequency),
            _ => Noted::Nothing,
        };
        // What was picked by another measure says nothing any more.
        *room.pool.lock() = Pool::default();
        for index in 0..self.shards.count() {
            self.shards
                .with(index, |shard| shard.note_uses_as(noted, clock::now_ms()));
        }
        room.max_bytes.store(settings.max_bytes, Ordering::Relaxed);
        room.is_futile.store(false, Ordering::Relaxed);
    }

    /// Evicts until there is room, or for as long as a command may take. To be called with no shard
    /// locked.
    #[cold]
    pub fn make_room(&self, now_ms: u64) -> Space {
        let room = &self.room;
        if !self.is_short_now() {
            return Space::Fits;
        }
        let settings = room.settings();
        let is_futile = room.is_futile.load(Ordering::Relaxed);
        if settings.eviction == Eviction::None || is_futile || !self.may_evict() {
            return Space::Full;
        }
        // Others that are short wait here: what one evicts is room for all.
        let mut pool = room.pool.lock();
        let begun = clock::monotonic();
        while self.is_short_now() {
            if EVICT_FOR < begun.elapsed() || room.is_freeing() {
                return Space::Evicting;
            }
            let before = heap::used_bytes();
            let Some(removed) = self.evict_one(&mut pool.best, &settings, now_ms) else {
                return Space::Full;
            };
            room.evicted.fetch_add(1, Ordering::Relaxed);
            if LARGE <= removed.len() {
                pool.futile = 0;
                room.free_elsewhere(removed);
                return Space::Evicting;
            }
            drop(removed);
            heap::settle();
            let has_freed = heap::used_bytes() < before;
            pool.futile = if has_freed { 0 } else { pool.futile + 1 };
            if FUTILE_MAX <= pool.futile {
                room.futile_bytes.store(room.counts(), Ordering::Relaxed);
                room.is_futile.store(true, Ordering::Relaxed);
                return Space::Full;
            }
        }
        Space::Fits
    }

    /// Whether evictions may be written: they are writes, too, so they must have seen what the last
    /// life had acknowledged, and what clients may not write is not written for them.
    fn may_evict(&self) -> bool {
        let disk = self.durability.get();
        !self.loading.is_loading()
            && !self.clock_ahead.load(Ordering::Relaxed)
            && self.paused_for_ms(true).is_none()
            && disk.and_then(|disk| disk.refusal()).is_none()
    }

    fn is_short_now(&self) -> bool {
        heap::settle();
        self.room.is_short()
    }

    /// Evicts the best of some keys. Returns what is to be freed, if there was any that may go.
    fn evict_one(
        &self,
        pool: &mut Vec<Candidate>,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Option<Removed> {
        let count = self.shards.count();
        let start = fastrand::usize(0..count);
        // A shard that has none is passed over.
        for turn in 0..count {
            let index = (start + turn) % count;
            self.shards.with(index, |shard| {
                shard.pick_to_evict(settings.eviction, settings.samples, now_ms, |rank, name| {
                    remember(pool, rank, index, name);
                });
            });
            while let Some(best) = pool.pop() {
                let (went, removed) = self.shards.with(best.shard, |shard| {
                    let went = shard.evict(settings.eviction, &best.name, now_ms);
                    (went, shard.take_removed())
                });
                if went {
                    self.wrote();
                    return Some(removed);
                }
                // What there is to free has nothing to do with it.
                drop(removed);
            }
        }
        None
    }
}

/// Puts a key among the best, if it is one of them.
fn remember(pool: &mut Vec<Candidate>, rank: u64, shard: usize, name: &[u8]) {
    let at = pool.partition_point(|known| known.rank < rank);
    let is_known = |known: &Candidate| known.shard == shard && *known.name == *name;
    if pool.iter().any(is_known) || (at == 0 && POOL <= pool.len()) {
        return;
    }
    let name = name.into();
    pool.insert(at, Candidate { rank, shard, name });
    if POOL < pool.len() {
        pool.remove(0);
    }
}

/// Looks at memory now and then, for ever: evicts what commands have not, and takes frames again.
pub(super) async fn keep(server: &Server) {
    server.room.used_bytes();
    server.room.look_at_futile();
    while server.make_room(clock::now_ms()) == Space::Evicting && !server.room.is_freeing() {
        tokio::task::yield_now().await;
    }
    if server.room.has_stopped() {
        server.room.takes_frames();
    }
}
