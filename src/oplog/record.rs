//! Records: what a segment of the log on disk is made of, byte by byte (docs/storage.md).
//!
//! A record is its length, a checksum, a kind and a body. Each segment begins with a [`Head`],
//! which says whose it is and where every shard stands. Frames come in batches, one a write, and
//! each begins with a [`Batch`]: it says where it is, so that it is found again behind damage, and
//! up to where all was synced before it, so that damage is told from what a crash has cut off.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use crdt::{DecodeError, Epoch, Frame, Region, Time, Version};

use super::intake::Intake;

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u8 = 2;
/// Bytes before a record's kind: its length, which counts what follows the checksum, and that.
pub const HEADER: usize = 8;
/// Bytes of a batch's record.
pub const BATCH: usize = HEADER + 1 + 4 * 8 + 1;
/// Bytes before the region in the body of a head: format, five words, and a flag.
const HEAD_REGION: usize = 1 + 5 * 8 + 1;
/// Bytes before the frame in its record.
const FRAME_HEADER: usize = HEADER + 1 + 2 + 8;

mod kind {
    pub(super) const HEAD: u8 = 1;
    pub(super) const BATCH: u8 = 2;
    pub(super) const FRAME: u8 = 3;
    // Snapshots have 4 to 6.
    pub(super) const INTAKE: u8 = 7;
}

/// A place in the log on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the segment.
    pub segment: u64,
    /// Bytes before it in there.
    pub offset: u64,
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The database.
    pub database: String,
    /// The region.
    pub region: Region,
    /// How many shards the database has.
    pub shards: u16,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (database, region) = (&self.database, self.region.id());
        write!(
            f,
            "database {database}, region {region}, {} shards",
            self.shards
        )
    }
}

/// Where a shard stands at the beginning of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The number of its first frame from here on.
    pub first: u64,
    /// The last op of each origin in the frames before that, or held besides.
    pub ends: Version,
    /// Of each origin, an op up to which not all were in the log though they are held: they came
    /// as state, or their loss was accepted.
    pub lacks: Version,
}

impl Stretch {
    /// Goes on by a frame.
    pub fn add(&mut self, frame: &Frame) {
        self.first += 1;
        if self.ends.get(frame.origin()) < frame.prev() {
            self.lacks.advance(frame.origin(), frame.prev());
        }
        self.ends.advance(frame.origin(), frame.last());
    }

    /// Goes on by what came as state.
    pub fn take_in(&mut self, intake: &Intake) {
        self.first += 1;
        if let Intake::Held(ops) = intake {
            for (origin, time) in ops.iter() {
                if self.ends.get(origin) < time {
                    self.lacks.advance(origin, time);
                    self.ends.advance(origin, time);
                }
            }
        }
    }
}

/// The first record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose it is.
    pub owner: Owner,
    /// The number of the segment, which is one more than that of the one before.
    pub number: u64,
    /// The epoch of the life that writes it.
    pub epoch: Epoch,
    /// No stamp of that life has a later time until a batch says otherwise.
    pub mark: Time,
    /// All before this place had been synced when it was written.
    pub synced: Place,
    /// Whether the log has had all that its region had acknowledged before it: what a life holds
    /// that is still to be filled up by others is less.
    pub is_filled: bool,
    /// Every shard.
    pub shards: Vec<Stretch>,
}

/// The first record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where it is in its segment.
    pub offset: u64,
    /// All before this place had been synced when it was written.
    pub synced: Place,
    /// No stamp has a later time until another batch says otherwise.
    pub mark: Time,
    /// As in a [`Head`].
    pub is_filled: bool,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The beginning of a segment.
    Head(Box<Head>),
    /// The beginning of a batch.
    Batch(Batch),
    /// A frame of ops.
    Frame {
        /// Whose it is.
        shard: u16,
        /// Its number in the log of the shard.
        number: u64,
        /// Its bytes, as they are on the wire.
        bytes: Bytes,
    },
    /// What came as state.
    Intake {
        /// Who has taken it in.
        shard: u16,
        /// Its number among the frames of the shard.
        number: u64,
        /// What it is.
        intake: Intake,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is less than it says it has: so many bytes are wanted.
    #[error("a record is cut off")]
    Short(usize),
    /// It has changed.
    #[error("a record's checksum is wrong")]
    Checksum,
    /// A later build wrote it.
    #[error("record format {0} is newer than {FORMAT}, the newest that this build reads")]
    TooNew(u8),
    /// It is not what it should be.
    #[error("a record is malformed")]
    Malformed,
}

