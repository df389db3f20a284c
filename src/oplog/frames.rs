//! The frames of a log, in order: a queue that grows without moving what is in it.
//!
//! A queue in one piece is copied whenever it has filled up, under the shard's lock: some ten
//! megabytes at once where frames are small and many. This one is made of chunks. All but the first
//! and the last are full, so a frame is found by its place without looking at those before it.

use std::collections::VecDeque;

use crdt::Frame;

/// Frames in a chunk: some 24 KiB.
const CHUNK_FRAMES: usize = 256;

/// Some frames that follow each other. `None` has a number and is no frame: it is where a shard has
/// taken in state. Memory is touched with it, too, before there is a frame.
pub(super) type Chunk = VecDeque<Option<Frame>>;

/// An empty chunk whose memory has been touched.
pub(super) fn touched_chunk() -> Chunk {
    let mut chunk = new_chunk();
    chunk.resize_with(CHUNK_FRAMES, || None);
    chunk.clear();
    chunk
}

/// An empty chunk.
pub(super) fn new_chunk() -> Chunk {
    Chunk::with_capacity(CHUNK_FRAMES)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// None is empty.
    chunks: VecDeque<Chunk>,
    len: usize,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The newest, if it is a frame.
    pub(super) fn back(&self) -> Option<&Frame> {
        self.chunks.back()?.back()?.as_ref()
    }

    /// Appends a frame, or what has a number and is none; `chunk` gives an empty chunk if one is
    /// needed.
    pub(super) fn push_back(&mut self, frame: Option<Frame>, chunk: impl FnOnce() -> Chunk) {
        let is_full = |last: &Chunk| CHUNK_FRAMES <= last.len();
        if self.chunks.back().is_none_or(is_full) {
            self.chunks.push_back(chunk());
        }
        if let Some(last) = self.chunks.back_mut() {
            last.push_back(frame);
            self.len += 1;
        }
    }

    /// Takes the oldest, and the chunk that has become empty by it.
    pub(super) fn pop_front(&mut self) -> Option<(Option<Frame>, Option<Chunk>)> {
        let first = self.chunks.front_mut()?;
        let frame = first.pop_front()?;
        self.len -= 1;
        let empty = first.is_empty().then(|| self.chunks.pop_front()).flatten();
        Some((frame, empty))
    }

    /// All that are frames.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.chunks.iter().flatten().flatten()
    }

    /// All from a place on.
    pub(super) fn from(&self, place: usize) -> impl Iterator<Item = Option<&Frame>> {
        let (at, offset) = self.find(place);
        let chunk = self.chunks.get(at);
        let part = chunk.map(|chunk| chunk.range(chunk.len().min(offset)..));
        let rest = self.chunks.range(self.chunks.len().min(at + 1)..);
        let all = part.into_iter().flatten().chain(rest.flatten());
        all.map(Option::as_ref)
    }

    /// The chunk of a place, and the place in it.
    fn find(&self, place: usize) -> (usize, usize) {
        let first = self.chunks.front().map_or(0, VecDeque::len);
        match place.checked_sub(first) {
            None => (0, place),
            Some(after) => (1 + after / CHUNK_FRAMES, after % CHUNK_FRAMES),
        }
    }
}

#[cfg(test)]
mod tests {
    use crdt::{Change, Effect, Epoch, FrameWriter, Origin, Region, Time, Version};

    use super::*;

    /// Frames of one op each, at 1, 2, 3 and so on.
    fn all(count: usize) -> Vec<Frame> {
        let region = Region::new(1).expect("not 0");
        let mut writer = FrameWriter::new(0, Origin::new(region, Epoch(1)));
        let mut frame = |time| {
            writer.begin_op(Time(time), &Version::new());
            writer.push(&Effect {
                key: b"",
                change: Change::Flush,
            });
            writer.end_op();
            writer.seal().expect("an op")
        };
        (1..=count as u64).map(&mut frame).collect()
    }

    #[test]
    fn a_frame_is_found_by_its_place_whatever_was_dropped_before_it() {
        let all = all(3 * CHUNK_FRAMES + 7);
        let mut frames = Frames::new();
        let mut dropped = 0;
        for (number, frame) in all.iter().enumerate() {
            frames.push_back(Some(frame.clone()), new_chunk);
            if number % 3 == 2 {
                assert_eq!(
                    frames.pop_front().and_then(|(frame, _)| frame),
                    Some(all[dropped].clone())
                );
                dropped += 1;
            }
        }
        let rest = &all[dropped..];
        assert_eq!((frames.len(), frames.back()), (rest.len(), rest.last()));
        assert!(frames.iter().eq(rest));
        for place in 0..=rest.len() {
            assert_eq!(
                frames.from(place).next().flatten(),
                rest.get(place),
                "place {place}"
            );
            assert_eq!(frames.from(place).count(), rest.len() - place);
        }
        assert_eq!(frames.from(rest.len() + 2 * CHUNK_FRAMES).next(), None);
    }

    #[test]
    fn a_chunk_comes_back_when_its_last_frame_is_dropped() {
        let mut frames = Frames::new();
        for frame in all(CHUNK_FRAMES + 1) {
            frames.push_back(Some(frame), touched_chunk);
        }
        let mut empty = 0;
        while let Some((_, chunk)) = frames.pop_front() {
            empty += usize::from(chunk.is_some_and(|chunk| chunk.is_empty()));
        }
        assert_eq!((empty, frames.len()), (2, 0));
        assert!(frames.is_empty() && frames.back().is_none());
    }
}
