//! Pauses shorter than the runtime's millisecond.
//!
//! A busy log is sent in batches some hundred microseconds apart: each batch costs a system call
//! and a look at every shard. The runtime's timers round up to whole milliseconds, so on Linux a
//! timer of the system's own is used.

use std::time::Duration;

use tokio::time::Instant;

/// Keeps batches apart.
#[derive(Debug)]
pub(super) struct Pause {
    least: Duration,
    timer: timer::Timer,
}

impl Pause {
    /// Batches at least `least` apart.
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            timer: timer::Timer::new(),
        }
    }

    /// Waits until it is `least` since `sent_at`; after a quiet time, not at all.
    pub(super) async fn since(&self, sent_at: Option<Instant>) {
        let passed = sent_at.map_or(self.least, |sent_at| sent_at.elapsed());
        if let Some(rest) = self.least.checked_sub(passed)
            && !rest.is_zero()
        {
            self.timer.sleep(rest).await;
        }
    }
}

#[cfg(target_os = "linux")]
mod timer {
    //! A timer that is read like a file.

    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// `None` if the system has no more files to give: then the runtime's timers have to do.
    #[derive(Debug)]
    pub(super) struct Timer(Option<AsyncFd<OwnedFd>>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "its unsafe successor is for files that others may close; this one is owned"
        )]
        pub(super) fn new() -> Self {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let file = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
            Self(file.and_then(|file| AsyncFd::with_interest(file, Interest::READABLE).ok()))
        }

        pub(super) async fn sleep(&self, span: Duration) {
            if self.fire(span).await.is_none() {
                tokio::time::sleep(span).await;
            }
        }

        async fn fire(&self, span: Duration) -> Option<()> {
            let file = self.0.as_ref()?;
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(span).ok()?,
            };
            timerfd_settime(file.get_ref(), TimerfdTimerFlags::empty(), &once).ok()?;
            loop {
                let mut guard = file.readable().await.ok()?;
                let fired = guard.try_io(|file| {
                    let mut count = [0; 8];
                    Ok(rustix::io::read(file.get_ref(), &mut count)?)
                });
                match fired {
                    Ok(read) => return read.ok().map(drop),
                    Err(_would_block) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    //! The runtime's.

    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) const fn new() -> Self {
            Self
        }

        pub(super) async fn sleep(&self, span: Duration) {
            tokio::time::sleep(span).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_waits_only_for_the_one_just_before_it() {
        let least = Duration::from_micros(700);
        let pause = Pause::new(least);
        let sent_at = Instant::now();
        for _ in 0..3 {
            pause.since(Some(sent_at)).await;
            assert!(least <= sent_at.elapsed());
        }
        let sent_at = Instant::now();
        pause.since(Some(sent_at)).await;
        assert!(
            least <= sent_at.elapsed(),
            "a timer that has fired fires again"
        );
    }
}