impl From<DecodeError> for RecordError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// Opens the record at the beginning of `bytes`. Returns its kind, its body and its length.
pub fn open(bytes: &Bytes) -> Result<(u8, Bytes, usize), RecordError> {
    let (length, kind) = peek(bytes)?;
    if bytes.len() < length {
        return Err(RecordError::Short(length));
    }
    let content = bytes.slice(HEADER..length);
    if checksum_in(bytes) != Some(crc32c::crc32c(&content)) {
        return Err(RecordError::Checksum);
    }
    Ok((kind, content.slice(1..), length))
}

/// What a record of the log says.
pub fn read((kind, body): (u8, Bytes)) -> Result<Record, RecordError> {
    Ok(match kind {
        kind::HEAD => Record::Head(Box::new(read_head(&body)?)),
        kind::BATCH => Record::Batch(read_batch(&body)?),
        kind::FRAME => {
            let (shard, number, bytes) = numbered(&body)?;
            Record::Frame {
                shard,
                number,
                bytes,
            }
        }
        kind::INTAKE => {
            let (shard, number, bytes) = numbered(&body)?;
            Record::Intake {
                shard,
                number,
                intake: Intake::decode(&bytes)?,
            }
        }
        _ => return Err(RecordError::Malformed),
    })
}

/// Shard and number at the beginning of a body, and what follows.
fn numbered(body: &Bytes) -> Result<(u16, u64, Bytes), RecordError> {
    let mut rest: &[u8] = body;
    let shard = take::<2>(&mut rest).map(u16::from_le_bytes)?;
    let number = take::<8>(&mut rest).map(u64::from_le_bytes)?;
    Ok((shard, number, body.slice(body.len() - rest.len()..)))
}

/// The length of the record at the beginning of `bytes`, and whether it has a number among the
/// frames of that shard, as it says: nothing is checked.
pub fn glance(bytes: &[u8], shard: u16) -> Result<(usize, bool), RecordError> {
    let (length, kind) = peek(bytes)?;
    let mut rest = bytes.get(HEADER + 1..).unwrap_or_default();
    let is_wanted = matches!(kind, kind::FRAME | kind::INTAKE) && {
        let found = take::<2>(&mut rest).map_err(|_| RecordError::Short(FRAME_HEADER))?;
        u16::from_le_bytes(found) == shard
    };
    Ok((length, is_wanted))
}

/// Length and kind of the record at the beginning of `bytes`.
fn peek(bytes: &[u8]) -> Result<(usize, u8), RecordError> {
    let short = RecordError::Short(HEADER + 1);
    let mut rest = bytes;
    let content = take::<4>(&mut rest).map_err(|_| short)?;
    let content = u32::from_le_bytes(content) as usize;
    let _checksum = take::<4>(&mut rest).map_err(|_| short)?;
    let kind = *rest.first().ok_or(short)?;
    if content == 0 {
        return Err(RecordError::Malformed);
    }
    Ok((HEADER + content, kind))
}

fn checksum_in(bytes: &[u8]) -> Option<u32> {
    let checksum = bytes.get(4..HEADER)?.try_into().ok()?;
    Some(u32::from_le_bytes(checksum))
}

fn read_head(body: &[u8]) -> Result<Head, RecordError> {
    let mut rest = body;
    let [format] = take::<1>(&mut rest)?;
    if FORMAT < format {
        return Err(RecordError::TooNew(format));
    }
    if format == 0 {
        return Err(RecordError::Malformed);
    }
    let number = take::<8>(&mut rest).map(u64::from_le_bytes)?;
    let epoch = take::<8>(&mut rest).map(u64::from_le_bytes)?;
    let mark = take::<8>(&mut rest).map(u64::from_le_bytes)?;
    let synced = Place {
        segment: take::<8>(&mut rest).map(u64::from_le_bytes)?,
        offset: take::<8>(&mut rest).map(u64::from_le_bytes)?,
    };
    let is_filled = flag(&mut rest)?;
    let [region] = take::<1>(&mut rest)?;
    let [length] = take::<1>(&mut rest)?;
    let (name, mut rest) = rest
        .split_at_checked(length.into())
        .ok_or(RecordError::Malformed)?;
    let database = String::from_utf8(name.to_vec()).map_err(|_| RecordError::Malformed)?;
    let count = take::<2>(&mut rest).map(u16::from_le_bytes)?;
    let mut shards = Vec::new();
    for _ in 0..count {
        let first = take::<8>(&mut rest).map(u64::from_le_bytes)?;
        let ends = Version::decode(&mut rest)?;
        // The first format did not tell.
        let lacks = if format == 1 {
            Version::new()
        } else {
            Version::decode(&mut rest)?
        };
        shards.push(Stretch { first, ends, lacks });
    }
    if !rest.is_empty() {
        return Err(RecordError::Malformed);
    }
    let owner = Owner {
        database,
        region: Region::new(region).ok_or(RecordError::Malformed)?,
        shards: count,
    };
    Ok(Head {
        owner,
        number,
        epoch: Epoch(epoch),
        mark: Time(mark),
        synced,
        is_filled,
        shards,
    })
}

