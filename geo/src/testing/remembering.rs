//! A shard that only remembers, and what tests of a net of such shards ask.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use crdt::{Change, Clock, Cursor, Effect, Frame, FrameWriter, Region, Span, Stamp, Time, Version};

use super::{Net, Replica, Setup, told};
use crate::proto::{Compared, Delivery, DeliveryConfig, Heartbeat, Merged, Next, Offer, SpanSum};

/// A shard that remembers what it has applied, and nothing else.
#[derive(Debug)]
pub struct Remembering {
    pub(super) delivery: Delivery,
    clock: Clock,
    writer: FrameWriter,
    log: VecDeque<Frame>,
    /// Frames dropped from the front of the log.
    dropped: u64,
    pub(super) log_frames_max: usize,
    dropped_ops: Version,
    pub(super) ops: BTreeSet<Stamp>,
    /// Those that have come as state, and are beyond the version.
    told: BTreeSet<Stamp>,
    ahead: Version,
    /// The last op of each origin that it has had.
    ends: Version,
}

impl Remembering {
    /// An empty shard.
    pub(super) fn new(number: u16, config: DeliveryConfig) -> Self {
        Self {
            clock: Clock::default(),
            writer: FrameWriter::new(number, config.own),
            delivery: Delivery::new(config),
            log: VecDeque::new(),
            dropped: 0,
            log_frames_max: usize::MAX,
            dropped_ops: Version::new(),
            ops: BTreeSet::new(),
            told: BTreeSet::new(),
            ahead: Version::new(),
            ends: Version::new(),
        }
    }

    fn is_ahead(&self) -> bool {
        !self.ends.includes(&self.ahead)
    }

    fn go_ahead(&mut self, version: &Version) {
        self.delivery.was_shown(version);
        let latest = version.iter().map(|(_, time)| time).max();
        self.clock.observe(latest.unwrap_or_default());
        self.ahead.join(version);
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        self.told.retain(|op| !self.ends.covers(*op));
        if !self.is_ahead() {
            self.ahead = Version::new();
        }
        self.delivery.note_ahead(&self.ahead);
    }

    pub(super) fn write(&mut self, now_ms: u64) -> Stamp {
        let time = self.clock.tick(now_ms);
        self.writer.begin_op(time, self.delivery.deps().0);
        self.writer.push(&Effect {
            key: b"k",
            change: Change::MemberAdd { member: b"m" },
        });
        self.writer.end_op();
        self.delivery.issued(time);
        let stamp = Stamp {
            time,
            origin: self.delivery.own(),
        };
        assert!(self.ops.insert(stamp), "a stamp is issued once");
        stamp
    }

    fn append(&mut self, frame: Frame) {
        self.ends.advance(frame.origin(), frame.last());
        self.log.push_back(frame);
        while self.log_frames_max < self.log.len() {
            if let Some(frame) = self.log.pop_front() {
                self.dropped += 1;
                self.dropped_ops.advance(frame.origin(), frame.last());
            }
        }
    }

    fn seal(&mut self) {
        if let Some(frame) = self.writer.seal() {
            self.append(frame);
        }
    }

    fn apply_ready(&mut self) {
        while let Some((frame, skip)) = self.delivery.next_ready() {
            for op in frame.iter().filter(|op| skip < op.stamp.time) {
                let is_new = self.ops.insert(op.stamp) || self.told.remove(&op.stamp);
                assert!(is_new, "{} is applied once", op.stamp);
                assert!(
                    self.delivery.version().includes(&op.deps),
                    "{} has its deps",
                    op.stamp
                );
                self.clock.observe(op.stamp.time);
            }
            self.delivery.applied(&frame);
            self.seal(); // What was issued before stands before it in the log.
            self.append(frame);
            self.look_ahead();
        }
        let orphans = self.delivery.orphans();
        if !orphans.is_empty() {
            Replica::caught_up(self, &orphans, 0);
        }
    }
}

impl Replica for Remembering {
    fn delivery(&mut self, run: &mut dyn FnMut(&mut Delivery)) {
        run(&mut self.delivery);
    }

    fn heartbeat(&mut self, time: Time) -> Heartbeat {
        self.clock.observe(time);
        self.delivery.heartbeat(time)
    }

    fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer {
        let offer = self.delivery.offer(frame, from, now_ms);
        self.apply_ready();
        offer
    }

    fn heard(&mut self, heartbeat: Heartbeat, from: Region, now_ms: u64) {
        self.delivery.heard(heartbeat, from, now_ms);
        self.apply_ready();
    }

    fn start(&mut self, region: Region, applied: &Version) -> Option<u64> {
        let mut dropped = self
            .dropped_ops
            .iter()
            .filter(|(origin, _)| origin.region == region);
        let reaches_back = dropped.all(|(origin, time)| time <= applied.get(origin));
        reaches_back.then_some(self.dropped)
    }

    fn next_frame(&mut self, position: u64, wanted: &mut dyn FnMut(&Frame) -> bool) -> Next {
        self.seal();
        let Some(skip) = position.checked_sub(self.dropped) else {
            return Next::Behind;
        };
        let mut rest = (position..).zip(self.log.iter().skip(skip as usize));
        match rest.find(|(_, frame)| wanted(frame)) {
            Some((at, frame)) => Next::Frame(frame.clone(), at + 1),
            None => Next::End(self.dropped + self.log.len() as u64),
        }
    }

