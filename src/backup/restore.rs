//! Making a data directory of a backup, for a node that is down.
//!
//! All of it is made beside the directory and synced before it gets its name, so what is there is
//! whole or is not there. What every file holds is compared with the manifest's checksums, and the
//! log is read to its end; then a segment is added, of an epoch of this moment, which says that the
//! next life is to be filled up before it serves.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use crdt::{Epoch, Region};

use super::manifest::{Listed, Manifest, ManifestError};
use crate::clock;
use crate::durability::mark_after;
use crate::limits;
use crate::membership;
use crate::oplog::journal::{Journal, Life};
use crate::oplog::record::{self, Owner, RecordError};
use crate::oplog::recover::recover;
use crate::oplog::recovered::OpenError;
use crate::oplog::segment;
use crate::oplog::storage::{Disk, Storage};
use crate::snapshot::{self, SnapshotError};

/// `meridian admin restore`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder with the backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The node's data directory: not there yet, or empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Id of the region that the node is of, if it is another than the backup's: when that region
    /// has no backup of its own
    #[arg(long, value_name = "ID")]
    region: Option<u8>,
    /// Refuses a backup that is not of this database
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// Bytes that are copied at once; every head is shorter.
const BLOCK: usize = 1 << 20;

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup does not say what it is.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// There is something.
    #[error(
        "{path}: is not empty; move it away, or name another: what is there is never \
             overwritten",
        path = path.display()
    )]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// Another restore is under way, or was broken off.
    #[error(
        "{path}: is left of a restore that was broken off, or is under way; remove it if none is",
        path = path.display()
    )]
    Left {
        /// Where.
        path: PathBuf,
    },
    /// It is of another database.
    #[error("the backup is of the database {found}, and {wanted} is asked for")]
    Foreign {
        /// Whose it is.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// There is no such region.
    #[error("--region 0: must be a number from 1 to 255")]
    Region,
    /// A file is not what it was.
    #[error("{path}: {why}; take another backup", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The log cannot be gone on from.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    |error| RestoreError::Io { path, error }
}

/// Restores. Returns what to print.
pub fn run(options: &Options) -> Result<String, RestoreError> {
    let manifest = Manifest::read(&options.backup)?;
    if let Some(wanted) = options
        .database
        .as_ref()
        .filter(|w| **w != manifest.database)
    {
        return Err(RestoreError::Foreign {
            found: manifest.database,
            wanted: wanted.clone(),
        });
    }
    let region = options.region.unwrap_or(manifest.region);
    let owner = Owner {
        database: manifest.database.clone(),
        region: Region::new(region).ok_or(RestoreError::Region)?,
        shards: manifest.shards,
    };
    let dir = std::path::absolute(&options.dir).map_err(io_at(&options.dir))?;
    check_empty(&dir)?;
    let part = part_of(&dir);
    if part.exists() {
        return Err(RestoreError::Left { path: part });
    }
    let made = make(&options.backup, &part, &manifest, &owner);
    let made = made.and_then(|epoch| {
        put_in_place(&part, &dir)?;
        Ok(epoch)
    });
    let epoch = match made {
        Ok(epoch) => epoch,
        Err(error) => {
            // What is left would only be in the way; the error is what matters.
            let _ = fs::remove_dir_all(&part);
            return Err(error);
        }
    };
    let Owner {
        database, region, ..
    } = owner;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    Ok(format!(
        "{}: database {database}, region {}, {bytes} bytes, epoch {}; start the node on it",
        dir.display(),
        region.id(),
        epoch.0
    ))
}

/// Beside a directory, while it is being made.
fn part_of(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    dir.with_file_name(name)
}

fn check_empty(dir: &Path) -> Result<(), RestoreError> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(RestoreError::NotEmpty {
            path: dir.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at(dir)(error)),
    }
}

fn put_in_place(part: &Path, dir: &Path) -> Result<(), RestoreError> {
    // An empty folder gives way.
    fs::rename(part, dir).map_err(io_at(dir))?;
    if let Some(parent) = dir.parent() {
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(io_at(parent))?;
    }
    Ok(())
}

