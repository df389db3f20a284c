//! The log on disk of a node: the frames of all its shards in one row of segments, so that one
//! write and one sync serve them all.
//!
//! It is a reader of the shards' logs: what has gathered in them since the last time is the next
//! batch. A batch that could not be written stays, and is tried again with what comes after it. A
//! sync that failed is never tried again ([`Journal::synced`] is not told of it then, by whoever
//! does that without holding the journal).
//!
//! Every life of a node begins a segment of its own, with its epoch. Files of an earlier life are
//! read; what nothing proves to have been synced of them is written once more, in its place, before
//! anything rests on it: a sync may have failed, after which the system shows what the disk has not
//! got, and says of the next sync that it was good. Segments are cut as wholes, the oldest first.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crdt::{Epoch, Time};

use super::Entry;
use super::record::{self, BATCH, Batch, Head, Owner, Place, Stretch};
use super::recovered::Recovered;
use super::segment;
use super::storage::{Storage, Stored};

/// A segment that is kept.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    shards: Vec<Stretch>,
    file: Arc<dyn Stored>,
}

impl Segment {
    /// Writes once more what is not before a place.
    fn write_again(&self, synced: Place) -> io::Result<()> {
        let mut at = match self.number.cmp(&synced.segment) {
            Ordering::Less => self.bytes,
            Ordering::Equal => synced.offset,
            Ordering::Greater => 0,
        };
        while at < self.bytes {
            let count = (self.bytes - at).min(BLOCK);
            let bytes = self.file.read(at, count as usize)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.append(at, &bytes)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    storage: Arc<dyn Storage>,
    owner: Owner,
    epoch: Epoch,
    /// Bytes after which a segment is left for the next.
    segment_bytes: u64,
    /// The oldest first; the last is written.
    segments: VecDeque<Segment>,
    /// The batch that is being made, behind room for its record.
    batch: Vec<u8>,
    /// Where every shard stands behind that.
    shards: Vec<Stretch>,
    synced: Place,
    mark: Time,
    /// The mark that is written, and the one that is synced.
    mark_written: Time,
    mark_synced: Time,
    /// Segments that have been left and are not synced.
    left: Vec<Arc<dyn Stored>>,
    /// Whether a segment's name is not synced.
    is_new: bool,
    /// The segment that goes on from the newest snapshot; 0 if there is none.
    snapshot: u64,
    /// Whether it has had all that its region had acknowledged before it.
    is_filled: bool,
}

/// What a sync is about.
#[derive(Debug)]
pub struct Sync {
    files: Vec<Arc<dyn Stored>>,
    folder: Option<Arc<dyn Storage>>,
    place: Place,
    mark: Time,
}

impl Sync {
    /// Syncs. Takes as long as the disk takes.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync()?;
        }
        match &self.folder {
            Some(storage) => storage.sync_folder(segment::FOLDER),
            None => Ok(()),
        }
    }
}

/// Where frames of a shard are.
#[derive(Debug)]
pub struct Located {
    /// The number of the segment.
    pub segment: u64,
    /// Its file.
    pub file: Arc<dyn Stored>,
    /// Its bytes that are written.
    pub end: u64,
    /// The number of the shard's first frame in the segment after it, if there is one.
    pub next: Option<u64>,
}

impl Journal {
    /// Begins a life: the log goes on behind what was recovered, in a segment of its own, which is
    /// synced when this returns.
    pub fn begin(
        storage: Arc<dyn Storage>,
        owner: Owner,
        recovered: Recovered,
        life: Life,
    ) -> io::Result<Self> {
        let segments = recovered.segments.into_iter().map(|found| Segment {
            number: found.number,
            bytes: found.bytes,
            shards: found.shards,
            file: found.file,
        });
        let segments: VecDeque<Segment> = segments.collect();
        // A life that was killed may have left what the system has and the disk has not. The head
        // says that all before it is synced.
        for segment in &segments {
            segment.write_again(recovered.synced)?;
            segment.file.sync()?;
        }
        storage.sync_folder(segment::FOLDER)?;
        let number = segments.back().map_or(1, |last| last.number + 1);
        let mut journal = Self {
            storage,
            owner,
            epoch: life.epoch,
            segment_bytes: life.segment_bytes,
            segments,
            batch: vec![0; BATCH],
            shards: recovered.shards,
            synced: Place {
                segment: number,
                offset: 0,
            },
            mark: life.mark,
            mark_written: Time::ZERO,
            mark_synced: Time::ZERO,
            left: Vec::new(),
            is_new: true,
            snapshot: life.snapshot,
            is_filled: recovered.is_filled,
        };
        journal.add_segment(number)?;
        let sync = journal.sync();
        sync.run()?;
        journal.synced(&sync);
        Ok(journal)
    }

