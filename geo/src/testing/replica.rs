//! What a net needs of a shard, and how links reach the shards of a node.

use bytes::Bytes;
use crdt::{Cursor, Frame, Region, Span, Time, Version};

use super::joining::Record;
use crate::proto::{
    Compared, Delivery, Heartbeat, Merged, Next, Offer, Reach, Roster, Shards, SpanSum,
};

/// A region's copy of a shard, as a net drives it. Each method is the one of [`Shards`] with that
/// name, of one shard.
pub trait Replica {
    /// Runs with what it knows of deliveries.
    fn delivery(&mut self, run: &mut dyn FnMut(&mut Delivery));

    /// The same, and what comes of it.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut Delivery) -> T) -> T {
        let (mut ask, mut answer) = (Some(ask), None);
        self.delivery(&mut |delivery| answer = ask.take().map(|ask| ask(delivery)));
        answer.expect("it was run")
    }

    /// See [`Shards::heartbeat`].
    fn heartbeat(&mut self, time: Time) -> Heartbeat;

    /// See [`Shards::offer`].
    fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer;

    /// See [`Shards::heard`].
    fn heard(&mut self, heartbeat: Heartbeat, from: Region, now_ms: u64);

    /// See [`Shards::start`].
    fn start(&mut self, region: Region, applied: &Version) -> Option<u64>;

    /// See [`Shards::next_frame`].
    fn next_frame(&mut self, position: u64, wanted: &mut dyn FnMut(&Frame) -> bool) -> Next;

    /// See [`Shards::pending`].
    fn pending(&mut self, peer: Region, applied: &Version) -> u64;

    /// See [`Shards::spans`].
    fn spans(&mut self) -> Vec<Span>;

    /// See [`Shards::sums`].
    fn sums(&mut self, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)>;

    /// See [`Shards::compare`].
    fn compare(
        &mut self,
        version: &Version,
        theirs: &[(Span, SpanSum)],
        now_ms: u64,
    ) -> Option<Vec<Compared>>;

    /// See [`Shards::piece`].
    fn piece(&mut self, from: Cursor) -> Option<(Bytes, Option<Cursor>)>;

    /// See [`Shards::merge`].
    fn merge(&mut self, piece: Bytes, now_ms: u64) -> Merged;

    /// See [`Shards::caught_up`].
    fn caught_up(&mut self, first: &Version, now_ms: u64);
}

/// The shards of a node at a moment.
pub(super) struct View<'a, R> {
    pub(super) shards: &'a mut [R],
    pub(super) reach: &'a mut Reach,
    pub(super) record: &'a mut Record,
    pub(super) now_ms: u64,
}

impl<R> View<'_, R> {
    fn at(&mut self, shard: u16) -> &mut R {
        &mut self.shards[usize::from(shard)]
    }
}

impl<R: Replica> Shards for View<'_, R> {
    fn count(&self) -> u16 {
        self.shards.len() as u16
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn reach(&mut self, run: &mut dyn FnMut(&mut Reach)) {
        run(self.reach);
    }

    fn roster(&mut self, known: u64) -> Option<(u64, Vec<u8>)> {
        self.record.since(known)
    }

    fn heard_roster(&mut self, roster: Roster) {
        for region in self.record.hear(roster) {
            for shard in self.shards.iter_mut() {
                shard.delivery(&mut |delivery| {
                    delivery.admit(region);
                });
            }
        }
    }

    fn delivery(&mut self, shard: u16, run: &mut dyn FnMut(&mut Delivery)) {
        self.at(shard).delivery(run);
    }

    fn heartbeat(&mut self, shard: u16, time: Time) -> Heartbeat {
        self.at(shard).heartbeat(time)
    }

    fn offer(&mut self, frame: Frame, from: Region) -> Offer {
        let now_ms = self.now_ms;
        self.at(frame.shard()).offer(frame, from, now_ms)
    }

    fn heard(&mut self, shard: u16, heartbeat: Heartbeat, from: Region) {
        let now_ms = self.now_ms;
        self.at(shard).heard(heartbeat, from, now_ms);
    }

    fn start(&mut self, shard: u16, region: Region, applied: &Version) -> Option<u64> {
        self.at(shard).start(region, applied)
    }

    fn next_frame(
        &mut self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        self.at(shard).next_frame(position, wanted)
    }

    fn pending(&mut self, shard: u16, peer: Region, applied: &Version) -> u64 {
        self.at(shard).pending(peer, applied)
    }

    fn spans(&mut self, shard: u16) -> Vec<Span> {
        self.at(shard).spans()
    }

    fn sums(&mut self, shard: u16, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)> {
        self.at(shard).sums(spans, keys)
    }

    fn compare(
        &mut self,
        shard: u16,
        version: &Version,
        theirs: &[(Span, SpanSum)],
    ) -> Option<Vec<Compared>> {
        let now_ms = self.now_ms;
        self.at(shard).compare(version, theirs, now_ms)
    }

    fn piece(&mut self, shard: u16, from: Cursor) -> Option<(Bytes, Option<Cursor>)> {
        self.at(shard).piece(from)
    }

    fn merge(&mut self, shard: u16, piece: Bytes) -> Merged {
        let now_ms = self.now_ms;
        self.at(shard).merge(piece, now_ms)
    }

    fn caught_up(&mut self, shard: u16, first: &Version) {
        let now_ms = self.now_ms;
        self.at(shard).caught_up(first, now_ms);
    }
}
