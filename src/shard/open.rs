//! The op that a transaction is writing: opened by its first effect, closed at its end.

use crdt::{Applying, Change, Dot, Effect, FactId, Key, Stamp, Time};

use super::txn::Txn;
use crate::limits;

/// An op that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenOp {
    applying: Applying,
    pub(super) time: Time,
    /// How many effects it has so far.
    effects: u32,
}

impl Txn<'_> {
    /// Writes one effect: into the op, and into the state. Returns whether the field, member or
    /// score that it is about existed before, if it is about one.
    pub(super) fn emit(&mut self, key: &Key<'_>, change: Change<'_>) -> bool {
        let mut op = self.open();
        let effect = Effect {
            key: key.name,
            change,
        };
        if self.shard.logs {
            self.shard.frame.push(&effect);
        }
        let existed = self
            .shard
            .state
            .apply(op.applying, op.effects, key, &effect.change);
        self.shard.touch(key, &effect.change, self.now_ms);
        op.effects += 1;
        self.op = Some(op);
        existed
    }

    /// Ends the transaction: what it wrote is one op.
    pub(super) fn finish(mut self) {
        if let Some(op) = self.op.take() {
            self.shard.close(op);
        }
    }

    /// The identity of the fact that the next effect leaves behind.
    pub(super) fn next_fact(&mut self) -> FactId {
        let op = self.open();
        let stamp = Stamp {
            time: op.time,
            origin: self.shard.origin,
        };
        FactId {
            stamp,
            index: op.effects,
        }
    }

    /// As [`Txn::next_fact`], without the origin.
    pub(super) fn next_dot(&mut self) -> Dot {
        let op = self.open();
        Dot {
            time: op.time,
            index: op.effects,
        }
    }

    /// The op, opened now if it is not.
    fn open(&mut self) -> OpenOp {
        if let Some(op) = self.op {
            return op;
        }
        let op = self.shard.open(self.now_ms);
        self.op = Some(op);
        op
    }
}

impl Drop for Txn<'_> {
    /// An op that is still open here was broken off by a panic.
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            self.shard.break_off(op);
        }
    }
}

impl super::Shard {
    fn open(&mut self, now_ms: u64) -> OpenOp {
        let time = self.clock.tick(now_ms);
        self.begin_uses(now_ms);
        let stamp = Stamp {
            time,
            origin: self.origin,
        };
        // It has seen what others see in it, which is the version.
        let deps = self.state.is_ahead().then(|| self.delivery.deps().0);
        let applying = self.state.begin(stamp, deps);
        if self.logs {
            self.frame.begin_op(time, self.delivery.deps().0);
        }
        OpenOp {
            applying,
            time,
            effects: 0,
        }
    }

    /// Ends an op: links may send it.
    pub(super) fn close(&mut self, op: OpenOp) {
        self.delivery.issued(op.time);
        self.changes += u64::from(op.effects);
        if !self.logs {
            return;
        }
        self.frame.end_op();
        self.soil();
        if limits::FRAME_BYTES < self.frame.len() {
            self.seal();
        }
    }
}