    /// Adds a segment, whose head says where everything stands.
    fn add_segment(&mut self, number: u64) -> io::Result<()> {
        let head = Head {
            owner: self.owner.clone(),
            number,
            epoch: self.epoch,
            mark: self.mark,
            synced: self.synced,
            is_filled: self.is_filled,
            shards: self.shards.clone(),
        };
        let mut bytes = Vec::new();
        record::put_head(&mut bytes, &head);
        let name = segment::name(number);
        let file = self.storage.create(&name)?;
        if let Err(error) = file.append(0, &bytes) {
            // It is made again when it is needed the next time.
            self.storage.remove(&name)?;
            return Err(error);
        }
        self.is_new = true;
        self.mark_written = head.mark;
        if let Some(last) = self.segments.back() {
            self.left.push(Arc::clone(&last.file));
        }
        self.segments.push_back(Segment {
            number,
            bytes: bytes.len() as u64,
            shards: head.shards,
            file,
        });
        Ok(())
    }

    /// The number of a shard's next frame.
    pub fn next(&self, shard: u16) -> u64 {
        self.shards[usize::from(shard)].first
    }

    /// Adds to the batch what is next of a shard.
    pub fn push(&mut self, shard: u16, entry: Entry<'_>) {
        let stretch = &mut self.shards[usize::from(shard)];
        match entry {
            Entry::Frame(frame) => {
                record::put_frame(&mut self.batch, shard, stretch.first, frame.bytes());
                stretch.add(frame);
            }
            Entry::Intake(intake) => {
                record::put_intake(&mut self.batch, shard, stretch.first, intake);
                stretch.take_in(intake);
            }
        }
    }

    /// Sets the time that no stamp goes beyond. It counts once it is written and synced; at the end
    /// of a life it may be lower than before.
    pub const fn set_mark(&mut self, mark: Time) {
        self.mark = mark;
    }

    /// The mark that is synced.
    pub const fn synced_mark(&self) -> Time {
        self.mark_synced
    }

    /// Bytes of frames that wait to be written.
    pub fn waiting(&self) -> usize {
        self.batch.len() - BATCH
    }

    /// Writes the batch, if there is anything in it. After an error it waits to be tried again.
    /// Returns where every shard stands at the beginning of a segment that this has begun.
    pub fn write(&mut self) -> io::Result<Option<Vec<Stretch>>> {
        if 0 < self.waiting() {
            self.write_batch()?;
        }
        let last = self.segments.back().expect("a journal has a segment");
        if last.bytes < self.segment_bytes {
            return Ok(None);
        }
        self.roll().map(Some)
    }

    /// Begins a segment; the batch has been written. Returns where every shard stands there.
    pub fn roll(&mut self) -> io::Result<Vec<Stretch>> {
        debug_assert_eq!(self.waiting(), 0, "a head is about what is written");
        self.add_segment(self.number() + 1)?;
        Ok(self.shards.clone())
    }

    /// The number of the segment that is written.
    pub fn number(&self) -> u64 {
        self.segments
            .back()
            .expect("a journal has a segment")
            .number
    }

    /// Notes that a snapshot is there, from which this segment goes on.
    pub const fn snapshot_is(&mut self, segment: u64) {
        self.snapshot = segment;
    }

    /// Bytes of the segments that a start would read.
    pub fn bytes_since_snapshot(&self) -> u64 {
        let since = self.segments.iter().rev();
        since
            .take_while(|segment| self.snapshot <= segment.number)
            .map(|segment| segment.bytes)
            .sum()
    }

