//! The shard and the log on disk: what goes there, and what comes back when a node starts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use crdt::{Cursor, DecodeError, Frame, Piece, Time, Version};

use super::Shard;
use crate::oplog::Entry;
use crate::oplog::intake::Intake;
use crate::oplog::record::Stretch;

impl Shard {
    /// Whether something has gathered in its log since somebody has last asked, for whoever asks
    /// without the lock.
    pub fn dirty(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.dirty)
    }

    /// Hands out what has gathered in the log since the last time, for the disk.
    pub fn gather(&mut self, take: impl FnMut(Entry<'_>)) {
        self.seal();
        self.log.take(take);
    }

    /// A segment of the log begins on disk.
    pub fn begin_segment(&mut self, stretch: Stretch) {
        self.log.begin_segment(stretch);
    }

    /// The oldest segment of the log was removed from disk.
    pub fn cut_segment(&mut self) {
        self.log.cut_segment();
    }

    /// Notes that ops up to these are safe from a crash here.
    pub fn kept(&mut self, ops: Version) {
        self.delivery.kept(ops);
    }

    /// Applies a frame of the log on disk, of an earlier life. They come in the order in which they
    /// were applied then.
    pub fn replay(&mut self, frame: &Frame, now_ms: u64) {
        if self.apply(frame, Time::ZERO, now_ms) {
            self.delivery.recovered(frame);
        }
    }

    /// Takes in again what was taken in of another region's state, where it stands in the log.
    pub fn replay_intake(&mut self, intake: Intake) {
        let taken_in = self.guarded("taking in state again", |shard| shard.take_again(intake));
        if let Some(Err(error)) = taken_in {
            self.damaged(&error.to_string());
        }
    }

    fn take_again(&mut self, intake: Intake) -> Result<(), DecodeError> {
        let mine = self.delivery.applied_ops();
        // What a snapshot or an earlier intake has brought is behind by now, as it was then.
        self.state.caught_up(&mine);
        match intake {
            Intake::Piece(bytes) => {
                let piece = Piece::parse(bytes)?;
                self.state.merge(&piece, &mine)?;
                self.follow(piece.version());
            }
            Intake::Equal(version, spans) => {
                for span in spans {
                    self.state.agree(span, &version);
                }
                self.follow(&version);
            }
            Intake::Resumed => {}
            Intake::Held(ops) => {
                self.restored(&ops);
                self.state.caught_up(&self.delivery.applied_ops());
            }
        }
        Ok(())
    }

    /// Takes in a piece of a snapshot.
    pub fn restore(&mut self, piece: &Piece) -> Result<(), DecodeError> {
        self.state.merge(piece, &Version::new())
    }

    /// Begins the replay, behind a snapshot: these are the last ops of each origin before it.
    pub fn restored(&mut self, ends: &Version) {
        self.delivery.recovered_up_to(ends);
        if let Some(latest) = ends.iter().map(|(_, time)| time).max() {
            self.clock.observe(latest);
        }
    }

    /// Writes a piece of a snapshot.
    pub fn snapshot_piece(&mut self, from: Cursor, bytes: usize) -> (Bytes, Option<Cursor>) {
        self.seal();
        self.state.piece(self.log.ends(), from, bytes)
    }

    /// Whether every other region has kept these ops.
    pub fn all_have(&self, ops: &Version) -> bool {
        self.delivery.all_have(ops)
    }

    /// Ends the replay: the log goes on from what is on disk, and everything there is kept. No
    /// stamp that this life gives is up to `mark`.
    pub fn go_on(&mut self, stretches: VecDeque<Stretch>, mark: Time) {
        self.clock.observe(mark);
        self.log.go_on(stretches);
        self.state.caught_up(self.log.ends());
        self.delivery.kept(self.delivery.applied_ops());
    }

    /// Frames of its log are missing: it goes on from what it has, and is to be filled up by
    /// others.
    pub fn resume(&mut self) {
        self.note(Intake::Resumed);
    }

    /// Takes the shard out of service, for frames of its log are missing.
    pub fn damaged(&mut self, why: &str) {
        self.take_out(format!("its log on disk is damaged: {why}"));
    }
}
