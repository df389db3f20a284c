//! Snapshots: what a start reads instead of the log from its beginning.
//!
//! A snapshot belongs to a segment of the log, which is begun for it, and holds the facts of all
//! shards in pieces, each exact at a version of its own (`crdt::Piece`). A start merges the pieces
//! into empty shards and replays the log from that segment on; what a piece covers is skipped. So
//! nothing stands still while one is written: a shard is locked for a piece at a time.
//!
//! It counts when it is whole, synced, and everything that it shows is synced in the log: a fact
//! whose op a crash has taken away would be one that nobody has issued. Only then are older
//! snapshots removed, and segments before it, as far as no region needs them and the budget for
//! those that do is used up. While segments are kept for a region that is away, so is the snapshot
//! before them: the others may come to do without this region, and what it then writes again goes
//! on from there (`aside`).

#[cfg(test)]
mod crashes;
mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use format::{head_of_region, name};
pub(crate) use read::newest;
pub use read::{Loaded, SnapshotError, load, load_all};
pub use write::Writing;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::{self, Moment};
use crate::durability::Durability;
use crate::limits;
use crate::oplog::record::Owner;
use crate::oplog::storage::Storage;
use crate::shards::Shards;

/// Between two looks whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What snapshots go by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The one that the shards began with.
    pub loaded: Option<Loaded>,
    /// Bytes of segments of the log that are kept for regions that lag.
    pub geo_bytes: u64,
    /// Bytes of a piece, about.
    pub piece_bytes: usize,
}

/// What is known of snapshots.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether one is being written.
    pub is_running: bool,
    /// When that began, milliseconds since 1970.
    pub since_ms: u64,
    /// When the last was finished, milliseconds since 1970; 0 if none was in this life.
    pub saved_ms: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Its bytes.
    pub bytes: u64,
    /// How many effects commands had had before it; see [`Shards::changes`].
    pub changes: u64,
    /// Why the last try failed, if it did.
    pub failure: Option<Arc<str>>,
    /// How many were finished or have failed.
    pub done: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Snapshots {
    storage: Arc<dyn Storage>,
    owner: Owner,
    shards: Arc<Shards>,
    durability: Arc<Durability>,
    facts: Mutex<Facts>,
    is_wanted: Mutex<bool>,
    wake: Condvar,
    stops: AtomicBool,
    /// Bytes of segments that are kept for regions that lag.
    geo_bytes: u64,
    piece_bytes: usize,
    /// Bytes of the log since the last snapshot at which one is due.
    due_bytes: AtomicU64,
    /// Wakes who waits for one to be finished.
    finished: tokio::sync::Notify,
}

impl Snapshots {
    /// Snapshots of these shards.
    pub fn new(
        storage: Arc<dyn Storage>,
        owner: Owner,
        shards: Arc<Shards>,
        durability: Arc<Durability>,
        settings: Settings,
    ) -> Self {
        let loaded = settings.loaded.unwrap_or_default();
        Self {
            storage,
            owner,
            shards,
            durability,
            geo_bytes: settings.geo_bytes,
            piece_bytes: settings.piece_bytes,
            facts: Mutex::new(Facts {
                bytes: loaded.bytes,
                ..Facts::default()
            }),
            is_wanted: Mutex::new(false),
            wake: Condvar::new(),
            stops: AtomicBool::new(false),
            due_bytes: AtomicU64::new(due_after(loaded.bytes)),
            finished: tokio::sync::Notify::new(),
        }
    }

    /// What is known of them.
    pub fn facts(&self) -> Facts {
        self.facts.lock().clone()
    }

    /// Asks for one. Returns whether none is being written.
    pub fn ask(&self) -> bool {
        if self.facts.lock().is_running {
            return false;
        }
        *self.is_wanted.lock() = true;
        self.wake.notify_one();
        true
    }

    /// Wakes who waits for one to be finished.
    pub const fn finished(&self) -> &tokio::sync::Notify {
        &self.finished
    }

