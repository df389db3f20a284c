//! Ops of closed origins that turned up late, until they have been issued again.
//!
//! All regions have closed such an origin at the same op, so nobody in the database has applied
//! what comes after it: a disk that returns has, or a frame that was under way. Its own region
//! issues it again, and nobody else: two that did so would count it twice, and neither could tell.
//! Whoever is handed such ops keeps them, bounded, and hands them to that region whenever there is
//! a link to it. The op that issues one again names it, everybody remembers those names, and with
//! the name the op itself is dropped; a later life of the region finds the names in what it
//! applies, and issues nothing before the origins that ended before it are closed, or it might
//! lack a name.

use crdt::{Frame, Origin, Region, Time};

use super::Delivery;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Late {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Late {
    /// Takes a frame, unless it is held or there is no room: the first is taken whatever its size.
    /// Returns whether it is held.
    pub(super) fn push(&mut self, frame: &Frame, bytes_max: usize) -> bool {
        if self.frames.contains(frame) {
            return true;
        }
        let bytes = frame.bytes().len();
        if !self.frames.is_empty() && bytes_max < self.bytes + bytes {
            return false;
        }
        self.bytes += bytes;
        self.frames.push(frame.clone());
        true
    }
}

impl Delivery {
    /// Frames that turned up late, in the order in which they did.
    pub fn late(&self) -> &[Frame] {
        &self.late.frames
    }

    /// Those that a region must issue again.
    pub fn late_of(&self, region: Region) -> impl Iterator<Item = &Frame> {
        let is_theirs = move |frame: &&Frame| frame.origin().region == region;
        self.late.frames.iter().filter(is_theirs)
    }

    /// Whether it is for us to issue the ops of a late frame again, and we hold all that they and
    /// our region's earlier lives had seen.
    pub fn can_reissue(&self, frame: &Frame) -> bool {
        let own = self.config.own.region;
        frame.origin().region == own
            && self
                .closing
                .open(&self.version)
                .all(|(open, _)| open != own)
            && self.version.includes(frame.deps())
    }

    /// Up to which time everybody holds everything of a closed origin.
    pub fn closed_at(&self, origin: Origin) -> Time {
        self.closing.end(origin)
    }

    /// Drops late frames of which nothing is left to issue again.
    pub fn drop_late(&mut self, mut is_done: impl FnMut(&Frame, Time) -> bool) {
        let closing = &self.closing;
        let frames = &mut self.late.frames;
        frames.retain(|frame| !is_done(frame, closing.end(frame.origin())));
        self.late.bytes = frames.iter().map(|frame| frame.bytes().len()).sum();
    }
}
