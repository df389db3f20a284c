//! The op log of a shard: every frame of ops it has issued or applied, in that order.
//!
//! The shard appends under its lock; links read, each with a [`Cursor`] of its own. What is in
//! memory is bounded: all logs of a node share a [`Budget`], and whichever appends while that is
//! used up drops its oldest frames. The newest is always kept whole. A reader that falls behind
//! what is kept is told so, never skipped ahead ([`Read::Behind`]); whether a log reaches back to
//! what somebody lacks is known per origin ([`Log::start`]).
//!
//! With a data directory, the [`journal`] is one more reader ([`Log::take`]): it writes the frames
//! of all shards of the node to disk, and nothing is dropped from memory before it has them. What
//! it keeps extends the log at its old end ([`Read::OnDisk`]).

pub mod backlog;
mod blocks;
pub mod faulty;
mod frames;
pub mod intake;
pub mod journal;
pub mod record;
pub mod recover;
pub mod recovered;
pub mod segment;
pub mod storage;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use crdt::{Frame, Origin, Region, Version};

use blocks::{Blocks, PIECE_BYTES_MAX};
use frames::Frames;
use intake::Intake;
use record::Stretch;

/// Bytes that all logs of a node may hold, and memory for them.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    /// What is left of that for frames beside the memory that is kept ready for them.
    frames_max: u64,
    used: AtomicU64,
    blocks: Blocks,
}

/// Bytes that a frame takes in memory, or what has a number and is none.
fn cost(frame: Option<&Frame>) -> u64 {
    let bytes = frame.map_or(0, |frame| frame.bytes().len());
    (bytes + size_of::<Option<Frame>>()) as u64
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            frames_max: bytes_max - blocks::READY_BYTES_MAX.min(bytes_max / 8),
            used: AtomicU64::new(0),
            blocks: Blocks::default(),
        }
    }

    /// How many bytes the frames of the logs take.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// About how many bytes of memory they take, what is kept ready included. Costs loads.
    pub fn memory(&self) -> u64 {
        self.used() + self.blocks.ready_bytes()
    }

    /// How many bytes the logs may take, with the memory that is kept ready for them.
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether it is time for [`Self::make_room`].
    pub fn lacks_room(&self) -> bool {
        self.blocks.is_low()
    }

    /// Touches memory for frames to come, so that no log has to wait for the system. To be called
    /// where that may take its time.
    pub fn make_room(&self) {
        self.blocks.fill();
    }

    fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A place in a log: the number of the next frame to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// What there is at a cursor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Read<'a> {
    /// The next frame that was asked for, and the cursor behind it.
    Frame(&'a Frame, Cursor),
    /// Nothing more that was asked for: the cursor to read from next time.
    End(Cursor),
    /// What was there is on disk alone.
    OnDisk,
    /// What was there has been dropped.
    Behind,
}

/// Whether a log keeps anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What the budget allows.
    WithinBudget,
    /// Nothing: there is no other region to read it.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    frames: Frames,
    /// The number of the oldest frame that is kept.
    first: u64,
    bytes: u64,
    /// The last op of each origin in the log or dropped from it.
    ends: Version,
    /// Of each origin, the op after which all are in memory.
    dropped: Version,
    keep: Keep,
    budget: Arc<Budget>,
    /// What is on disk, if anything goes there.
    disk: Option<OnDisk>,
    /// Where the next frame goes.
    room: BytesMut,
}

