//! Taking a shard out of service, when a panic has left it half changed.
//!
//! What a client's op had not begun to change is as it was: only that client gets an error. Where
//! an op was under way, the shard is not served any more until the node starts again: nobody reads
//! what is half applied, the op goes into no log and to no other region, and the ops before it stay
//! in the log, from which the others still get them. The node and its other shards go on.
//!
//! An op from elsewhere whose apply panics is not acknowledged, so its sender keeps it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crdt::Stamp;

use super::Shard;
use super::open::OpenOp;
use crate::command::CommandError;

impl Shard {
    /// Refuses what clients ask for if the shard is out of service.
    #[inline]
    pub fn check_in_service(&self) -> Result<(), CommandError> {
        match &self.outage {
            None => Ok(()),
            Some(why) => Err(self.refusal(why)),
        }
    }

    /// Whether it serves clients and applies ops.
    pub const fn is_in_service(&self) -> bool {
        self.outage.is_none()
    }

    #[cold]
    fn refusal(&self, why: &str) -> CommandError {
        CommandError::line(format!(
            "ERR shard {} is out of service: {why}",
            self.number
        ))
    }

    /// Runs what changes the shard without a client. A panic ends here, and takes the shard out of
    /// service. `None` if that has happened, now or before.
    pub(super) fn guarded<R>(
        &mut self,
        doing: impl std::fmt::Display,
        run: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        if !self.is_in_service() {
            return None;
        }
        // What may be half changed is not looked at again.
        match catch_unwind(AssertUnwindSafe(|| run(self))) {
            Ok(result) => Some(result),
            Err(panic) => {
                let panic = panic_text(&*panic);
                self.take_out(format!("{doing} panicked: {panic}"));
                None
            }
        }
    }

    /// An op issued here was broken off by a panic.
    #[cold]
    pub(super) fn break_off(&mut self, op: OpenOp) {
        let stamp = Stamp {
            time: op.time,
            origin: self.origin,
        };
        self.take_out(format!("writing op {stamp} panicked"));
    }

