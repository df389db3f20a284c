//! What a node finds in its data directory when it starts, and how it goes on from there.
//!
//! First the epoch of the new life is found, above all that wrote there before; then the shards,
//! still nobody's to ask, are handed the newest snapshot and the log from there on; then a segment
//! of the new life is begun and synced. Only after that may anything be issued.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use crdt::Epoch;

use crate::backup::Backups;
use crate::clock::{self, Moment};
use crate::datadir::{DataDir, DirError};
use crate::durability::{Durability, Fsync, mark_after};
use crate::limits;
use crate::oplog::journal::{Journal, Life};
use crate::oplog::record::{Owner, Stretch};
use crate::oplog::recover::{newest_epoch, recover};
use crate::oplog::recovered::{Damage, OpenError, Recovered, Replay, Torn};
use crate::oplog::segment;
use crate::oplog::storage::{Disk, Storage};
use crate::shard::Shard;
use crate::shards::Shards;
use crate::snapshot::{self, Loaded, SnapshotError, Snapshots};

/// A file that says that the directory is a copy of one that its region has gone on with: the
/// node is filled up by others before it serves. Removed once the log says so.
const RESTORED: &str = "restored";

/// A file that says that shards whose logs are damaged are to go on from what is whole, and be
/// filled up by others. Removed once the log says so.
const REPAIR: &str = "repair";

/// Says of a directory that it is a copy which is put back.
pub fn say_restored(storage: &dyn Storage) -> io::Result<()> {
    say(storage, RESTORED)
}

fn say(storage: &dyn Storage, what: &str) -> io::Result<()> {
    if !storage.list("")?.iter().any(|name| name == what) {
        storage.create(what)?.sync()?;
    }
    storage.sync_folder("")
}

