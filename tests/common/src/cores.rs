//! Work on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs on each of some things, on as many threads as there are cores.
///
/// # Panics
///
/// If it does on one of them; the others may not have been looked at then.
pub fn on_all_cores<T: Sync>(all: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stop = StopOnPanic(&next, all.len());
            run(one);
            std::mem::forget(stop);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
}

/// Has the other threads stop when it is dropped.
struct StopOnPanic<'a>(&'a AtomicUsize, usize);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}
