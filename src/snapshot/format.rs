//! Snapshots on disk: names, and what their records say (docs/storage.md).

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use crdt::Region;

use crate::oplog::record::{self, Owner, RecordError};

/// The format that this build writes, and the newest that it reads.
const FORMAT: u8 = 1;
/// The folder of snapshots in a data directory.
pub(super) const FOLDER: &str = "snapshot";
/// How the name of a snapshot ends, and of one that is being written.
const SUFFIX: &str = ".snap";
const PART: &str = ".part";

mod kind {
    pub(super) const HEAD: u8 = 4;
    pub(super) const PIECE: u8 = 5;
    pub(super) const END: u8 = 6;
}

/// A snapshot by the number of the segment of the log that goes on from it.
pub(crate) fn name(segment: u64) -> String {
    format!("{FOLDER}/{segment:020}{SUFFIX}")
}

/// The same while it is being written.
pub(super) fn part_name(segment: u64) -> String {
    format!("{FOLDER}/{segment:020}{PART}")
}

/// What a file of the folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A snapshot, by its number.
    Whole(u64),
    /// What is left of one that was never finished.
    Part,
    /// None of ours.
    Other,
}

/// What a file of this name in the folder is.
pub(super) fn kind_of(name: &str) -> Kind {
    if name.ends_with(PART) {
        return Kind::Part;
    }
    let number = name
        .strip_suffix(SUFFIX)
        .and_then(|digits| digits.parse().ok());
    number.map_or(Kind::Other, Kind::Whole)
}

/// A record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The first: whose it is, and the segment of the log that goes on from it.
    Head(Owner, u64),
    /// Some of the state of a shard.
    Piece(u16, Bytes),
    /// The last: how many pieces there are.
    End(u64),
}

/// Reads a record.
pub(super) fn read((kind, body): (u8, Bytes)) -> Result<Record, RecordError> {
    let mut rest: &[u8] = &body;
    match kind {
        kind::HEAD => {
            let [format] = record::take::<1>(&mut rest)?;
            if FORMAT < format {
                return Err(RecordError::TooNew(format));
            }
            let segment = u64::from_le_bytes(record::take(&mut rest)?);
            let shards = u16::from_le_bytes(record::take(&mut rest)?);
            let [region] = record::take::<1>(&mut rest)?;
            let database = String::from_utf8(rest.to_vec());
            let owner = Owner {
                database: database.map_err(|_| RecordError::Malformed)?,
                region: Region::new(region).ok_or(RecordError::Malformed)?,
                shards,
            };
            Ok(Record::Head(owner, segment))
        }
        kind::PIECE => {
            let shard = u16::from_le_bytes(record::take(&mut rest)?);
            Ok(Record::Piece(shard, body.slice(2..)))
        }
        kind::END => Ok(Record::End(u64::from_le_bytes(record::take(&mut rest)?))),
        _ => Err(RecordError::Malformed),
    }
}

/// The record that a snapshot begins with, read and written anew as of another region.
pub(crate) fn head_of_region(record: (u8, Bytes), region: Region) -> Result<Vec<u8>, RecordError> {
    let Record::Head(owner, segment) = read(record)? else {
        return Err(RecordError::Malformed);
    };
    let mut out = Vec::new();
    put(&mut out, &Record::Head(Owner { region, ..owner }, segment));
    Ok(out)
}

/// Appends a record.
pub(super) fn put(out: &mut Vec<u8>, what: &Record) {
    match what {
        Record::Head(owner, segment) => record::put(out, kind::HEAD, |out| {
            out.push(FORMAT);
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&owner.shards.to_le_bytes());
            out.push(owner.region.id());
            out.extend_from_slice(owner.database.as_bytes());
        }),
        Record::Piece(shard, piece) => record::put(out, kind::PIECE, |out| {
            out.extend_from_slice(&shard.to_le_bytes());
            out.extend_from_slice(piece);
        }),
        Record::End(pieces) => record::put(out, kind::END, |out| {
            out.extend_from_slice(&pieces.to_le_bytes());
        }),
    }
}
