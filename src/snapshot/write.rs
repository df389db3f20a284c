//! Writing a snapshot while the node serves: a piece at a time, and none faster than the rate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::format::{self, Record};
use crate::clock;
use crate::limits;
use crate::oplog::record::Owner;
use crate::oplog::storage::{Storage, Stored};
use crate::shards::Shards;

/// A snapshot that is being written; its file is removed if it is not finished.
#[derive(Debug)]
pub(super) struct Writing {
    storage: Arc<dyn Storage>,
    segment: u64,
    file: Arc<dyn Stored>,
    bytes: u64,
    pieces: u64,
    /// Bytes that are not synced.
    unsynced: u64,
    is_finished: bool,
}

impl Writing {
    /// Begins the snapshot that the log goes on from in this segment.
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        owner: &Owner,
        segment: u64,
    ) -> io::Result<Self> {
        let name = format::part_name(segment);
        let file = storage.create(&name)?;
        let mut writing = Self {
            storage,
            segment,
            file,
            bytes: 0,
            pieces: 0,
            unsynced: 0,
            is_finished: false,
        };
        writing.put(&Record::Head(owner.clone(), segment))?;
        Ok(writing)
    }

    /// Writes what a shard holds. `goes_on` is asked before each piece.
    pub(super) fn shard(
        &mut self,
        shards: &Shards,
        index: usize,
        goes_on: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut cursor = shards.with(index, |shard| Some(shard.state().walk()));
        while let Some(from) = cursor.take() {
            if !goes_on() {
                return Err(io::Error::other("the node stops"));
            }
            let began = clock::monotonic();
            let (piece, rest) = shards.with(index, |shard| {
                shard.snapshot_piece(from, limits::PIECE_BYTES)
            });
            let bytes = piece.len();
            self.pieces += 1;
            self.put(&Record::Piece(index as u16, piece))?;
            cursor = rest;
            // The rest of its time belongs to others.
            let due = Duration::from_secs_f64(bytes as f64 / limits::SNAPSHOT_BYTES_PER_S);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// Ends it: from now on it is the newest. Everything that it shows has to be safe in the log.
    /// Returns its bytes.
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

/// Removes the snapshots that are older than this one.
pub(super) fn remove_older(storage: &dyn Storage, segment: u64) -> io::Result<()> {
    for name in storage.list(format::FOLDER)? {
        if let format::Kind::Whole(number) = format::kind_of(&name)
            && number < segment
        {
            storage.remove(&format::name(number))?;
        }
    }
    Ok(())
}
