//! Asking the processor to load what will be read soon.
//!
//! A request's key is nearly never in the processor's caches when there are many keys, and loads
//! that depend on each other (index, place, entry) are waited for one by one. Whoever knows several
//! keys ahead asks for all of them first; then the waits overlap.

#![expect(unsafe_code, reason = "there is no safe way to ask yet")]

/// Has the processor load the memory at an address, and the line after it. Changes nothing.
#[inline]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start: *const i8 = at.cast();
        // SAFETY: a hint reads nothing and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start) };
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