/// Makes all of the directory, and begins a life in it.
fn make(
    backup: &Path,
    part: &Path,
    manifest: &Manifest,
    owner: &Owner,
) -> Result<Epoch, RestoreError> {
    fs::create_dir_all(part).map_err(io_at(part))?;
    for listed in &manifest.files {
        copy(backup, part, listed, owner)?;
    }
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(part));
    // As a start will read it, the shards aside.
    let loaded = snapshot::load(&*storage, owner, &mut |_, _| Ok(()))?;
    let from = loaded.map_or(0, |loaded| loaded.segment);
    let mut recovered = recover(&*storage, owner, from, &mut |_| {})?;
    if let Some((shard, damage)) = recovered.damaged.first_key_value() {
        return Err(RestoreError::Damaged {
            path: backup.join(&damage.path),
            why: format!("shard {shard} lacks frames: {damage}"),
        });
    }
    recovered.is_filled = false;
    let now_ms = clock::now_ms();
    // The lives of the region that is restored, which may not be the one that was backed up.
    let ends = recovered.shards.iter().flat_map(|shard| shard.ends.iter());
    let of_region = ends.filter(|(origin, _)| origin.region == owner.region);
    let known = of_region.map(|(origin, _)| origin.epoch);
    let newest = known
        .chain([recovered.epoch])
        .max()
        .unwrap_or(recovered.epoch);
    let epoch = Epoch(now_ms.max(newest.0 + 1));
    let life = Life {
        epoch,
        mark: mark_after(now_ms, recovered.mark),
        segment_bytes: limits::SEGMENT_BYTES,
        snapshot: from,
    };
    Journal::begin(Arc::clone(&storage), owner.clone(), recovered, life).map_err(io_at(part))?;
    for folder in ["snapshot", ""] {
        storage.sync_folder(folder).map_err(io_at(part))?;
    }
    Ok(epoch)
}

/// What a file of a backup begins with where it is of that region, and how many bytes that takes
/// the place of.
fn head_of(name: &str, first: &Bytes, region: Region) -> Result<(Vec<u8>, usize), RecordError> {
    let folder = name.split('/').next().unwrap_or_default();
    if name == membership::FILE {
        // It is of the database.
        return Ok((Vec::new(), 0));
    }
    if folder == segment::FOLDER {
        return record::head_of_region(first, region);
    }
    let (kind, body, length) = record::open(first)?;
    let head = snapshot::head_of_region((kind, body), region)?;
    if head.len() == length {
        Ok((head, length))
    } else {
        Err(RecordError::Malformed)
    }
}

/// Copies a file, and holds it against the manifest. The record that it begins with says of which
/// region it is: it is written anew.
fn copy(backup: &Path, part: &Path, listed: &Listed, owner: &Owner) -> Result<(), RestoreError> {
    let (from, to) = (backup.join(&listed.name), part.join(&listed.name));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(io_at(folder))?;
    }
    let damaged = |why: &str| RestoreError::Damaged {
        path: from.clone(),
        why: why.to_owned(),
    };
    let mut source = File::open(&from).map_err(io_at(&from))?;
    let found = source.metadata().map_err(io_at(&from))?.len();
    if found != listed.bytes {
        let wanted = listed.bytes;
        return Err(damaged(&format!("has {found} bytes of {wanted}")));
    }
    let mut block = |bytes: usize| {
        let mut block = Vec::with_capacity(bytes);
        let read = (&mut source).take(bytes as u64).read_to_end(&mut block);
        read.map(|_| block).map_err(io_at(&from))
    };
    let first = Bytes::from(block(BLOCK)?);
    let mut checksum = crc32c::crc32c(&first);
    let (head, length) =
        head_of(&listed.name, &first, owner.region).map_err(|error| damaged(&error.to_string()))?;
    let mut file = File::create_new(&to).map_err(io_at(&to))?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(io_at(&to));
    write(&head)?;
    write(&first[length..])?;
    loop {
        let next = block(BLOCK)?;
        if next.is_empty() {
            break;
        }
        checksum = crc32c::crc32c_append(checksum, &next);
        write(&next)?;
    }
    if checksum != listed.crc32c {
        return Err(damaged("its checksum is wrong"));
    }
    file.sync_all().map_err(io_at(&to))
}
