//! The file, read from front to back in memory for its largest value.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::limits::KIB;
use crate::rdb::{self, Item, Problem, Reader};

/// Bytes that are read at a time, at least.
const READ_BYTES: usize = 256 * KIB;

/// Why there is no next item.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the system says.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// What is in it.
    #[error(transparent)]
    Format(#[from] rdb::Error),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    bytes: u64,
    reader: Reader,
    /// What has been read of it; before `taken` all has been handed out.
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            file,
            bytes,
            reader: Reader::new(),
            buffer: Vec::new(),
            taken: 0,
            ended: false,
        })
    }

    /// How many bytes the file has.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them have been handed out.
    pub(super) const fn at(&self) -> u64 {
        self.reader.at()
    }

    /// Hands the next item out, and returns what is made of it.
    pub(super) fn next<R>(&mut self, visit: impl FnOnce(&Item<'_>) -> R) -> Result<R, SourceError> {
        loop {
            match self.reader.next(&self.buffer[self.taken..]) {
                Ok((item, taken)) => {
                    let made = visit(&item);
                    self.taken += taken;
                    return Ok(made);
                }
                Err(error) if error.problem == Problem::Truncated && !self.ended => self.fill()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads as much again as there is, so that a large value is looked at only a few times.
    fn fill(&mut self) -> Result<(), io::Error> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let wanted = self.buffer.len().max(READ_BYTES);
        let read = (&self.file)
            .take(wanted as u64)
            .read_to_end(&mut self.buffer)?;
        self.ended = read < wanted;
        Ok(())
    }
}