    fn pending(&mut self, peer: Region, applied: &Version) -> u64 {
        let of_others = self.ops.iter().filter(|stamp| stamp.origin.region != peer);
        of_others.filter(|stamp| !applied.covers(**stamp)).count() as u64
    }

    fn spans(&mut self) -> Vec<Span> {
        told::spans()
    }

    fn sums(&mut self, spans: &[Span], _: usize) -> Option<(Version, Vec<SpanSum>)> {
        self.seal();
        let few = spans.get(..spans.len().min(5)).unwrap_or(spans);
        let sums = few.iter().map(|&span| told::sum(&self.ops, span));
        (!self.is_ahead()).then(|| (self.ends.clone(), sums.collect()))
    }

    fn compare(
        &mut self,
        version: &Version,
        theirs: &[(Span, SpanSum)],
        now_ms: u64,
    ) -> Option<Vec<Compared>> {
        if self.delivery.is_too_early(version, now_ms) {
            return None;
        }
        let compare = |&(span, theirs): &(Span, SpanSum)| {
            let own = told::sum(&self.ops, span);
            if own == theirs {
                Compared::Equal
            } else {
                Compared::Differs(own.keys)
            }
        };
        let compared = theirs.iter().map(compare).collect();
        self.go_ahead(version);
        Some(compared)
    }

    fn piece(&mut self, mut from: Cursor) -> Option<(Bytes, Option<Cursor>)> {
        self.seal();
        if self.is_ahead() {
            return None;
        }
        let span = from.take_span();
        let piece = told::piece(&self.ends, &self.ops, span);
        Some((piece, span.map(|_| from)))
    }

    fn merge(&mut self, piece: Bytes, now_ms: u64) -> Merged {
        let Some((version, ops)) = told::read(&piece) else {
            return Merged::Bad("no piece".into());
        };
        if self.delivery.is_too_early(&version, now_ms) {
            return Merged::Later;
        }
        let new = ops.into_iter().filter(|op| !self.ops.contains(op));
        let new: Vec<Stamp> = new.collect();
        self.told.extend(&new);
        self.ops.extend(new);
        self.go_ahead(&version);
        Merged::Done
    }

    fn caught_up(&mut self, first: &Version, _: u64) {
        self.seal();
        for (origin, time) in first.iter() {
            if self.ends.get(origin) < time {
                self.dropped_ops.advance(origin, time);
            }
        }
        self.ends.join(first);
        self.delivery.joined(first);
        self.look_ahead();
        self.apply_ready();
    }
}

/// Regions whose shards only remember.
impl Net<Remembering> {
    /// Regions that have just started and know nothing of each other.
    pub fn new(setup: Setup) -> Self {
        Self::with(setup, Remembering::new)
    }

    /// Writes one op.
    pub fn write(&mut self, at: u8, shard: u16) -> Stamp {
        let (shard, now_ms) = self.shard(at, shard);
        shard.write(now_ms)
    }

    /// What a shard of a region knows of deliveries.
    pub fn delivery(&mut self, at: u8, shard: u16) -> &mut Delivery {
        &mut self.shard(at, shard).0.delivery
    }

    /// A region's logs hold no more frames than this from now on.
    pub fn limit_log(&mut self, at: u8, frames: usize) {
        for number in 0..self.setup.shards {
            self.shard(at, number).0.log_frames_max = frames;
        }
    }

    /// The ops that a shard of a region holds.
    pub fn ops(&self, at: u8, shard: u16) -> &BTreeSet<Stamp> {
        &self.nodes[&super::region(at)].shards[usize::from(shard)].ops
    }

    /// Whether all regions hold the same ops in every shard, and every ended origin is closed.
    pub fn has_converged(&self) -> bool {
        (0..self.setup.shards).all(|number| {
            let mut shards = self.shards_of(number);
            let first = shards.next().expect("there is a region");
            let applied = first.delivery.applied_ops();
            first.delivery.open_endings().is_empty()
                && shards.all(|other| {
                    other.delivery.open_endings().is_empty()
                        && other.ops == first.ops
                        && other.delivery.applied_ops() == applied
                })
        })
    }

    /// Whether every op that anybody holds is stable at every region.
    pub fn is_all_stable(&mut self) -> bool {
        self.nodes
            .values_mut()
            .flat_map(|node| &mut node.shards)
            .all(|shard| {
                let stable = shard.delivery.stable().clone();
                shard.ops.iter().all(|&stamp| stable.covers(stamp))
            })
    }

    /// What every shard holds, for a person who wants to know why they differ.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (region, node) in &self.nodes {
            for (number, shard) in node.shards.iter().enumerate() {
                lines.push(format!(
                    "region {region} shard {number}: {} ops, endings {:?}\n  {:?}\n  waiting {}",
                    shard.ops.len(),
                    shard.delivery.open_endings(),
                    shard.delivery.applied_ops(),
                    shard.delivery.waiting_bytes(),
                ));
            }
        }
        lines.join("\n")
    }
}
