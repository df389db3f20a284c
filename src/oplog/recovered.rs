//! What a start finds in the log on disk, and why it may find nothing that it can use.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crdt::{Epoch, Frame, Time};

use super::intake::Intake;
use super::record::{Place, Stretch};
use super::storage::Stored;

/// Why a log cannot be opened. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system says so.
    #[error("{path}: {error}")]
    Io {
        /// Which file or folder.
        path: String,
        /// What it says.
        error: io::Error,
    },
    /// A later build wrote it.
    #[error("{path}, byte {offset}: {error}; start that build, or restore a backup")]
    TooNew {
        /// Which file.
        path: String,
        /// Where in it.
        offset: u64,
        /// Which format.
        error: String,
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
    /// What the head of a segment says cannot be read, and it had been synced.
    #[error("{path}, byte {offset}: {error}; the segment cannot be told from a foreign file")]
    Head {
        /// Which file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        error: String,
    },
    /// A segment is not there, though those after it are, or the snapshot that it goes on from.
    #[error(
        "{path}: is missing; restore a backup, or move all of the directory away so that this \
             region fills up from others"
    )]
    Missing {
        /// Which file.
        path: String,
    },
}

/// What a crash has cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Which file.
    pub path: String,
    /// What is left of it, bytes.
    pub offset: u64,
    /// Bytes that were there beyond, here and in later files.
    pub bytes: u64,
}

/// Damage that has cost a shard frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, byte {}: {}", self.path, self.offset, self.why)
    }
}

/// A segment that was found.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Where every shard stands at its beginning.
    pub shards: Vec<Stretch>,
    /// The file.
    pub file: Arc<dyn Stored>,
}

/// What was found.
#[derive(Debug)]
pub struct Recovered {
    /// The segments, the oldest first.
    pub segments: Vec<Found>,
    /// The latest epoch that wrote any of it.
    pub epoch: Epoch,
    /// No stamp of these epochs has a later time: the last that was said of it.
    pub mark: Time,
    /// Whether it has had all that its region had acknowledged before it: what was said last.
    pub is_filled: bool,
    /// Where every shard stands at the end.
    pub shards: Vec<Stretch>,
    /// All before this place was synced, as anything in the log says.
    pub synced: Place,
    /// What was cut off.
    pub torn: Option<Torn>,
    /// Shards that lack frames.
    pub damaged: BTreeMap<u16, Damage>,
}

/// What is handed out in the course of reading.
#[derive(Debug)]
pub enum Replay<'a> {
    /// Where a shard stands at the beginning of the first segment that is read.
    From(u16, &'a Stretch),
    /// A frame.
    Frame(Frame),
    /// What a shard has taken in at this place.
    Intake(u16, Intake),
}