    /// Starts the thread that writes them.
    pub fn start(self: &Arc<Self>) -> io::Result<Running> {
        let snapshots = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || snapshots.run())?;
        Ok(Running {
            snapshots: Arc::clone(self),
            thread: Some(thread),
        })
    }

    fn run(&self) {
        while !self.stops.load(Ordering::Acquire) {
            let is_wanted = {
                let mut is_wanted = self.is_wanted.lock();
                if !*is_wanted {
                    self.wake.wait_for(&mut is_wanted, LOOK_EVERY);
                }
                std::mem::take(&mut *is_wanted)
            };
            let grown = self.durability.journal().bytes_since_snapshot();
            let is_due = self.due_bytes.load(Ordering::Relaxed) < grown;
            if is_wanted || (is_due && write::intakes(&self.shards).is_ok()) {
                self.save();
            }
            self.cut();
        }
    }

    fn save(&self) {
        if self.stops.load(Ordering::Acquire) {
            return;
        }
        let since_ms = clock::now_ms();
        {
            let mut facts = self.facts.lock();
            (facts.is_running, facts.since_ms) = (true, since_ms);
        }
        let changes = self.shards.changes();
        let written = self.write();
        let mut facts = self.facts.lock();
        facts.is_running = false;
        facts.done += 1;
        match written {
            Ok(bytes) => {
                facts.saved_ms = clock::now_ms();
                facts.took_ms = facts.saved_ms.saturating_sub(since_ms);
                (facts.bytes, facts.changes) = (bytes, changes);
                facts.failure = None;
                self.due_bytes.store(due_after(bytes), Ordering::Relaxed);
                tracing::info!(bytes, elapsed_ms = facts.took_ms, "snapshot");
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot");
                facts.failure = Some(error.to_string().into());
                // Not at once again: what is wrong now will be wrong in a second. But state that is
                // taken in is exact some time, and the log has grown by it.
                let is_busy = error.kind() == io::ErrorKind::ResourceBusy;
                let grown = self.durability.journal().bytes_since_snapshot();
                let due = if is_busy {
                    0
                } else {
                    grown + limits::SNAPSHOT_DUE_BYTES
                };
                self.due_bytes.store(due, Ordering::Relaxed);
            }
        }
        drop(facts);
        self.finished.notify_waiters();
    }

    fn write(&self) -> io::Result<u64> {
        let mut writing = self.begin()?;
        loop {
            if self.stops.load(Ordering::Acquire) {
                return Err(io::Error::other("the node stops"));
            }
            let began = clock::monotonic();
            let Some(bytes) = self.piece(&mut writing)? else {
                return self.finish(writing, Moment::now());
            };
            // The rest of its time belongs to others.
            let due = Duration::from_secs_f64(bytes as f64 / limits::SNAPSHOT_BYTES_PER_S);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }

    /// Begins one: the log goes on in a segment of its own. What the thread that writes them does,
    /// as are the next three.
    pub fn begin(&self) -> io::Result<Writing> {
        let intakes = write::intakes(&self.shards)?;
        let segment = self.durability.roll(&self.shards)?;
        Writing::begin(Arc::clone(&self.storage), &self.owner, segment, intakes)
    }

    /// Writes the next piece. Returns its bytes, or `None` if all were written before.
    pub fn piece(&self, writing: &mut Writing) -> io::Result<Option<usize>> {
        writing.piece(&self.shards, self.piece_bytes)
    }

    /// Ends one: it is what the next start reads. Returns its bytes.
    pub fn finish(&self, writing: Writing, now: Moment) -> io::Result<u64> {
        let segment = writing.segment();
        let synced = self.durability.sync_now(&self.shards, now);
        synced.map_err(|why| io::Error::other(why.to_string()))?;
        let bytes = writing.finish()?;
        self.durability.journal().snapshot_is(segment);
        write::remove_older(&*self.storage)?;
        Ok(bytes)
    }

    /// Removes segments of the log that nobody needs, and those beyond the budget.
    pub fn cut(&self) {
        if let Err(error) = self.durability.cut(&self.shards, self.geo_bytes) {
            tracing::warn!(%error, "a segment of the log is not removed");
        }
        if let Err(error) = write::remove_older(&*self.storage) {
            tracing::warn!(%error, "a snapshot is not removed");
        }
    }
}

/// After a snapshot of so many bytes, the log may grow by so many before the next.
fn due_after(bytes: u64) -> u64 {
    limits::SNAPSHOT_DUE_BYTES.max(2 * bytes)
}

/// The thread that writes snapshots. When this is dropped it ends, without the one under way.
#[derive(Debug)]
pub struct Running {
    snapshots: Arc<Snapshots>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.snapshots.stops.store(true, Ordering::Release);
        *self.snapshots.is_wanted.lock() = true;
        self.snapshots.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes snapshots has panicked");
        }
    }
}