/// The head at the beginning of `bytes` as one of another region, in the format that it has; and
/// its length, which is the same.
pub fn head_of_region(bytes: &Bytes, region: Region) -> Result<(Vec<u8>, usize), RecordError> {
    let (kind, body, length) = open(bytes)?;
    if kind != kind::HEAD {
        return Err(RecordError::Malformed);
    }
    read_head(&body)?;
    let mut body = body.to_vec();
    *body.get_mut(HEAD_REGION).ok_or(RecordError::Malformed)? = region.id();
    let mut head = Vec::with_capacity(length);
    put(&mut head, kind, |out| out.extend_from_slice(&body));
    Ok((head, length))
}

fn read_batch(body: &[u8]) -> Result<Batch, RecordError> {
    let mut rest = body;
    let mut word = || take::<8>(&mut rest).map(u64::from_le_bytes);
    let batch = Batch {
        offset: word()?,
        synced: Place {
            segment: word()?,
            offset: word()?,
        },
        mark: Time(word()?),
        is_filled: flag(&mut rest)?,
    };
    if rest.is_empty() {
        Ok(batch)
    } else {
        Err(RecordError::Malformed)
    }
}

fn flag(rest: &mut &[u8]) -> Result<bool, RecordError> {
    match take::<1>(rest)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(RecordError::Malformed),
    }
}

/// Takes so many bytes from the front. Inside a record whose checksum is right they are there.
pub fn take<const COUNT: usize>(rest: &mut &[u8]) -> Result<[u8; COUNT], RecordError> {
    let (taken, left) = rest
        .split_first_chunk::<COUNT>()
        .ok_or(RecordError::Malformed)?;
    *rest = left;
    Ok(*taken)
}

/// Appends a record of a kind, whose body `write` appends.
pub fn put(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(out, kind);
    write(out);
    end(out, start);
}

/// Appends a head.
pub fn put_head(out: &mut Vec<u8>, head: &Head) {
    let start = begin(out, kind::HEAD);
    out.push(FORMAT);
    let Place { segment, offset } = head.synced;
    for word in [head.number, head.epoch.0, head.mark.0, segment, offset] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.push(head.is_filled.into());
    let name = head.owner.database.as_bytes();
    out.push(head.owner.region.id());
    out.push(u8::try_from(name.len()).expect("names of databases are short"));
    out.extend_from_slice(name);
    out.extend_from_slice(&head.owner.shards.to_le_bytes());
    for stretch in &head.shards {
        out.extend_from_slice(&stretch.first.to_le_bytes());
        stretch.ends.encode(out);
        stretch.lacks.encode(out);
    }
    end(out, start);
}

/// The record of a batch.
pub fn batch(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(BATCH);
    let start = begin(&mut out, kind::BATCH);
    let Batch {
        offset,
        synced,
        mark,
        is_filled,
    } = batch;
    for word in [*offset, synced.segment, synced.offset, mark.0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.push((*is_filled).into());
    end(&mut out, start);
    debug_assert_eq!(
        out.len(),
        BATCH,
        "its length does not depend on what it says"
    );
    out
}

/// Appends a frame.
pub fn put_frame(out: &mut Vec<u8>, shard: u16, number: u64, frame: &[u8]) {
    out.reserve(FRAME_HEADER + frame.len());
    let start = begin_numbered(out, kind::FRAME, shard, number);
    out.extend_from_slice(frame);
    end(out, start);
}

/// Appends what a shard takes in.
pub fn put_intake(out: &mut Vec<u8>, shard: u16, number: u64, intake: &Intake) {
    let start = begin_numbered(out, kind::INTAKE, shard, number);
    intake.encode(out);
    end(out, start);
}

fn begin_numbered(out: &mut Vec<u8>, kind: u8, shard: u16, number: u64) -> usize {
    let start = begin(out, kind);
    out.extend_from_slice(&shard.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    start
}

/// Begins a record. Returns where.
fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    out.push(kind);
    start
}

/// Ends the record that began at `start`.
fn end(out: &mut [u8], start: usize) {
    let Some((header, content)) = out
        .get_mut(start..)
        .and_then(|record| record.split_at_mut_checked(HEADER))
    else {
        return;
    };
    let length = (content.len() as u32).to_le_bytes();
    let checksum = crc32c::crc32c(content).to_le_bytes();
    let words = length.into_iter().chain(checksum);
    header
        .iter_mut()
        .zip(words)
        .for_each(|(to, from)| *to = from);
}
