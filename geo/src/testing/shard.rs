//! A shard that only remembers, and how links reach it.

use std::collections::{BTreeSet, VecDeque};

use crdt::{Change, Clock, Effect, Frame, FrameWriter, Region, Stamp, Time, Version};

use crate::proto::{Delivery, DeliveryConfig, Heartbeat, Next, Offer, Reach, Shards};

/// A shard that remembers what it has applied, and nothing else.
#[derive(Debug)]
pub(super) struct SimShard {
    pub(super) delivery: Delivery,
    clock: Clock,
    writer: FrameWriter,
    log: VecDeque<Frame>,
    /// Frames dropped from the front of the log.
    dropped: u64,
    pub(super) log_frames_max: usize,
    dropped_ops: Version,
    pub(super) ops: BTreeSet<Stamp>,
}

impl SimShard {
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
        }
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
                assert!(self.ops.insert(op.stamp), "{} is applied once", op.stamp);
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
        }
    }
}

/// The shards of a node at a moment.
pub(super) struct View<'a> {
    pub(super) shards: &'a mut [SimShard],
    pub(super) reach: &'a mut Reach,
    pub(super) now_ms: u64,
}

impl View<'_> {
    fn at(&mut self, shard: u16) -> &mut SimShard {
        &mut self.shards[usize::from(shard)]
    }
}

impl Shards for View<'_> {
    fn count(&self) -> u16 {
        self.shards.len() as u16
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn reach(&mut self, run: &mut dyn FnMut(&mut Reach)) {
        run(self.reach);
    }

    fn delivery(&mut self, shard: u16, run: &mut dyn FnMut(&mut Delivery)) {
        run(&mut self.at(shard).delivery);
    }

    fn heartbeat(&mut self, shard: u16, time: Time) -> Heartbeat {
        let shard = self.at(shard);
        shard.clock.observe(time);
        shard.delivery.heartbeat(time)
    }

    fn offer(&mut self, frame: Frame, from: Region) -> Offer {
        let now_ms = self.now_ms;
        let shard = self.at(frame.shard());
        let offer = shard.delivery.offer(frame, from, now_ms);
        shard.apply_ready();
        offer
    }

    fn heard(&mut self, shard: u16, heartbeat: Heartbeat, from: Region) {
        let now_ms = self.now_ms;
        let shard = self.at(shard);
        shard.delivery.heard(heartbeat, from, now_ms);
        shard.apply_ready();
    }

    fn start(&mut self, shard: u16, region: Region, applied: &Version) -> Option<u64> {
        let shard = self.at(shard);
        let mut dropped = shard
            .dropped_ops
            .iter()
            .filter(|(origin, _)| origin.region == region);
        let reaches_back = dropped.all(|(origin, time)| time <= applied.get(origin));
        reaches_back.then_some(shard.dropped)
    }

    fn next_frame(
        &mut self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next {
        let shard = self.at(shard);
        shard.seal();
        let Some(skip) = position.checked_sub(shard.dropped) else {
            return Next::Behind;
        };
        let mut rest = (position..).zip(shard.log.iter().skip(skip as usize));
        match rest.find(|(_, frame)| wanted(frame)) {
            Some((at, frame)) => Next::Frame(frame.clone(), at + 1),
            None => Next::End(shard.dropped + shard.log.len() as u64),
        }
    }

    fn pending(&mut self, shard: u16, peer: Region, applied: &Version) -> u64 {
        let of_others = self
            .at(shard)
            .ops
            .iter()
            .filter(|stamp| stamp.origin.region != peer);
        of_others.filter(|stamp| !applied.covers(**stamp)).count() as u64
    }
}