/// What the journal takes.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A frame.
    Frame(&'a Frame),
    /// What came as state.
    Intake(&'a Intake),
}

/// What a log knows of its frames on disk.
#[derive(Debug)]
struct OnDisk {
    /// Where it stands at the beginning of each segment that is kept, the oldest first.
    stretches: VecDeque<Stretch>,
    /// The number of the next frame that the journal takes.
    next: u64,
    /// Of each origin, the op after which all are kept, in memory or on disk.
    dropped: Version,
    /// What came as state and the journal has yet to take, and the bytes of it.
    intakes: VecDeque<Intake>,
    intake_bytes: u64,
}

impl Log {
    /// An empty log.
    pub fn new(keep: Keep, budget: Arc<Budget>) -> Self {
        Self {
            room: BytesMut::new(),
            frames: Frames::new(),
            first: 0,
            bytes: 0,
            ends: Version::new(),
            dropped: Version::new(),
            keep,
            budget,
            disk: None,
        }
    }

    /// Goes on from what is on disk: `stretches` are of the segments that are kept, the last one
    /// of what comes from now on.
    pub fn go_on(&mut self, stretches: VecDeque<Stretch>) {
        let end = stretches.back().cloned().unwrap_or_default();
        let start = stretches.front().cloned().unwrap_or_default();
        self.first = end.first;
        self.dropped.clone_from(&end.ends);
        self.ends = end.ends;
        let mut dropped = start.ends;
        dropped.join(&end.lacks);
        self.disk = Some(OnDisk {
            stretches,
            next: end.first,
            dropped,
            intakes: VecDeque::new(),
            intake_bytes: 0,
        });
    }

    /// A segment begins on disk.
    pub fn begin_segment(&mut self, stretch: Stretch) {
        if let Some(disk) = &mut self.disk {
            disk.stretches.push_back(stretch);
        }
    }

    /// The oldest segment was removed from disk.
    pub fn cut_segment(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.stretches.pop_front();
            if let Some(oldest) = disk.stretches.front() {
                disk.dropped.join(&oldest.ends);
            }
        }
    }

    /// The last op of each origin that was ever in it.
    pub const fn ends(&self) -> &Version {
        &self.ends
    }

    /// Notes what has been taken in, for the disk, if there is one: among the frames.
    pub fn note(&mut self, intake: Intake) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        let waiting = intake.cost();
        disk.intake_bytes += waiting;
        disk.intakes.push_back(intake);
        let bytes = cost(None);
        let blocks = &self.budget.blocks;
        self.frames.push_back(None, || blocks.take_chunk());
        self.bytes += bytes;
        self.budget.take(bytes + waiting);
        self.shrink();
    }

    /// Bytes of what has been taken in and the journal has yet to take.
    pub fn intake_bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.intake_bytes)
    }

    /// Ops up to these are held, and never were in it.
    pub fn join(&mut self, ops: &Version) {
        self.note(Intake::Held(ops.clone()));
        for (origin, time) in ops.iter() {
            if self.ends.get(origin) < time {
                self.ends.advance(origin, time);
                self.dropped.advance(origin, time);
                if let Some(disk) = &mut self.disk {
                    disk.dropped.advance(origin, time);
                }
            }
        }
    }

    /// Hands out what was not handed out before, the oldest first.
    pub fn take(&mut self, mut take: impl FnMut(Entry<'_>)) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        let taken = disk.next.saturating_sub(self.first) as usize;
        for frame in self.frames.from(taken) {
            if let Some(frame) = frame {
                take(Entry::Frame(frame));
            } else if let Some(intake) = disk.intakes.pop_front() {
                take(Entry::Intake(&intake));
            }
        }
        self.budget
            .give_back(std::mem::take(&mut disk.intake_bytes));
        disk.next = self.first + self.frames.len() as u64;
        self.shrink();
    }

    /// Memory for a frame of so many bytes, to be written and appended; a large one finds its own.
    pub fn room(&mut self, bytes: usize) -> BytesMut {
        if PIECE_BYTES_MAX < bytes {
            return BytesMut::new();
        }
        if !self.room.try_reclaim(bytes) {
            self.room = self.budget.blocks.take();
        }
        let rest = self.room.split_off(bytes);
        std::mem::replace(&mut self.room, rest)
    }

    /// Appends a frame that was written elsewhere: small ones get memory of the log's own, so that
    /// what they came in is free again, and warm, for the next.
    pub fn append_copy(&mut self, frame: Frame) {
        let bytes = frame.bytes().len();
        if self.keep == Keep::Nothing || PIECE_BYTES_MAX < bytes {
            self.append(frame);
        } else {
            let room = self.room(bytes);
            let copy = frame.copied(room, self.frames.back());
            self.append(copy);
        }
    }

    /// Appends a frame, and drops the oldest ones while the budget is overdrawn.
    pub fn append(&mut self, frame: Frame) {
        let bytes = cost(Some(&frame));
        if self.ends.get(frame.origin()) < frame.prev() {
            // Ops before it never were in this log.
            self.dropped.advance(frame.origin(), frame.prev());
            if let Some(disk) = &mut self.disk {
                disk.dropped.advance(frame.origin(), frame.prev());
            }
        }
        self.ends.advance(frame.origin(), frame.last());
        let blocks = &self.budget.blocks;
        self.frames.push_back(Some(frame), || blocks.take_chunk());
        self.bytes += bytes;
        self.budget.take(bytes);
        self.shrink();
    }

    /// Drops the oldest frames while there are too many, as far as the journal has them.
    fn shrink(&mut self) {
        let kept_min = match self.keep {
            Keep::WithinBudget => 1,
            Keep::Nothing => 0,
        };
        let taken = self.disk.as_ref().map_or(u64::MAX, |disk| disk.next);
        while kept_min < self.frames.len() && self.first < taken && self.is_too_large() {
            self.drop_oldest();
        }
    }

    /// Drops the oldest frames but the newest until there are no more than so many bytes.
    pub fn trim(&mut self, bytes: u64) {
        while bytes < self.bytes && 1 < self.frames.len() && self.disk.is_none() {
            self.drop_oldest();
        }
    }

    fn is_too_large(&self) -> bool {
        self.keep == Keep::Nothing || self.budget.frames_max < self.budget.used()
    }

    fn drop_oldest(&mut self) {
        if let Some((frame, chunk)) = self.frames.pop_front() {
            let bytes = cost(frame.as_ref());
            self.first += 1;
            self.bytes -= bytes;
            self.budget.give_back(bytes);
            if let Some(frame) = frame {
                self.dropped.advance(frame.origin(), frame.last());
                self.budget.blocks.give_back(frame.into_bytes());
            }
            if let Some(chunk) = chunk {
                self.budget.blocks.give_back_chunk(chunk);
            }
        }
    }

    /// A cursor from which the log holds every op of `region`'s origins that `applied` lacks, or
    /// `None` if it no longer reaches back to that.
    pub fn start(&self, region: Region, applied: &Version) -> Option<Cursor> {
        let has = |before: &Version| {
            let mut before = before.iter().filter(|(origin, _)| origin.region == region);
            before.all(|(origin, time)| time <= applied.get(origin))
        };
        if has(&self.dropped) {
            return Some(Cursor(self.first));
        }
        let disk = self.disk.as_ref().filter(|disk| has(&disk.dropped))?;
        let latest = disk.stretches.iter().rev().find(|start| has(&start.ends));
        latest.map(|stretch| Cursor(stretch.first))
    }

    /// The next frame at or after a cursor that is `wanted`. Costs a step for each that is not.
    pub fn read(&self, cursor: Cursor, mut wanted: impl FnMut(&Frame) -> bool) -> Read<'_> {
        let Some(skip) = cursor.0.checked_sub(self.first) else {
            let oldest = self.disk.as_ref().and_then(|disk| disk.stretches.front());
            return match oldest {
                Some(oldest) if oldest.first <= cursor.0 => Read::OnDisk,
                _ => Read::Behind,
            };
        };
        let rest = (cursor.0..).zip(self.frames.from(skip as usize));
        for (number, frame) in rest {
            if let Some(frame) = frame.filter(|frame| wanted(frame)) {
                return Read::Frame(frame, Cursor(number + 1));
            }
        }
        Read::End(self.end())
    }

    /// The cursor behind the newest frame.
    pub fn end(&self) -> Cursor {
        Cursor(self.first + self.frames.len() as u64)
    }

    /// How many ops of other regions than `peer` it holds that `applied` lacks. Costs a step for
    /// each frame back to where nothing is lacking.
    pub fn pending(&self, peer: Region, applied: &Version) -> u64 {
        let is_lacking =
            |&(origin, end): &(Origin, _)| origin.region != peer && applied.get(origin) < end;
        let mut lacking: BTreeSet<Origin> = self
            .ends
            .iter()
            .filter(is_lacking)
            .map(|(origin, _)| origin)
            .collect();
        let mut ops = 0;
        for frame in self.frames.iter().rev() {
            if lacking.is_empty() {
                break;
            }
            let (origin, has) = (frame.origin(), applied.get(frame.origin()));
            if !lacking.contains(&origin) {
                continue;
            }
            if frame.prev() <= has {
                ops += frame.iter().filter(|op| has < op.stamp.time).count() as u64;
                lacking.remove(&origin);
            } else {
                ops += u64::from(frame.ops());
            }
        }
        ops
    }

    /// The frames that it holds, the oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// How many bytes of frames it holds.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes + self.intake_bytes());
    }
}

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod tests;
