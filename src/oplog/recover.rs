//! Reading the log on disk when a node starts.
//!
//! What a crash may have done to what was not synced is cut off and reported; it is not an error.
//! Damage before that is never skipped in silence: of every shard it is known whether frames of it
//! are missing, because frames are numbered and each segment says where every shard stands. A
//! shard that lacks any, or of which that cannot be known, is told ([`Recovered::damaged`]), and
//! nothing after the damage is taken of it; the others go on.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crdt::{Epoch, Frame, FrameError, Time};

use super::intake::Intake;
use super::record::{Head, Owner, Place, Record, RecordError, Stretch};
use super::recovered::{Damage, Found, OpenError, Recovered, Replay, Torn};
use super::segment::{self, ReadError, Reader};
use super::storage::{Storage, Stored};

/// Reads the log of a storage, and hands each frame of the shards from segment `from` on to
/// `visit`. Of earlier segments it reads the heads alone.
///
/// # Errors
///
/// If it is not ours to read, as a whole; see [`OpenError`].
pub fn recover(
    storage: &dyn Storage,
    owner: &Owner,
    from: u64,
    visit: &mut dyn FnMut(Replay<'_>),
) -> Result<Recovered, OpenError> {
    let mut reading = Reading {
        storage,
        owner,
        from,
        visit,
        found: Recovered {
            segments: Vec::new(),
            epoch: Epoch(0),
            mark: Time::ZERO,
            is_filled: false,
            shards: vec![Stretch::default(); owner.shards.into()],
            synced: Place::default(),
            torn: None,
            damaged: BTreeMap::new(),
        },
        unproven: BTreeMap::new(),
        above: vec![0; owner.shards.into()],
    };
    reading.run()?;
    Ok(reading.found)
}

/// The latest epoch that wrote any of a log; 0 if there is none. Segments whose heads cannot be
/// read are passed over: they are complained about when all is read.
pub fn newest_epoch(storage: &dyn Storage, owner: &Owner) -> Result<Epoch, OpenError> {
    let attempt = |name: &str, error| OpenError::Io {
        path: storage.path(name),
        error,
    };
    let names = storage.list(segment::FOLDER);
    let names = names.map_err(|error| attempt(segment::FOLDER, error))?;
    let mut newest = Epoch(0);
    for number in names.iter().filter_map(|name| segment::number(name)) {
        let name = segment::name(number);
        let file = storage.open(&name).map_err(|error| attempt(&name, error))?;
        let bytes = file.size().map_err(|error| attempt(&name, error))?;
        if let Ok(Some(Record::Head(head))) = Reader::new(file, 0).next(bytes)
            && head.owner == *owner
        {
            newest = newest.max(head.epoch);
        }
    }
    Ok(newest)
}

struct Reading<'a> {
    storage: &'a dyn Storage,
    owner: &'a Owner,
    from: u64,
    visit: &'a mut dyn FnMut(Replay<'_>),
    found: Recovered,
    /// Shards of which frames may be missing since this damage.
    unproven: BTreeMap<u16, Damage>,
    /// By shard, a number above those of all its frames that anything tells of.
    above: Vec<u64>,
}

/// How reading a segment has ended.
enum Ended {
    /// With its end.
    Whole,
    /// Here is where what a crash has left ends.
    Torn(u64),
    /// The segment before has lost its end, and this one goes with it.
    TornBefore,
}

