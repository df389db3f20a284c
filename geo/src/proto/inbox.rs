//! Frames that cannot be applied yet: each origin's in a row without a gap, bounded in bytes.

use std::collections::{BTreeMap, VecDeque};

use crdt::{Epoch, Frame, Origin, Region, Time, Version};

/// The frames of one origin that wait.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes().len();
        Some(frame)
    }
}

/// See the module. Invariant: no queue is empty.
#[derive(Debug)]
pub(super) struct Inbox {
    queues: BTreeMap<Origin, Queue>,
    /// Bytes of one origin's frames; a frame that comes first is taken whatever its size.
    bytes_max: usize,
}

impl Inbox {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            bytes_max,
        }
    }

    /// The time of the last op of an origin that waits.
    pub(super) fn tail(&self, origin: Origin) -> Option<Time> {
        self.queues.get(&origin)?.frames.back().map(Frame::last)
    }

    /// The origins that wait, and the time of the last op of each.
    pub(super) fn tails(&self) -> impl Iterator<Item = (Origin, Time)> + '_ {
        let tail = |queue: &Queue| queue.frames.back().map(Frame::last);
        self.queues
            .iter()
            .filter_map(move |(&origin, queue)| Some((origin, tail(queue)?)))
    }

    /// The frames of an origin that wait, in order.
    pub(super) fn frames(&self, origin: Origin) -> impl Iterator<Item = &Frame> {
        let queue = self.queues.get(&origin).into_iter();
        queue.flat_map(|queue| &queue.frames)
    }

    /// All frames that wait.
    pub(super) fn all(&self) -> impl Iterator<Item = &Frame> {
        self.queues.values().flat_map(|queue| &queue.frames)
    }

    /// Takes a frame that follows the tail, unless there is no room.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        let bytes = frame.bytes().len();
        let queue = self.queues.entry(frame.origin()).or_default();
        if !queue.frames.is_empty() && self.bytes_max < queue.bytes + bytes {
            return false;
        }
        queue.bytes += bytes;
        queue.frames.push_back(frame);
        true
    }

    /// Takes out a frame that can be applied to `version`, dropping those that it covers.
    pub(super) fn pop_ready(&mut self, version: &Version) -> Option<Frame> {
        let mut found = None;
        for (&origin, queue) in &mut self.queues {
            while queue
                .frames
                .front()
                .is_some_and(|frame| frame.last() <= version.get(origin))
            {
                queue.pop();
            }
            if queue
                .frames
                .front()
                .is_some_and(|frame| is_ready(frame, version))
            {
                found = queue.pop();
                break;
            }
        }
        self.queues.retain(|_, queue| !queue.frames.is_empty());
        found
    }

    /// Forgets the origins of a region below an epoch.
    pub(super) fn forget(&mut self, region: Region, below: Epoch) {
        self.queues
            .retain(|origin, _| origin.region != region || below <= origin.epoch);
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.queues.values().map(|queue| queue.bytes).sum()
    }
}

/// Whether nothing is missing before a frame.
pub(super) fn is_ready(frame: &Frame, version: &Version) -> bool {
    frame.prev() <= version.get(frame.origin()) && version.includes(frame.deps())
}
