//! Writing a snapshot while the node serves: a piece at a time.

use std::io;
use std::sync::Arc;

use crdt::Cursor;

use super::format::{self, Record};
use crate::limits;
use crate::oplog::record::Owner;
use crate::oplog::segment;
use crate::oplog::storage::{Storage, Stored};
use crate::shard::Shard;
use crate::shards::Shards;

/// A snapshot that is being written; its file is removed if it is not finished.
#[derive(Debug)]
pub struct Writing {
    storage: Arc<dyn Storage>,
    segment: u64,
    file: Arc<dyn Stored>,
    bytes: u64,
    pieces: u64,
    /// The shard whose turn it is, and from where on, if it has begun.
    next: (usize, Option<Cursor>),
    /// Bytes that are not synced.
    unsynced: u64,
    /// By shard, how often it had taken in state before.
    intakes: Vec<u64>,
    is_finished: bool,
}

impl Writing {
    /// Begins the snapshot that the log goes on from in this segment.
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        owner: &Owner,
        segment: u64,
        intakes: Vec<u64>,
    ) -> io::Result<Self> {
        let name = format::part_name(segment);
        let file = storage.create(&name)?;
        let mut writing = Self {
            storage,
            segment,
            file,
            bytes: 0,
            pieces: 0,
            next: (0, None),
            unsynced: 0,
            intakes,
            is_finished: false,
        };
        writing.put(&Record::Head(owner.clone(), segment))?;
        Ok(writing)
    }

    /// The segment that goes on from it.
    pub(super) const fn segment(&self) -> u64 {
        self.segment
    }

    /// Writes the next piece, of so many bytes about. Returns its bytes, or `None` if all shards
    /// have been walked.
    pub(super) fn piece(&mut self, shards: &Shards, bytes: usize) -> io::Result<Option<usize>> {
        let (index, from) = (self.next.0, self.next.1.take());
        if shards.count() <= index {
            return Ok(None);
        }
        let (piece, rest) = shards.with(index, |shard| {
            self.check(shard, index)?;
            let from = from.unwrap_or_else(|| shard.state().walk());
            io::Result::Ok(shard.snapshot_piece(from, bytes))
        })?;
        let bytes = piece.len();
        self.pieces += 1;
        self.put(&Record::Piece(index as u16, piece))?;
        self.next = match rest {
            Some(rest) => (index, Some(rest)),
            None => (index + 1, None),
        };
        Ok(Some(bytes))
    }

    /// Whether what a shard holds, and has held since this began, is exact: what was taken in
    /// before a piece was written would be taken in again after it.
    fn check(&self, shard: &Shard, index: usize) -> io::Result<()> {
        if !shard.is_in_service() {
            return Err(io::Error::other(format!("shard {index} is out of service")));
        }
        if shard.intakes() != self.intakes[index] {
            return Err(takes_in(index));
        }
        Ok(())
    }

    /// Ends it: from now on it is the newest. Everything that it shows has to be safe in the log.
    /// Returns its bytes.
    ///
    /// What a shard has taken in since its last piece was written is behind that in the log, too.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.put(&Record::End(self.pieces))?;
        self.file.sync()?;
        self.storage.rename(
            &format::part_name(self.segment),
            &format::name(self.segment),
        )?;
        self.is_finished = true;
        self.storage.sync_folder(format::FOLDER)?;
        Ok(self.bytes)
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        let mut out = Vec::new();
        format::put(&mut out, record);
        self.file.append(self.bytes, &out)?;
        self.bytes += out.len() as u64;
        self.unsynced += out.len() as u64;
        if limits::SNAPSHOT_UNSYNCED_BYTES < self.unsynced {
            // So that there is never much for one sync, behind which those of the log would wait.
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = self.storage.remove(&format::part_name(self.segment))
        {
            tracing::warn!(%error, "what was written of a snapshot remains");
        }
    }
}

/// By shard, how often it has taken in state.
///
/// # Errors
///
/// If one is partly ahead of its version.
pub(super) fn intakes(shards: &Shards) -> io::Result<Vec<u64>> {
    let of_shard = |index| {
        shards.with(index, |shard| {
            let intakes = shard.intakes();
            (!shard.is_ahead())
                .then_some(intakes)
                .ok_or_else(|| takes_in(index))
        })
    };
    (0..shards.count()).map(of_shard).collect()
}

fn takes_in(index: usize) -> io::Error {
    let why =
        format!("shard {index} takes in the state of another region; it is tried again after that");
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

/// Removes the snapshots that are neither the newest nor the one before the log: while a region is
/// away the log has what it has not kept, and with the snapshot before that it is known what those
/// ops went on from.
pub(super) fn remove_older(storage: &dyn Storage) -> io::Result<()> {
    let names = storage.list(format::FOLDER)?;
    let whole = names.iter().filter_map(|name| match format::kind_of(name) {
        format::Kind::Whole(number) => Some(number),
        format::Kind::Part | format::Kind::Other => None,
    });
    let mut whole: Vec<u64> = whole.collect();
    whole.sort_unstable();
    let newest = whole.pop();
    let log = storage.list(segment::FOLDER)?;
    let first = log.iter().filter_map(|name| segment::number(name)).min();
    let before_log = |number: &u64| first.is_some_and(|first| *number <= first);
    // Where the newest is the one before the log, no other is.
    let kept = match newest {
        Some(newest) if before_log(&newest) => None,
        _ => whole.iter().copied().rfind(before_log),
    };
    for number in whole.into_iter().filter(|number| Some(*number) != kept) {
        storage.remove(&format::name(number))?;
    }
    Ok(())
}