/// Why a data directory cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not ours alone.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A new segment cannot be written.
    #[error("{path}: {error}")]
    Begin {
        /// The folder of segments, or the file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// A life that has begun, and what it found.
#[derive(Debug)]
pub struct Begun {
    /// Where the log goes on.
    pub durability: Durability,
    /// The snapshot that it began with.
    pub loaded: Option<Loaded>,
    /// What a crash had left unfinished, and is cut off.
    pub torn: Option<Torn>,
    /// Shards that are out of service, for frames of their logs are missing.
    pub damaged: BTreeMap<u16, Damage>,
}

/// Shards whose logs were found to be damaged, and what can be done about it.
#[derive(Debug)]
pub struct Repairs {
    storage: Arc<dyn Storage>,
    /// These shards, which are not served.
    pub damaged: BTreeMap<u16, Damage>,
}

impl Repairs {
    /// Says on the disk that they are to be filled up by others at the next start.
    pub fn say(&self) -> io::Result<()> {
        say(&*self.storage, REPAIR)
    }
}

/// A data directory that is ours.
#[derive(Debug)]
pub struct Store {
    storage: Arc<dyn Storage>,
    owner: Owner,
    /// Bytes after which a segment of the log is left for the next.
    segment_bytes: u64,
    /// Held as long as anything may be written.
    _dir: Option<DataDir>,
}

impl Store {
    /// Of a directory.
    pub fn new(dir: DataDir, owner: Owner) -> Self {
        Self {
            storage: Arc::new(Disk::new(dir.path())),
            owner,
            segment_bytes: limits::SEGMENT_BYTES,
            _dir: Some(dir),
        }
    }

    /// The files of the directory.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Of a storage that nobody else has, with segments of so many bytes.
    pub fn on(storage: Arc<dyn Storage>, owner: Owner, segment_bytes: u64) -> Self {
        Self {
            storage,
            owner,
            segment_bytes,
            _dir: None,
        }
    }

    /// The epoch of a life that begins now.
    pub fn epoch(&self, now: Moment) -> Result<Epoch, StoreError> {
        let known = newest_epoch(&*self.storage, &self.owner)?;
        Ok(Epoch(now.wall_ms.max(known.0 + 1)))
    }

    /// Hands the shards what is there, and begins the life of this epoch.
    pub fn go_on(
        &self,
        shards: &Shards,
        epoch: Epoch,
        fsync: Fsync,
        now: Moment,
    ) -> Result<Begun, StoreError> {
        let loaded = self.load(shards)?;
        let began_ns = clock::monotonic_ns();
        let now_ms = now.wall_ms;
        let (mut ops, mut frames) = (0_u64, 0_u64);
        let from = loaded.map_or(0, |loaded| loaded.segment);
        let mut recovered = recover(&*self.storage, &self.owner, from, &mut |what| match what {
            Replay::From(shard, stretch) => {
                shards.with(shard.into(), |shard| shard.restored(&stretch.ends));
            }
            Replay::Frame(frame) => {
                ops += u64::from(frame.ops());
                frames += 1;
                shards.with(frame.shard().into(), |shard| shard.replay(&frame, now_ms));
            }
            Replay::Intake(shard, intake) => {
                shards.with(shard.into(), |shard| shard.replay_intake(intake));
            }
        })?;
        self.tell(&recovered, ops, frames, elapsed_ms(began_ns));
        let (is_restored, is_repaired) = (self.says(RESTORED)?, self.says(REPAIR)?);
        let (mark, torn) = (recovered.mark, recovered.torn.clone());
        let mut damaged = std::mem::take(&mut recovered.damaged);
        let mut resumed = BTreeMap::new();
        if is_repaired {
            resumed = std::mem::take(&mut damaged);
        }
        recovered.is_filled &= !is_restored && resumed.is_empty();
        for (&shard, damage) in &damaged {
            shards.with(shard.into(), |shard| shard.damaged(&damage.to_string()));
        }
        let life = Life {
            epoch,
            mark: mark_after(now_ms, mark),
            segment_bytes: self.segment_bytes,
            snapshot: from,
        };
        let storage = Arc::clone(&self.storage);
        let journal = Journal::begin(storage, self.owner.clone(), recovered, life);
        let journal = journal.map_err(|error| self.begin_error(segment::FOLDER, error))?;
        if is_restored {
            // The head of the new segment says so from now on.
            let removed = self.storage.remove(RESTORED);
            removed.map_err(|error| self.begin_error(RESTORED, error))?;
        }
        for index in 0..shards.count() {
            let of_shard = |stretches: &[Stretch]| stretches[index].clone();
            let stretches: VecDeque<Stretch> = journal.stretches().map(of_shard).collect();
            shards.with(index, |shard| shard.go_on(stretches, mark));
        }
        let durability = Durability::new(journal, mark, shards.count(), fsync, now);
        if is_repaired {
            self.resume(shards, &resumed, &durability, now)?;
        }
        Ok(Begun {
            durability,
            loaded,
            torn,
            damaged,
        })
    }

    /// Snapshots of these shards from now on.
    pub fn snapshots(
        &self,
        shards: Arc<Shards>,
        durability: Arc<Durability>,
        settings: snapshot::Settings,
    ) -> Snapshots {
        let storage = Arc::clone(&self.storage);
        Snapshots::new(storage, self.owner.clone(), shards, durability, settings)
    }

    /// Has shards go on that lack frames.
    fn resume(
        &self,
        shards: &Shards,
        resumed: &BTreeMap<u16, Damage>,
        durability: &Durability,
        now: Moment,
    ) -> Result<(), StoreError> {
        for (&shard, damage) in resumed {
            tracing::warn!(shard, %damage, "the shard goes on from before this damage");
            shards.with(shard.into(), Shard::resume);
        }
        let synced = durability.sync_now(shards, now);
        let synced = synced.map_err(|why| io::Error::other(why.to_string()));
        synced.map_err(|error| self.begin_error(segment::FOLDER, error))?;
        let removed = self.storage.remove(REPAIR);
        removed.map_err(|error| self.begin_error(REPAIR, error))
    }

    /// Whether there is a file that says something of the directory.
    fn says(&self, what: &str) -> Result<bool, StoreError> {
        let names = self.storage.list("");
        let names = names.map_err(|error| self.begin_error("", error))?;
        Ok(names.iter().any(|name| name == what))
    }

    fn begin_error(&self, name: &str, error: io::Error) -> StoreError {
        let path = self.storage.path(name);
        StoreError::Begin { path, error }
    }

    /// What can be done about this damage.
    pub fn repairs(&self, damaged: BTreeMap<u16, Damage>) -> Repairs {
        let storage = Arc::clone(&self.storage);
        Repairs { storage, damaged }
    }

    /// Backups of these shards from now on.
    pub fn backups(&self, node: &str, shards: Arc<Shards>, durability: Arc<Durability>) -> Backups {
        let (storage, owner) = (Arc::clone(&self.storage), self.owner.clone());
        Backups::new(storage, owner, node.to_owned(), shards, durability)
    }

    /// Hands the shards the newest snapshot, if there is one.
    fn load(&self, shards: &Shards) -> Result<Option<Loaded>, StoreError> {
        let began_ns = clock::monotonic_ns();
        let loaded = snapshot::load(&*self.storage, &self.owner, &mut |shard, piece| {
            shards.with(shard.into(), |shard| shard.restore(piece))
        })?;
        if let Some(loaded) = loaded {
            let Loaded { segment, bytes, .. } = loaded;
            let elapsed_ms = elapsed_ms(began_ns);
            tracing::info!(segment, bytes, elapsed_ms, "snapshot was read");
        }
        Ok(loaded)
    }

    fn tell(&self, recovered: &Recovered, ops: u64, frames: u64, elapsed_ms: u64) {
        if let Some(torn) = &recovered.torn {
            tracing::warn!(
                path = torn.path,
                offset = torn.offset,
                bytes = torn.bytes,
                "the last life has left a write unfinished: it was cut off"
            );
        }
        for (shard, damage) in &recovered.damaged {
            tracing::error!(
                shard,
                path = damage.path,
                offset = damage.offset,
                why = damage.why,
                "the log is damaged: the shard lacks ops"
            );
        }
        let path = self.storage.path("");
        let segments = recovered.segments.len();
        tracing::info!(path, segments, frames, ops, elapsed_ms, "log was read");
    }
}

/// Milliseconds since a moment of the clock that never goes back.
fn elapsed_ms(began_ns: u64) -> u64 {
    (clock::monotonic_ns() - began_ns) / 1_000_000
}