impl Reading<'_> {
    fn run(&mut self) -> Result<(), OpenError> {
        let numbers = self.numbers()?;
        if 0 < self.from && !numbers.contains(&self.from) {
            let path = self.storage.path(&segment::name(self.from));
            return Err(OpenError::Missing { path });
        }
        let start = self.drop_what_was_cut(&numbers)?;
        let numbers = &numbers[start..];
        for (at, &number) in numbers.iter().enumerate() {
            let path = segment::name(number);
            let file = self.attempt(&path, self.storage.open(&path))?;
            let bytes = self.attempt(&path, file.size())?;
            let later = &numbers[at + 1..];
            let ended = if 0 < at && numbers[at - 1] + 1 != number {
                self.gap(numbers[at - 1] + 1, &numbers[at..])?
            } else {
                self.segment(number, &file, bytes, later)?
            };
            match ended {
                Ended::Whole => {}
                Ended::Torn(offset) => {
                    self.cut(number, &file, offset, later)?;
                    break;
                }
                Ended::TornBefore => {
                    let last = self.found.segments.last().expect("it is not the first");
                    let (before, file, bytes) = (last.number, Arc::clone(&last.file), last.bytes);
                    self.cut(before, &file, bytes, &numbers[at..])?;
                    break;
                }
            }
        }
        let unproven = std::mem::take(&mut self.unproven);
        self.found.damaged.extend(unproven);
        for &shard in self.found.damaged.keys() {
            // What is missing stays missing: the heads of later lives show the gap, also where the
            // damage itself does not say that this shard has lost anything.
            let shard = usize::from(shard);
            let known = &mut self.found.shards[shard];
            known.first = known.first.max(self.above[shard]) + 1;
        }
        Ok(())
    }

    /// Removes segments that had been cut and that a crash has brought back without those after
    /// them. Returns how many.
    fn drop_what_was_cut(&self, numbers: &[u64]) -> Result<usize, OpenError> {
        let gaps = numbers.windows(2).enumerate();
        let mut gaps = gaps.filter(|(_, pair)| pair[0] + 1 < pair[1] && pair[1] <= self.from);
        let count = gaps.next_back().map_or(0, |(at, _)| at + 1);
        for &number in &numbers[..count] {
            let name = segment::name(number);
            self.attempt(&name, self.storage.remove(&name))?;
        }
        Ok(count)
    }

    /// Looks whether a segment that is not there can have been lost in a crash, with what came
    /// after it.
    fn gap(&self, missing: u64, later: &[u64]) -> Result<Ended, OpenError> {
        let place = Place {
            segment: missing,
            offset: 0,
        };
        for &number in later {
            if place < self.synced_in(number)? {
                let path = self.storage.path(&segment::name(missing));
                return Err(OpenError::Missing { path });
            }
        }
        Ok(Ended::TornBefore)
    }

    fn numbers(&self) -> Result<Vec<u64>, OpenError> {
        let names = self.attempt(segment::FOLDER, self.storage.list(segment::FOLDER))?;
        Ok(names
            .iter()
            .filter_map(|name| segment::number(name))
            .collect())
    }

    fn attempt<T>(&self, name: &str, result: io::Result<T>) -> Result<T, OpenError> {
        result.map_err(|error| OpenError::Io {
            path: self.storage.path(name),
            error,
        })
    }

    fn segment(
        &mut self,
        number: u64,
        file: &Arc<dyn Stored>,
        bytes: u64,
        later: &[u64],
    ) -> Result<Ended, OpenError> {
        let name = segment::name(number);
        let mut reader = Reader::new(Arc::clone(file), 0);
        loop {
            let offset = reader.offset();
            if number < self.from && 0 < offset {
                return Ok(Ended::Whole);
            }
            let why = match reader.next(bytes) {
                Ok(Some(Record::Head(head)))
                    if offset == 0 && self.is_cut_off(&head, file, bytes, later)? =>
                {
                    return Ok(Ended::TornBefore);
                }
                Ok(Some(record)) => match self.take(number, offset, file, bytes, record)? {
                    None => continue,
                    Some(why) => why,
                },
                Ok(None) if 0 < offset => return Ok(Ended::Whole),
                Ok(None) => "it is empty".to_owned(),
                Err(ReadError::Io(error)) => return self.attempt(&name, Err(error)),
                Err(ReadError::Record(RecordError::TooNew(_))) if 0 < offset => {
                    "a record is malformed".to_owned()
                }
                Err(ReadError::Record(error @ RecordError::TooNew(_))) => {
                    return Err(OpenError::TooNew {
                        path: self.storage.path(&name),
                        offset,
                        error: error.to_string(),
                    });
                }
                Err(ReadError::Record(error)) => error.to_string(),
            };
            let here = Place {
                segment: number,
                offset,
            };
            if self.synced_after(here, file, bytes, later)? <= here {
                return Ok(Ended::Torn(offset));
            }
            if offset == 0 {
                let path = self.storage.path(&name);
                return Err(OpenError::Head {
                    path,
                    offset,
                    error: why,
                });
            }
            self.lose(&name, offset, &why);
            let next = segment::find_batch(file.as_ref(), offset + 1, bytes);
            match self.attempt(&name, next)? {
                Some((at, _)) => reader = Reader::new(Arc::clone(file), at),
                None => return Ok(Ended::Whole),
            }
        }
    }

    /// Takes a record. Returns what is wrong with it, if anything is.
    fn take(
        &mut self,
        number: u64,
        offset: u64,
        file: &Arc<dyn Stored>,
        bytes: u64,
        record: Record,
    ) -> Result<Option<String>, OpenError> {
        match record {
            Record::Head(head) if offset == 0 && head.number == number => {
                self.head(*head, file, bytes)?;
            }
            Record::Batch(batch) if 0 < offset && batch.offset == offset => {
                self.found.mark = batch.mark;
                self.found.synced = self.found.synced.max(batch.synced);
                self.found.is_filled = batch.is_filled;
            }
            Record::Frame {
                shard,
                number: frame,
                bytes,
            } if 0 < offset => match Frame::parse(bytes) {
                Ok(parsed) if parsed.shard() == shard && shard < self.owner.shards => {
                    if let Some(known) = self.go_on(shard, frame) {
                        known.add(&parsed);
                        (self.visit)(Replay::Frame(parsed));
                    }
                }
                Err(error @ FrameError::Format(_)) => {
                    return Err(OpenError::TooNew {
                        path: self.storage.path(&segment::name(number)),
                        offset,
                        error: error.to_string(),
                    });
                }
                Ok(_) => return Ok(Some("a frame is of another shard".to_owned())),
                Err(error) => return Ok(Some(error.to_string())),
            },
            Record::Intake {
                shard,
                number,
                intake,
            } if 0 < offset && shard < self.owner.shards => {
                if intake == Intake::Resumed {
                    self.resume(shard, number);
                } else if let Some(known) = self.go_on(shard, number) {
                    known.take_in(&intake);
                    (self.visit)(Replay::Intake(shard, intake));
                }
            }
            Record::Head(_) | Record::Batch(_) | Record::Frame { .. } | Record::Intake { .. } => {
                return Ok(Some("a record is not where it belongs".to_owned()));
            }
        }
        Ok(None)
    }

    /// Whether a segment goes on from more than the one before has, which has lost what was not
    /// synced.
    fn is_cut_off(
        &self,
        head: &Head,
        file: &Arc<dyn Stored>,
        bytes: u64,
        later: &[u64],
    ) -> Result<bool, OpenError> {
        let Some(last) = self
            .found
            .segments
            .last()
            .filter(|_| self.from < head.number)
        else {
            return Ok(false);
        };
        let goes_on = (0_u16..).zip(head.shards.iter().zip(&self.found.shards));
        let lacks = goes_on
            .filter(|(shard, _)| !self.found.damaged.contains_key(shard))
            .any(|(_, (stretch, known))| stretch.first != known.first);
        let end = Place {
            segment: last.number,
            offset: last.bytes,
        };
        let start = Place {
            segment: head.number,
            offset: 0,
        };
        Ok(lacks
            && head
                .synced
                .max(self.synced_after(start, file, bytes, later)?)
                <= end)
    }

    fn head(&mut self, head: Head, file: &Arc<dyn Stored>, bytes: u64) -> Result<(), OpenError> {
        if head.owner != *self.owner {
            return Err(OpenError::Foreign {
                path: self.storage.path(&segment::name(head.number)),
                found: head.owner.to_string(),
                wanted: self.owner.to_string(),
            });
        }
        self.found.epoch = self.found.epoch.max(head.epoch);
        self.found.mark = head.mark;
        self.found.synced = self.found.synced.max(head.synced);
        self.found.is_filled = head.is_filled;
        // What is not read is not known to be whole.
        let is_oldest = self.found.segments.is_empty() || head.number <= self.from;
        let name = segment::name(head.number);
        let is_first = is_oldest && self.from <= head.number;
        for (shard, stretch) in (0_u16..).zip(&head.shards) {
            if is_first {
                (self.visit)(Replay::From(shard, stretch));
            }
            let above = &mut self.above[usize::from(shard)];
            *above = stretch.first.max(*above);
            let known = &mut self.found.shards[usize::from(shard)];
            if is_oldest {
                known.clone_from(stretch);
            } else if known.first == stretch.first {
                self.unproven.remove(&shard);
            } else if !self.found.damaged.contains_key(&shard) {
                let damage = self.unproven.remove(&shard).unwrap_or_else(|| Damage {
                    path: self.storage.path(&name),
                    offset: 0,
                    why: format!("frames before {} are missing", stretch.first),
                });
                self.found.damaged.insert(shard, damage);
            }
        }
        self.found.segments.push(Found {
            number: head.number,
            bytes,
            shards: head.shards,
            file: Arc::clone(file),
        });
        Ok(())
    }

    /// A shard goes on here, whatever is missing before.
    fn resume(&mut self, shard: u16, number: u64) {
        self.unproven.remove(&shard);
        self.found.damaged.remove(&shard);
        let next = number + 1;
        let above = &mut self.above[usize::from(shard)];
        *above = next.max(*above);
        self.found.shards[usize::from(shard)].first = next;
    }

    /// Where a shard stands to which this number belongs, if it goes on there: it is not damaged.
    fn go_on(&mut self, shard: u16, number: u64) -> Option<&mut Stretch> {
        let above = &mut self.above[usize::from(shard)];
        *above = (number + 1).max(*above);
        if self.found.damaged.contains_key(&shard) {
            return None;
        }
        let known = &mut self.found.shards[usize::from(shard)];
        if number != known.first {
            // Frames of other shards after damage do not tell of this one; its own do.
            let damage = self.unproven.remove(&shard).unwrap_or_else(|| Damage {
                path: self.storage.path(segment::FOLDER),
                offset: 0,
                why: format!("frame {number} follows frame {}", known.first),
            });
            self.found.damaged.insert(shard, damage);
            return None;
        }
        self.unproven.remove(&shard);
        Some(known)
    }

    /// Notes that frames of any shard may be missing.
    fn lose(&mut self, name: &str, offset: u64, why: &str) {
        for shard in 0..self.owner.shards {
            if !self.found.damaged.contains_key(&shard) {
                let damage = Damage {
                    path: self.storage.path(name),
                    offset,
                    why: why.to_owned(),
                };
                self.unproven.entry(shard).or_insert(damage);
            }
        }
    }

    /// Up to where what comes after a place says that all was synced.
    fn synced_after(
        &self,
        here: Place,
        file: &Arc<dyn Stored>,
        bytes: u64,
        later: &[u64],
    ) -> Result<Place, OpenError> {
        let mut synced = self.last_synced(here.segment, file, here.offset, bytes)?;
        for &number in later {
            synced = synced.max(self.synced_in(number)?);
        }
        Ok(synced)
    }

    /// Up to where a segment says that all was synced.
    fn synced_in(&self, number: u64) -> Result<Place, OpenError> {
        let name = segment::name(number);
        let file = self.attempt(&name, self.storage.open(&name))?;
        let bytes = self.attempt(&name, file.size())?;
        let synced = self.last_synced(number, &file, 0, bytes)?;
        match Reader::new(file, 0).next(bytes) {
            Ok(Some(Record::Head(head))) => Ok(synced.max(head.synced)),
            _ => Ok(synced),
        }
    }

    fn last_synced(
        &self,
        number: u64,
        file: &Arc<dyn Stored>,
        from: u64,
        bytes: u64,
    ) -> Result<Place, OpenError> {
        let (mut synced, mut at) = (Place::default(), from);
        let name = segment::name(number);
        while let Some((offset, batch)) =
            self.attempt(&name, segment::find_batch(file.as_ref(), at, bytes))?
        {
            synced = synced.max(batch.synced);
            at = offset + 1;
        }
        Ok(synced)
    }

    /// Cuts off what a crash has left: the rest of a segment, and all later ones.
    fn cut(
        &mut self,
        number: u64,
        file: &Arc<dyn Stored>,
        offset: u64,
        later: &[u64],
    ) -> Result<(), OpenError> {
        let name = segment::name(number);
        let mut lost = self.attempt(&name, file.size())? - offset;
        for &number in later.iter().rev() {
            let name = segment::name(number);
            let file = self.attempt(&name, self.storage.open(&name))?;
            lost += self.attempt(&name, file.size())?;
            self.attempt(&name, self.storage.remove(&name))?;
        }
        if offset == 0 {
            self.attempt(&name, self.storage.remove(&name))?;
        } else {
            self.attempt(&name, file.truncate(offset))?;
            self.attempt(&name, file.sync())?;
            if let Some(last) = self.found.segments.last_mut() {
                last.bytes = offset;
            }
        }
        self.attempt(segment::FOLDER, self.storage.sync_folder(segment::FOLDER))?;
        if 0 < lost {
            self.found.torn = Some(Torn {
                path: self.storage.path(&name),
                offset,
                bytes: lost,
            });
        }
        Ok(())
    }
}
