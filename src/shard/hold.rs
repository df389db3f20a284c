//! A shard that is held for several steps, which are one op: `EXEC`, and commands over several
//! shards.
//!
//! What a step writes is there for the next one, and for nobody else until the lock is let go of.

use crdt::{Key, Time};
use parking_lot::MutexGuard;

use super::Shard;
use super::looks::Looked;
use super::open::OpenOp;
use super::txn::Txn;

/// See the module.
#[derive(Debug)]
pub struct Hold<'a> {
    shard: MutexGuard<'a, Shard>,
    now_ms: u64,
    op: Option<OpenOp>,
    before: Time,
}

impl<'a> Hold<'a> {
    /// Begins, with the shard locked.
    pub fn new(shard: MutexGuard<'a, Shard>, now_ms: u64) -> Self {
        Self {
            now_ms,
            op: None,
            before: shard.written(),
            shard,
        }
    }

    /// The shard, to look at.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Runs one step.
    pub fn step<R>(&mut self, first: Option<Key<'_>>, run: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        let mut txn = Txn {
            shard: &mut self.shard,
            now_ms: self.now_ms,
            first,
            op: self.op.take(),
            looked: Looked::default(),
        };
        let result = run(&mut txn);
        self.op = txn.op.take();
        result
    }

    /// Ends: what the steps wrote is one op. Returns whether anything was written, for clients that
    /// waited too.
    pub fn finish(mut self) -> bool {
        if let Some(op) = self.op.take() {
            self.shard.close(op);
        }
        let now_ms = self.now_ms;
        self.shard.serve(now_ms);
        self.before != self.shard.written()
    }
}

impl Drop for Hold<'_> {
    /// An op that is still open here was broken off by a panic between two steps.
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            self.shard.break_off(op);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crdt::Attached;
    use parking_lot::Mutex;

    use super::*;
    use crate::shard::testing::{NOW_MS, shard};

    fn set(hold: &mut Hold<'_>, name: &[u8]) {
        hold.step(None, |txn| {
            let key = txn.key(name);
            txn.string_set(&key, b"v", Attached::Nothing);
        });
    }

    #[test]
    fn all_steps_are_one_op() {
        let shard = Mutex::new(shard(1));
        let mut hold = Hold::new(shard.lock(), NOW_MS);
        set(&mut hold, b"a");
        hold.step(None, |txn| {
            txn.flush();
        });
        set(&mut hold, b"b");
        assert_eq!(hold.shard().len(NOW_MS), 1);
        assert!(hold.finish());
        assert!(
            !Hold::new(shard.lock(), NOW_MS).finish(),
            "nothing was written"
        );
        let frame = shard.lock().seal().unwrap();
        assert_eq!(frame.ops(), 1);
    }

    #[test]
    fn a_panic_between_two_steps_breaks_the_op_off() {
        let shard = Mutex::new(shard(1));
        let steps = catch_unwind(AssertUnwindSafe(|| {
            let mut hold = Hold::new(shard.lock(), NOW_MS);
            set(&mut hold, b"a");
            panic!("a bug");
        }));
        assert!(steps.is_err() && !shard.lock().is_in_service());
        assert_eq!(shard.lock().seal(), None);
    }
}