    #[cold]
    pub(super) fn take_out(&mut self, why: String) {
        tracing::error!(shard = self.number, why, "shard is out of service");
        if self.is_in_service() {
            self.outage = Some(why.into());
            // It gets nothing back any more, and the other shards must not wait for it.
            self.delivery.end_words();
            self.delivery.take_no_more();
            if let Some(frame) = self.frame.abandon() {
                self.append(frame);
            }
            self.dismiss_waiters();
        }
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
impl Shard {
    /// Changes of this key panic from now on.
    pub(crate) fn poison(&mut self, name: &[u8]) {
        self.poisoned = Some(name.into());
    }

    pub(super) fn trip(&self, name: &[u8]) {
        assert!(self.poisoned.as_deref() != Some(name), "poisoned");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crdt::{Attached, Deadline, Frame, Version};
    use geo::proto::{Next, Offer};

    use super::*;
    use crate::shard::Round;
    use crate::shard::testing::{NOW_MS, region, shard};

    fn set(shard: &mut Shard, name: &[u8]) {
        shard.transact(NOW_MS, None, |txn| {
            let key = txn.key(name);
            txn.string_set(&key, b"v", Attached::Deadline(Deadline::Never));
        });
    }

    fn panics(run: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(run)).is_err()
    }

    /// The frames in a shard's log that the first region issued.
    fn frames(shard: &mut Shard) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = shard.log_start(region(1), &Version::new()).unwrap();
        while let Some(Next::Frame(frame, next)) = shard.log_next(at, |_| true) {
            frames.push(frame);
            at = next;
        }
        frames
    }

    #[test]
    fn a_panic_before_anything_is_written_harms_nothing() {
        let mut a = shard(1);
        set(&mut a, b"before");
        assert!(panics(
            || a.transact(NOW_MS, None, |_| assert!(a_bug(), "a bug"))
        ));
        assert!(a.is_in_service());
        set(&mut a, b"after");
        assert_eq!(a.len(NOW_MS), 2);
        assert_eq!(frames(&mut a)[0].ops(), 2);
    }

    fn a_bug() -> bool {
        std::hint::black_box(false)
    }

    #[test]
    fn an_op_that_is_broken_off_is_in_no_log_and_those_before_it_are() {
        for before in [0_u8, 3] {
            let mut a = shard(1);
            for number in 0..before {
                set(&mut a, &[number]);
            }
            a.poison(b"poison");
            assert!(panics(|| a.transact(NOW_MS, None, |txn| {
                for name in [&b"first"[..], b"poison"] {
                    let key = txn.key(name);
                    txn.string_set(&key, b"v", Attached::Nothing);
                }
            })));
            let refused = a.check_in_service().unwrap_err().to_string();
            let stamp = format!("{NOW_MS}.{before}/1");
            assert!(refused.starts_with("ERR shard 0 is out of service: writing op "));
            assert!(refused.contains(&stamp), "{refused} does not name {stamp}");
            let ops: u32 = frames(&mut a).iter().map(Frame::ops).sum();
            assert_eq!(ops, u32::from(before));
            // The other region takes them, and goes on.
            let mut b = shard(2);
            for frame in frames(&mut a) {
                assert_eq!(b.offer(frame, region(1), NOW_MS), Offer::Ready);
            }
            assert_eq!(b.len(NOW_MS), usize::from(before));
        }
    }

    #[test]
    fn an_op_from_elsewhere_whose_apply_panics_is_not_acknowledged() {
        let (mut a, mut b) = (shard(1), shard(2));
        set(&mut a, b"fine");
        let fine = a.seal().unwrap();
        set(&mut a, b"poison");
        let poisoned = a.seal().unwrap();
        b.poison(b"poison");
        assert_eq!(b.offer(fine.clone(), region(1), NOW_MS), Offer::Ready);
        b.offer(poisoned.clone(), region(1), NOW_MS);
        let op_before = fine.last();
        let refused = b.check_in_service().unwrap_err().to_string();
        let op = poisoned.iter().next().unwrap().stamp;
        assert_eq!(
            refused,
            format!("ERR shard 0 is out of service: applying op {op} panicked: poisoned")
        );
        assert_eq!(b.version().get(a.origin()), op_before);
        assert_eq!(frames(&mut b), [fine]);
        assert_eq!(b.offer(poisoned, region(1), NOW_MS), Offer::OutOfService);
        // It still says what it holds, and tidies nothing up.
        let acknowledged = b.heartbeat(crdt::Time::from_ms(NOW_MS + 1)).applied;
        assert_eq!(acknowledged.get(a.origin()), op_before);
        let round = Round {
            now_ms: NOW_MS,
            grace_ms: 0,
            down: &[],
            limit: 100,
        };
        assert_eq!((b.settle(100), b.expire(&round)), (false, 0));
    }

    #[test]
    fn a_catch_up_ends_with_it_and_is_not_taken_for_done() {
        let (mut a, mut b) = (shard(1), shard(2));
        set(&mut a, b"fine");
        set(&mut a, b"more");
        let (version, _) = a.span_sums(&a.spans(), usize::MAX).unwrap();
        let from = a.state().walk();
        let (piece, _) = a.state_piece(from).unwrap();
        assert_eq!(
            b.merge_piece(piece.clone(), NOW_MS),
            geo::proto::Merged::Done
        );
        b.poison(b"poison");
        assert!(panics(|| set(&mut b, b"poison")));
        // The rest comes, and the end.
        let before = b.holds().clone();
        assert_eq!(b.merge_piece(piece, NOW_MS), geo::proto::Merged::Done);
        assert_eq!(b.compare(&version, &[], NOW_MS), None);
        b.join(&version, NOW_MS);
        assert_eq!(*b.holds(), before);
        assert_eq!(b.version().get(a.origin()), crdt::Time::ZERO);
    }

    #[test]
    fn a_client_that_waits_is_told_by_its_end() {
        let mut a = shard(1);
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        a.wait(
            vec![b"l".as_slice().into()],
            Box::new(move |_, _| Arc::strong_count(&held) == 0),
        );
        a.poison(b"poison");
        assert!(panics(|| set(&mut a, b"poison")));
        assert_eq!((a.waiting(), Arc::strong_count(&alive)), (0, 1));
        // One whose own try panics ends alone.
        let mut b = shard(1);
        b.wait(
            vec![b"l".as_slice().into()],
            Box::new(|_, _| panic!("a bug")),
        );
        set(&mut b, b"l");
        assert!(b.is_in_service());
        assert_eq!((b.waiting(), b.len(NOW_MS)), (0, 1));
    }
}
