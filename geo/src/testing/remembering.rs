//! A shard that only remembers, and what tests of a net of such shards ask.

use std::collections::{BTreeSet, VecDeque};

use crdt::{Change, Clock, Effect, Frame, FrameWriter, Region, Stamp, Time, Version};

use super::{Net, Replica, Setup};
use crate::proto::{Delivery, DeliveryConfig, Heartbeat, Next, Offer};

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
