//! The allocator of the process, and how many bytes it has given out.
//!
//! Limits of memory need to know what is in use at any moment, and must not make allocating dearer:
//! each thread adds up what it takes and gives back by itself, and settles with the sum of the
//! process once that makes a difference. So the sum is behind by less than [`STEP_BYTES`] a thread.
//!
//! Counted is what was asked for, not what the allocator rounds it up to, nor what it keeps of what
//! was given back: what the process takes up in the system is more, see `INFO`.
//!
//! The one module of the crate with unsafe code. Invariant: every block comes from `MIMALLOC` and
//! goes back to it with the layout it was asked for with.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

use mimalloc::MiMalloc as MIMALLOC;

/// Bytes by which a thread may be ahead of the sum.
pub const STEP_BYTES: u64 = 16 << 10;

#[global_allocator]
static HEAP: Heap = Heap(AtomicI64::new(0));

/// See the module: the sum of what threads have settled.
#[derive(Debug)]
struct Heap(AtomicI64);

/// What a thread has taken and not settled.
struct Unsettled(Cell<i64>);

thread_local! {
    static UNSETTLED: Unsettled = const { Unsettled(Cell::new(0)) };
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        HEAP.0.fetch_add(self.0.take(), Ordering::Relaxed);
    }
}

/// Bytes that are in use, by what threads have settled. Costs a load.
#[inline]
pub fn used_bytes() -> u64 {
    u64::try_from(HEAP.0.load(Ordering::Relaxed)).unwrap_or(0)
}

/// Settles what this thread has taken or given back. Costs an atomic addition.
pub fn settle() {
    let _ = UNSETTLED.try_with(|unsettled| {
        HEAP.0.fetch_add(unsettled.0.take(), Ordering::Relaxed);
    });
}

#[inline]
fn note(change: i64) {
    let noted = UNSETTLED.try_with(|unsettled| {
        let sum = unsettled.0.get() + change;
        unsettled.0.set(sum);
        STEP_BYTES <= sum.unsigned_abs()
    });
    match noted {
        Ok(false) => {}
        Ok(true) => settle(),
        // The thread is ending.
        Err(_) => {
            HEAP.0.fetch_add(change, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes on to `MIMALLOC` as it came, which keeps the contract; besides, numbers
// are added up, which allocates nothing and does not panic.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { MIMALLOC.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: as above.
        unsafe { MIMALLOC.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { MIMALLOC.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { MIMALLOC.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than other tests of this process have or give back meanwhile.
    const LARGE: usize = 1 << 30;

    #[test]
    fn what_is_taken_is_counted_until_it_is_given_back_by_whichever_thread() {
        let near = |bytes: u64, wanted: u64| bytes.abs_diff(wanted) < LARGE as u64 / 2;
        let before = used_bytes();
        // Never touched, so it takes up nothing in the system.
        let taken = Vec::<u8>::with_capacity(LARGE);
        assert!(near(used_bytes(), before + LARGE as u64));
        std::thread::spawn(move || drop(taken)).join().unwrap();
        assert!(near(used_bytes(), before));
    }

    #[test]
    fn a_thread_that_ends_settles() {
        let small = STEP_BYTES as usize / 2;
        let total = LARGE / small;
        let before = used_bytes();
        // Each has less than a step, and ends.
        let mut all = Vec::with_capacity(total);
        for _ in 0..64 {
            let more = std::thread::spawn(move || Vec::<u8>::with_capacity(small));
            all.push(more.join().unwrap());
        }
        settle();
        let taken = used_bytes().saturating_sub(before);
        assert!((64 * small) as u64 / 2 < taken, "{taken} of {}", 64 * small);
    }
}
