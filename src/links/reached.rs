//! The shards of this node as its links see them.

use bytes::Bytes;
use crdt::{Cursor, Frame, Region, Span, Time, Version};
use geo::proto::{
    self, Compared, Delivery, Heartbeat, Merged, Next, Offer, Reach, Roster, SpanSum,
};
use parking_lot::Mutex;

use super::Common;
use crate::clock;
use crate::limits;
use crate::oplog::backlog::{Backlog, Old};

/// The shards, as a link sees them.
pub(super) struct Reached<'a>(pub(super) &'a Common, pub(super) &'a Mutex<Backlog>);

impl proto::Shards for Reached<'_> {
    fn count(&self) -> u16 {
        self.0.server.shards.count() as u16
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    fn reach(&mut self, run: &mut dyn FnMut(&mut Reach)) {
        run(&mut self.0.reach.lock());
    }

    fn roster(&mut self, known: u64) -> Option<(u64, Vec<u8>)> {
        self.0.members.since(known)
    }

    fn heard_roster(&mut self, roster: Roster) {
        for region in self.0.members.hear(&roster) {
            for index in 0..self.0.server.shards.count() {
                let shards = &self.0.server.shards;
                shards.with(index, |shard| shard.delivery().admit(region));
            }
        }
    }

    fn delivery(&mut self, shard: u16, run: &mut dyn FnMut(&mut Delivery)) {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| run(shard.delivery()));
    }

    fn heartbeat(&mut self, shard: u16, time: Time) -> Heartbeat {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.heartbeat(time))
    }

    fn offer(&mut self, frame: Frame, from: Region) -> Offer {
        let shard = frame.shard();
        if !self.0.server.takes_frames(shard) {
            return Offer::Full;
        }
        let answer = self.0.server.shards.with(shard.into(), |shard| {
            shard.offer(frame, from, clock::now_ms())
        });
        if let Some(durability) = self.0.server.durability.get() {
            durability.nudge();
        }
        self.0.wake();
        answer
    }

    fn heard(&mut self, shard: u16, heartbeat: Heartbeat, from: Region) {
        let now_ms = clock::now_ms();
        let has_applied = self
            .0
            .server
            .shards
            .with(shard.into(), |shard| shard.heard(heartbeat, from, now_ms));
        if has_applied {
            self.0.wake();
        }
    }

    fn start(&mut self, shard: u16, region: Region, applied: &Version) -> Option<u64> {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_start(region, applied))
    }

    fn next_frame(
        &mut self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        let in_memory = self
            .0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_next(position, &mut *wanted));
        match in_memory {
            Some(next) => next,
            None => self.next_on_disk(shard, position, wanted),
        }
    }

    fn pending(&mut self, shard: u16, peer: Region, applied: &Version) -> u64 {
        self.0
            .server
            .shards
            .with(shard.into(), |shard| shard.log_pending(peer, applied))
    }

    fn spans(&mut self, shard: u16) -> Vec<Span> {
        let shards = &self.0.server.shards;
        shards.with(shard.into(), |shard| shard.spans())
    }

    fn sums(&mut self, shard: u16, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)> {
        let shards = &self.0.server.shards;
        shards.with(shard.into(), |shard| shard.span_sums(spans, keys))
    }

    fn compare(
        &mut self,
        shard: u16,
        version: &Version,
        theirs: &[(Span, SpanSum)],
    ) -> Option<Vec<Compared>> {
        let (shards, now_ms) = (&self.0.server.shards, clock::now_ms());
        shards.with(shard.into(), |shard| shard.compare(version, theirs, now_ms))
    }

    fn piece(&mut self, shard: u16, from: Cursor) -> Option<(Bytes, Option<Cursor>)> {
        let shards = &self.0.server.shards;
        shards.with(shard.into(), |shard| shard.state_piece(from))
    }

    fn merge(&mut self, shard: u16, piece: Bytes) -> Merged {
        let disk = self.0.server.durability.get();
        let is_refused = disk.is_some_and(|disk| disk.refusal().is_some());
        if is_refused || !self.0.server.takes_frames(shard) {
            return Merged::Later;
        }
        let (shards, now_ms) = (&self.0.server.shards, clock::now_ms());
        let (merged, waiting) = shards.with(shard.into(), |shard| {
            (shard.merge_piece(piece, now_ms), shard.intake_bytes())
        });
        if let Some(disk) = disk.filter(|_| limits::INTAKE_BYTES_MAX / 2 < waiting) {
            disk.want_sync();
        }
        merged
    }

    fn caught_up(&mut self, shard: u16, first: &Version) {
        let (shards, now_ms) = (&self.0.server.shards, clock::now_ms());
        shards.with(shard.into(), |shard| shard.join(first, now_ms));
        if let Some(durability) = self.0.server.durability.get() {
            durability.nudge();
        }
        self.0.wake();
    }
}

impl Reached<'_> {
    /// The next frame of those that have been dropped from memory.
    fn next_on_disk(
        &self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        let Some(durability) = self.0.server.durability.get() else {
            return Next::Behind;
        };
        let mut backlog = self.1.lock();
        match backlog.next(|| durability.journal(), shard, position, wanted) {
            Ok(Old::Frame(frame, next)) => Next::Frame(frame, next),
            Ok(Old::End(next)) => Next::End(next),
            Ok(Old::Further(next)) => {
                // There is more to look at, but something else may run first.
                self.0.wake();
                Next::End(next)
            }
            Ok(Old::Gone) => Next::Behind,
            Err(error) => {
                tracing::error!(shard, %error, "the op log on disk cannot be read");
                Next::Behind
            }
        }
    }
}
