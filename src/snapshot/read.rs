//! Reading the newest snapshot when a node starts.
//!
//! One that was never finished has another name, and is removed. One that is damaged is an error,
//! not a reason to start without it: the log before it may be gone.

use std::io;

use crdt::Piece;

use super::format::{self, Kind, Record};
use crate::oplog::record::{Owner, RecordError};
use crate::oplog::segment::{ReadError, Reader};
use crate::oplog::storage::Storage;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system says so.
    #[error("{path}: {error}")]
    Io {
        /// Which file or folder.
        path: String,
        /// What it says.
        error: io::Error,
    },
    /// It is not what it should be, or a later build wrote it.
    #[error(
        "{path}, byte {offset}: {why}; restore a backup, or move all of the directory away so \
             that this region fills up from others"
    )]
    Bad {
        /// Which file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// It belongs to something else.
    #[error("{path}: is of {found}, and this node is of {wanted}; give it another `dir`")]
    Foreign {
        /// Which file.
        path: String,
        /// Whose it is.
        found: String,
        /// Who we are.
        wanted: String,
    },
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The segment of the log that goes on from it.
    pub segment: u64,
    /// Its bytes.
    pub bytes: u64,
    /// How many pieces it had.
    pub pieces: u64,
}

/// The number of the newest snapshot that is whole, if there is one.
pub(crate) fn newest(storage: &dyn Storage) -> io::Result<Option<u64>> {
    let names = storage.list(format::FOLDER)?;
    let numbers = names.iter().filter_map(|name| match format::kind_of(name) {
        Kind::Whole(segment) => Some(segment),
        Kind::Part | Kind::Other => None,
    });
    Ok(numbers.max())
}

/// Reads the newest snapshot, if there is one, and hands its pieces to `visit`, with their shards.
pub fn load(
    storage: &dyn Storage,
    owner: &Owner,
    visit: &mut dyn FnMut(u16, &Piece) -> Result<(), crdt::DecodeError>,
) -> Result<Option<Loaded>, SnapshotError> {
    let newest = whole(storage)?.pop();
    newest
        .map(|segment| load_one(storage, owner, segment, visit))
        .transpose()
}

/// The same of all snapshots that there are, the oldest first.
pub fn load_all(
    storage: &dyn Storage,
    owner: &Owner,
    visit: &mut dyn FnMut(u16, &Piece) -> Result<(), crdt::DecodeError>,
) -> Result<(), SnapshotError> {
    for segment in whole(storage)? {
        load_one(storage, owner, segment, visit)?;
    }
    Ok(())
}

/// The segments of the snapshots that are whole, in order. What is left of others is removed.
fn whole(storage: &dyn Storage) -> Result<Vec<u64>, SnapshotError> {
    let attempt = |name: &str, error: io::Error| SnapshotError::Io {
        path: storage.path(name),
        error,
    };
    let names = storage.list(format::FOLDER);
    let names = names.map_err(|error| attempt(format::FOLDER, error))?;
    let mut whole = Vec::new();
    for name in &names {
        match format::kind_of(name) {
            Kind::Whole(segment) => whole.push(segment),
            Kind::Part => {
                let name = format!("{}/{name}", format::FOLDER);
                storage
                    .remove(&name)
                    .map_err(|error| attempt(&name, error))?;
            }
            Kind::Other => {}
        }
    }
    whole.sort_unstable();
    Ok(whole)
}

fn load_one(
    storage: &dyn Storage,
    owner: &Owner,
    segment: u64,
    visit: &mut dyn FnMut(u16, &Piece) -> Result<(), crdt::DecodeError>,
) -> Result<Loaded, SnapshotError> {
    let attempt = |name: &str, error: io::Error| SnapshotError::Io {
        path: storage.path(name),
        error,
    };
    let name = format::name(segment);
    let file = storage.open(&name).map_err(|error| attempt(&name, error))?;
    let bytes = file.size().map_err(|error| attempt(&name, error))?;
    let mut reading = Reading {
        storage,
        name,
        owner,
        segment,
        pieces: None,
    };
    let mut reader = Reader::new(file, 0);
    loop {
        let offset = reader.offset();
        let record = match reader.raw(bytes) {
            Ok(Some(raw)) => format::read(raw),
            Ok(None) => return Err(reading.bad(offset, "it ends too early")),
            Err(ReadError::Record(error)) => Err(error),
            Err(ReadError::Io(error)) => return Err(attempt(&reading.name, error)),
        };
        let record = record.map_err(|error| reading.bad(offset, &explain(error)))?;
        if reading.take(offset, record, visit)? {
            return Ok(Loaded {
                segment,
                bytes,
                pieces: reading.pieces.unwrap_or_default(),
            });
        }
    }
}

fn explain(error: RecordError) -> String {
    match error {
        RecordError::Short(_) => "it ends too early".to_owned(),
        RecordError::TooNew(_) | RecordError::Checksum | RecordError::Malformed => {
            error.to_string()
        }
    }
}

struct Reading<'a> {
    storage: &'a dyn Storage,
    name: String,
    owner: &'a Owner,
    segment: u64,
    /// How many there were, once the head has been read.
    pieces: Option<u64>,
}

impl Reading<'_> {
    fn bad(&self, offset: u64, why: &str) -> SnapshotError {
        SnapshotError::Bad {
            path: self.storage.path(&self.name),
            offset,
            why: why.to_owned(),
        }
    }

    /// Takes a record. Returns whether it is the last.
    fn take(
        &mut self,
        offset: u64,
        record: Record,
        visit: &mut dyn FnMut(u16, &Piece) -> Result<(), crdt::DecodeError>,
    ) -> Result<bool, SnapshotError> {
        match (record, self.pieces) {
            (Record::Head(owner, _), None) if owner != *self.owner => Err(SnapshotError::Foreign {
                path: self.storage.path(&self.name),
                found: owner.to_string(),
                wanted: self.owner.to_string(),
            }),
            (Record::Head(_, segment), None) if segment == self.segment => {
                self.pieces = Some(0);
                Ok(false)
            }
            (Record::Piece(shard, bytes), Some(pieces)) if shard < self.owner.shards => {
                let piece = Piece::parse(bytes);
                let piece = piece.map_err(|error| self.bad(offset, &error.to_string()))?;
                let merged = visit(shard, &piece);
                merged.map_err(|error| self.bad(offset, &error.to_string()))?;
                self.pieces = Some(pieces + 1);
                Ok(false)
            }
            (Record::End(count), Some(pieces)) if count == pieces => Ok(true),
            _ => Err(self.bad(offset, "a record is not where it belongs")),
        }
    }
}
