//! Segments: the files of the log on disk, and reading them from front to back.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, Record, RecordError};
use super::storage::Stored;

/// The folder of segments in a data directory.
pub const FOLDER: &str = "log";
/// How a segment's name ends.
const SUFFIX: &str = ".log";
/// Bytes that are read at once.
const BLOCK: usize = 256 * 1024;

/// The name of a segment.
pub fn name(number: u64) -> String {
    format!("{FOLDER}/{number:020}{SUFFIX}")
}

/// The number of the segment of this name in its folder, if it is one's.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_plain = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// Why a segment cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is there is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Reads a segment from front to back.
#[derive(Debug)]
pub struct Reader {
    file: Arc<dyn Stored>,
    /// What was read ahead, from `offset` on.
    block: Bytes,
    offset: u64,
}

impl Reader {
    /// Reads from a place at which a record begins.
    pub const fn new(file: Arc<dyn Stored>, offset: u64) -> Self {
        Self {
            file,
            block: Bytes::new(),
            offset,
        }
    }

    /// Where the next record begins.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record of a log before `end`, if there is one. After an error it stays where it is.
    pub fn next(&mut self, end: u64) -> Result<Option<Record>, ReadError> {
        let (block, offset) = (self.block.clone(), self.offset);
        let record = self.raw(end)?.map(record::read).transpose();
        if record.is_err() {
            (self.block, self.offset) = (block, offset);
        }
        Ok(record?)
    }

    /// Kind and body of the next record before `end`, if there is one.
    pub fn raw(&mut self, end: u64) -> Result<Option<(u8, Bytes)>, ReadError> {
        let mut wanted = record::HEADER + 1;
        while self.offset < end {
            self.fill(wanted, end)?;
            match record::open(&self.block) {
                Ok((kind, body, length)) => {
                    self.skip(length);
                    return Ok(Some((kind, body)));
                }
                Err(RecordError::Short(more)) => wanted = more,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The number of a shard's next frame before `end`, if there is one, and its bytes; without
    /// them if it is not a frame but what came as state. What is skipped is not checked.
    pub fn next_of(
        &mut self,
        shard: u16,
        end: u64,
    ) -> Result<Option<(u64, Option<Bytes>)>, ReadError> {
        let mut wanted = record::HEADER + 1;
        while self.offset < end {
            self.fill(wanted, end)?;
            wanted = record::HEADER + 1;
            match record::glance(&self.block, shard) {
                Ok((length, false)) => self.skip(length),
                Ok((_, true)) => match self.next(end)? {
                    Some(Record::Frame { number, bytes, .. }) => {
                        return Ok(Some((number, Some(bytes))));
                    }
                    Some(Record::Intake { number, .. }) => return Ok(Some((number, None))),
                    Some(Record::Head(_) | Record::Batch(_)) | None => {}
                },
                Err(RecordError::Short(more)) => wanted = more,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Sees to it that so many bytes are there, of those before `end`.
    fn fill(&mut self, wanted: usize, end: u64) -> Result<(), ReadError> {
        if wanted <= self.block.len() {
            return Ok(());
        }
        let there = end - self.offset;
        if there < wanted as u64 {
            return Err(RecordError::Short(wanted).into());
        }
        let count = there.min(wanted.max(BLOCK) as u64) as usize;
        self.block = self.file.read(self.offset, count)?.into();
        if self.block.len() < wanted {
            return Err(RecordError::Short(wanted).into());
        }
        Ok(())
    }

    fn skip(&mut self, length: usize) {
        self.offset += length as u64;
        self.block = self.block.slice(length.min(self.block.len())..);
    }
}

/// Finds the next batch at or after `from`: what says where it is, and is right.
pub fn find_batch(
    file: &dyn Stored,
    from: u64,
    end: u64,
) -> io::Result<Option<(u64, record::Batch)>> {
    let mut at = from;
    while at < end {
        let count = (end - at).min(BLOCK as u64) as usize;
        let block = Bytes::from(file.read(at, count)?);
        for start in 0..block.len().saturating_sub(record::BATCH - 1) {
            if let Some(batch) = batch_at(&block, start, at + start as u64) {
                return Ok(Some((at + start as u64, batch)));
            }
        }
        // The next block begins so that a batch across the border is whole in it.
        let step = block.len().saturating_sub(record::BATCH - 1).max(1);
        at += step as u64;
    }
    Ok(None)
}

fn batch_at(block: &Bytes, start: usize, offset: u64) -> Option<record::Batch> {
    let length = ((record::BATCH - record::HEADER) as u32).to_le_bytes();
    if !block.get(start..)?.starts_with(&length) {
        return None;
    }
    let (kind, body, _) = record::open(&block.slice(start..)).ok()?;
    match record::read((kind, body)) {
        Ok(Record::Batch(batch)) if batch.offset == offset => Some(batch),
        _ => None,
    }
}
