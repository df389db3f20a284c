//! Making a backup of a node that serves.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::manifest::{FORMAT, Listed, Manifest, NAME};
use crate::clock::{self, Moment};
use crate::durability::Durability;
use crate::limits;
use crate::membership;
use crate::oplog::record::Owner;
use crate::oplog::segment;
use crate::oplog::storage::{Storage, Stored};
use crate::shards::Shards;
use crate::snapshot;

/// Bytes that are copied at once.
const BLOCK: usize = 1 << 20;
/// How often files are looked for that a snapshot may just have replaced.
const LOOKS: u32 = 20;

/// A file to copy: its name, itself, and how many bytes of it.
type Opened = (String, Arc<dyn Stored>, u64);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One is being made.
    #[error("a backup is being made already, into {0}")]
    Running(String),
    /// Where it should go is not said for certain.
    #[error("{0}: must be an absolute path, for the node has a working directory of its own")]
    Relative(String),
    /// There is something there.
    #[error("{0}: is not empty; a backup goes into a folder of its own")]
    NotEmpty(String),
    /// A shard is not all there.
    #[error("shard {0} is out of service: a backup would lack it")]
    OutOfService(usize),
    /// The node has not been filled up since its disk was new or put back.
    #[error(
        "this node does not hold all that its region had acknowledged yet: take the backup once it serves, or of another region"
    )]
    NotFilled,
    /// The disk of the node, or that of the backup, does not do as told.
    #[error("{path}: {error}")]
    Io {
        /// Which file or folder.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The log cannot be written.
    #[error("{0}")]
    NotKept(#[from] crate::durability::NotKept),
}

/// How a backup is getting on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// `none`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// Where it goes.
    pub dir: String,
    /// Bytes that are copied.
    pub bytes: u64,
    /// Bytes that there are to copy.
    pub of: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// See the module: of one node.
#[derive(Debug)]
pub struct Backups {
    storage: Arc<dyn Storage>,
    owner: Owner,
    node: String,
    shards: Arc<Shards>,
    durability: Arc<Durability>,
    progress: Mutex<Progress>,
}

impl Backups {
    /// Of what is kept in this storage.
    pub fn new(
        storage: Arc<dyn Storage>,
        owner: Owner,
        node: String,
        shards: Arc<Shards>,
        durability: Arc<Durability>,
    ) -> Self {
        let progress = Mutex::new(Progress {
            state: "none",
            ..Progress::default()
        });
        Self {
            storage,
            owner,
            node,
            shards,
            durability,
            progress,
        }
    }

    /// How the last one that was asked for is getting on.
    pub fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// Begins one, into a folder that is empty or not there; a thread of its own makes it.
    pub fn begin(self: &Arc<Self>, dir: &Path) -> Result<(), BackupError> {
        let name = dir.display().to_string();
        if dir.is_relative() {
            return Err(BackupError::Relative(name));
        }
        let mut progress = self.progress.lock();
        if progress.state == "running" {
            return Err(BackupError::Running(progress.dir.clone()));
        }
        let failed = |error| BackupError::Io {
            path: name.clone(),
            error,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        if fs::read_dir(dir).map_err(failed)?.next().is_some() {
            return Err(BackupError::NotEmpty(name));
        }
        *progress = Progress {
            state: "running",
            dir: name.clone(),
            ..Progress::default()
        };
        let (backups, dir) = (Arc::clone(self), dir.to_owned());
        let thread = std::thread::Builder::new().name("backup".to_owned());
        let begun = thread.spawn(move || backups.run(&dir));
        if let Err(error) = begun {
            progress.state = "none";
            return Err(failed(error));
        }
        Ok(())
    }

    fn run(&self, dir: &Path) {
        let began_ms = clock::now_ms();
        let made = self.make(dir, began_ms);
        let elapsed_ms = clock::now_ms().saturating_sub(began_ms);
        let mut progress = self.progress.lock();
        let (path, bytes) = (progress.dir.clone(), progress.bytes);
        match made {
            Ok(()) => {
                progress.state = "done";
                tracing::info!(path, bytes, elapsed_ms, "backup was made");
            }
            Err(error) => {
                progress.state = "failed";
                progress.error = Some(error.to_string());
                tracing::error!(path, %error, "backup has failed");
            }
        }
    }

    fn make(&self, dir: &Path, begun_ms: u64) -> Result<(), BackupError> {
        if !self.durability.is_filled() {
            return Err(BackupError::NotFilled);
        }
        let version = (0..self.shards.count()).map(|index| {
            self.shards.with(index, |shard| {
                if !shard.is_in_service() {
                    return Err(BackupError::OutOfService(index));
                }
                let applied = shard.delivery().applied_ops();
                let ops = applied.iter().map(|(origin, time)| {
                    let (region, epoch) = (origin.region.id(), origin.epoch.0);
                    format!("{region}.{epoch}.{}", time.0)
                });
                Ok(ops.collect())
            })
        });
        let version = version.collect::<Result<_, _>>()?;
        self.durability.sync_now(&self.shards, Moment::now())?;
        let files = self.open()?;
        self.progress.lock().of = files.iter().map(|file| file.2).sum();
        let mut listed = Vec::new();
        for (name, file, bytes) in files {
            let crc32c = self.copy(dir, &name, &*file, bytes)?;
            listed.push(Listed {
                name,
                bytes,
                crc32c,
            });
        }
        let manifest = Manifest {
            format: FORMAT,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            database: self.owner.database.clone(),
            region: self.owner.region.id(),
            node: self.node.clone(),
            shards: self.owner.shards,
            begun_ms,
            finished_ms: clock::now_ms(),
            version,
            files: listed,
        };
        finish(dir, &manifest).map_err(|error| BackupError::Io {
            path: dir.join(NAME).display().to_string(),
            error,
        })
    }

    /// What belongs to a backup, opened: the newest snapshot, and the log from there on.
    fn open(&self) -> Result<Vec<Opened>, BackupError> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..LOOKS {
            // A snapshot that is finished between two looks takes away what comes before it.
            match self.try_open() {
                Ok(Some(files)) => return Ok(files),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        Err(BackupError::Io {
            path: self.storage.path(segment::FOLDER),
            error: last,
        })
    }

    /// `None` if a segment is not there that should be.
    fn try_open(&self) -> io::Result<Option<Vec<Opened>>> {
        // No segment is half begun meanwhile.
        let _journal = self.durability.journal();
        let newest = snapshot::newest(&*self.storage)?;
        let from = newest.unwrap_or(1);
        let names = self.storage.list(segment::FOLDER)?;
        let numbers = names.iter().filter_map(|name| segment::number(name));
        let numbers: Vec<u64> = numbers.filter(|number| from <= *number).collect();
        if !(from..)
            .zip(&numbers)
            .all(|(wanted, found)| wanted == *found)
            || numbers.is_empty()
        {
            return Ok(None);
        }
        let snapshot = newest.into_iter().map(snapshot::name);
        let names = snapshot.chain(numbers.into_iter().map(segment::name));
        let mut files = Vec::new();
        for name in names.chain([membership::FILE.to_owned()]) {
            let file = match self.storage.open(&name) {
                // A database of one region has no record of regions.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && name == membership::FILE =>
                {
                    continue;
                }
                opened => opened?,
            };
            let bytes = file.size()?;
            files.push((name, file, bytes));
        }
        Ok(Some(files))
    }

    /// Copies a file, no faster than a snapshot is written. Returns its checksum.
    fn copy(
        &self,
        dir: &Path,
        name: &str,
        from: &dyn Stored,
        bytes: u64,
    ) -> Result<u32, BackupError> {
        let path = dir.join(name);
        let failed = |path: String| move |error| BackupError::Io { path, error };
        let written = |error| failed(path.display().to_string())(error);
        let mut to = create(&path).map_err(written)?;
        let (mut at, mut checksum) = (0, 0);
        while at < bytes {
            let began = clock::monotonic();
            let count = (bytes - at).min(BLOCK as u64) as usize;
            let block = from.read(at, count);
            let block = block.map_err(failed(self.storage.path(name)))?;
            if block.len() < count {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(failed(self.storage.path(name))(error));
            }
            checksum = crc32c::crc32c_append(checksum, &block);
            to.write_all(&block).map_err(written)?;
            at += count as u64;
            self.progress.lock().bytes += count as u64;
            let due = Duration::from_secs_f64(count as f64 / limits::SNAPSHOT_BYTES_PER_S);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        to.sync_all().map_err(written)?;
        Ok(checksum)
    }
}

/// Makes a file, and its folder.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create_new(path)
}

/// Writes the manifest, once all else is synced: a backup without one was never finished.
fn finish(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let folders = manifest.files.iter().filter_map(|file| {
        let folder = file.name.split('/').next()?;
        Some(dir.join(folder))
    });
    let folders: std::collections::BTreeSet<PathBuf> = folders.collect();
    for folder in folders {
        File::open(folder)?.sync_all()?;
    }
    let text = serde_json::to_string_pretty(manifest)?;
    let part = dir.join("manifest.part");
    let mut file = create(&part)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&part, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