    /// Where every shard stands behind the oldest segment, if a snapshot makes that segment
    /// superfluous for a start.
    pub fn behind_oldest(&self) -> Option<&[Stretch]> {
        let oldest = self.segments.front()?;
        let next = self.segments.get(1)?;
        (oldest.number < self.snapshot).then_some(&*next.shards)
    }

    /// Writes what there is, be it nothing but the mark.
    pub fn write_batch(&mut self) -> io::Result<()> {
        let (synced, mark) = (self.synced, self.mark);
        let last = self.segments.back_mut().expect("a journal has a segment");
        let batch = record::batch(&Batch {
            offset: last.bytes,
            synced,
            mark,
            is_filled: self.is_filled,
        });
        self.batch[..BATCH].copy_from_slice(&batch);
        if let Err(error) = last.file.append(last.bytes, &self.batch) {
            // A part of it may be there; what is written next goes over it, or a start cuts it off.
            let _ = last.file.truncate(last.bytes);
            return Err(error);
        }
        last.bytes += self.batch.len() as u64;
        self.mark_written = mark;
        self.batch.truncate(BATCH);
        if BATCH_KEPT < self.batch.capacity() {
            self.batch.shrink_to(BATCH_KEPT);
        }
        Ok(())
    }

    /// What there is to sync: to be run without holding the journal, and told to
    /// [`Journal::synced`] if it succeeds. If it does not, the journal must not be used any more.
    pub fn sync(&mut self) -> Sync {
        let last = self.segments.back().expect("a journal has a segment");
        let mut files = std::mem::take(&mut self.left);
        files.push(Arc::clone(&last.file));
        Sync {
            files,
            folder: std::mem::take(&mut self.is_new).then(|| Arc::clone(&self.storage)),
            place: Place {
                segment: last.number,
                offset: last.bytes,
            },
            mark: self.mark_written,
        }
    }

    /// Whether all that is written is synced.
    pub fn is_synced(&self) -> bool {
        let last = self.segments.back().expect("a journal has a segment");
        let end = Place {
            segment: last.number,
            offset: last.bytes,
        };
        end <= self.synced
    }

    /// Notes that a sync has succeeded.
    pub fn synced(&mut self, sync: &Sync) {
        self.synced = self.synced.max(sync.place);
        self.mark_synced = sync.mark;
    }

    /// Whether it has had all that its region had acknowledged before it.
    pub const fn is_filled(&self) -> bool {
        self.is_filled
    }

    /// Notes that it has. It counts once it is written and synced.
    pub const fn fill(&mut self) {
        self.is_filled = true;
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Where every shard stands at the beginning of each segment, the oldest first.
    pub fn stretches(&self) -> impl Iterator<Item = &[Stretch]> {
        self.segments.iter().map(|segment| &*segment.shards)
    }

    /// Removes the oldest segment, unless it is the one that is written. Returns whether it has.
    pub fn cut_oldest(&mut self) -> io::Result<bool> {
        if self.segments.len() < 2 {
            return Ok(false);
        }
        let number = self.segments[0].number;
        self.storage.remove(&segment::name(number))?;
        self.segments.pop_front();
        Ok(true)
    }

    /// The segment with a shard's frame of this number, or with the one that will be next.
    pub fn locate(&self, shard: u16, number: u64) -> Option<Located> {
        let shard = usize::from(shard);
        let after = self
            .segments
            .partition_point(|segment| segment.shards[shard].first <= number);
        let segment = &self.segments[after.checked_sub(1)?];
        Some(Located {
            segment: segment.number,
            file: Arc::clone(&segment.file),
            end: segment.bytes,
            next: self
                .segments
                .get(after)
                .map(|segment| segment.shards[shard].first),
        })
    }
}

/// What a life of a node begins with.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Its epoch, above all that wrote before.
    pub epoch: Epoch,
    /// No stamp of it has a later time until the mark is raised.
    pub mark: Time,
    /// Bytes after which a segment is left for the next.
    pub segment_bytes: u64,
    /// The segment that goes on from the newest snapshot; 0 if there is none.
    pub snapshot: u64,
}

/// Bytes of room that a batch keeps for the next.
const BATCH_KEPT: usize = 1 << 20;
/// Bytes that are written once more at a time.
const BLOCK: u64 = 1 << 20;
