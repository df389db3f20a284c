//! Every op that was ever issued, whoever still has it.
//!
//! A stamp names one op, for good: two ops of one stamp, of whatever lives, are a mistake. And what
//! a node that has started should hold is what the ops come to of which it says that it has them.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{FactId, Frame, Op, Origin, Stamp, Time, Version};

use super::model::Model;

/// See the module.
#[derive(Default)]
pub(super) struct History {
    /// By shard: the frames that ops came in.
    ops: BTreeMap<u16, BTreeMap<Stamp, Frame>>,
    /// When an origin of a shard issued ops.
    times: BTreeMap<(u16, Origin), BTreeSet<Time>>,
}

/// An op of a frame.
fn find(frame: &Frame, stamp: Stamp) -> Option<Op<'_>> {
    frame.iter().find(|op| op.stamp == stamp)
}

impl History {
    /// Takes note of the ops of a frame.
    pub(super) fn note(&mut self, frame: &Frame) {
        let times = (frame.shard(), frame.origin());
        let times = self.times.entry(times).or_default();
        times.extend(frame.iter().map(|op| op.stamp.time));
        let ops = self.ops.entry(frame.shard()).or_default();
        for op in frame {
            let known = ops.entry(op.stamp).or_insert_with(|| frame.clone());
            if known.bytes() == frame.bytes() {
                continue;
            }
            let known = find(known, op.stamp).expect("it was in there");
            assert!(
                known.deps == op.deps && known.effects().eq(op.effects()),
                "stamp {} was given twice",
                op.stamp
            );
        }
    }

    /// When an origin of a shard issued its last op up to some time.
    pub(super) fn last_up_to(&self, number: u16, origin: Origin, time: Time) -> Time {
        let times = self.times.get(&(number, origin));
        let last = times.and_then(|times| times.range(..=time).next_back());
        last.copied().unwrap_or_default()
    }

    /// The frames of an origin of a shard, in order, and none that is held by another.
    pub(super) fn of(&self, number: u16, origin: Origin) -> Vec<Frame> {
        let ops = self.ops.get(&number).into_iter().flatten();
        let ops = ops.filter(|(stamp, _)| stamp.origin == origin);
        let mut frames: Vec<Frame> = ops.map(|(_, frame)| frame.clone()).collect();
        frames.dedup();
        frames
    }

    /// What all ops of a shard come to that a version has.
    pub(super) fn model(&self, number: u16, held: &Version) -> Model {
        let mut model = Model::default();
        // By time, so each after what it had seen.
        for (stamp, frame) in self.ops.get(&number).into_iter().flatten() {
            if held.get(stamp.origin) < stamp.time {
                continue;
            }
            let op = find(frame, *stamp).expect("it was in there");
            let mut seen = Version::clone(&op.deps);
            seen.advance(stamp.origin, stamp.time);
            for (index, effect) in (0..).zip(op.effects()) {
                let id = FactId {
                    stamp: *stamp,
                    index,
                };
                model.apply(id, &seen, &effect);
            }
        }
        model
    }
}
