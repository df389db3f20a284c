//! How whoever changes something tells a link's task that it may have something to send.
//!
//! Every write of a client calls [`Waker::wake`], for every peer; so it costs one load while the
//! task has not come round to looking since the last call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes the task that sends to one peer. Clones wake the same task.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Somebody has called `wake` since the task last began to look.
    is_pending: AtomicBool,
    notify: Notify,
}

impl Waker {
    /// Says that [`Handler::poll`](super::Handler::poll) may have something new, from any thread.
    /// Never waits.
    ///
    /// What is new must have been made visible under a lock that `poll` takes too: then a call that
    /// finds the flag set is not lost, for the task clears it before it looks.
    pub fn wake(&self) {
        // The load alone keeps the cache line shared between threads that write.
        if !self.0.is_pending.load(Ordering::Acquire)
            && !self.0.is_pending.swap(true, Ordering::AcqRel)
        {
            self.0.notify.notify_one();
        }
    }

    /// Waits for the first call since [`Self::clear`]. Only one task may wait.
    pub(super) async fn woken(&self) {
        self.0.notify.notified().await;
    }

    /// The task begins to look: calls from now on wake it again.
    pub(super) fn clear(&self) {
        self.0.is_pending.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll};

    use super::*;

    fn is_woken(waker: &Waker) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        pin!(waker.woken()).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn calls_between_two_looks_wake_once() {
        let waker = Waker::default();
        assert!(!is_woken(&waker));
        let other = waker.clone();
        waker.wake();
        other.wake();
        assert!(is_woken(&waker));
        waker.wake(); // The task has not begun to look: it will see this change.
        assert!(!is_woken(&waker));
        waker.clear();
        waker.wake();
        assert!(is_woken(&waker));
    }
}
