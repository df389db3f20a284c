//! Owned bytes behind one thin pointer.
//!
//! A `Box<[u8]>` takes 16 bytes where it is held; there are millions of table entries, and the
//! length is better kept in front of the bytes. With [`crate::prefetch`], the only module of the
//! crate with unsafe code. Invariant: `start` points to an allocation of `HEADER + length` bytes
//! that begins with the length and belongs to this value alone.

#![expect(
    unsafe_code,
    reason = "a thin pointer needs an allocation laid out by hand"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::prefetch::prefetch;

/// Bytes before the content: its length.
const HEADER: usize = size_of::<u32>();

/// Owned bytes whose length does not change; at most 4 GiB less the header.
pub(crate) struct ThinBytes {
    start: NonNull<u32>,
}

// SAFETY: the allocation belongs to this value alone, as that of a `Box<[u8]>` does.
unsafe impl Send for ThinBytes {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for ThinBytes {}

impl ThinBytes {
    /// The parts, one after the other, in one allocation.
    ///
    /// # Panics
    ///
    /// If they are longer than [`u32::MAX`] together.
    pub(crate) fn from_parts(parts: &[&[u8]]) -> Self {
        let lengths = parts.iter().map(|part| part.len());
        // Saturating: the sum must not wrap, for the copies below rely on it.
        let length = lengths.fold(0, usize::saturating_add);
        let layout = layout(u32::try_from(length).expect("values are shorter than 4 GiB"));
        // SAFETY: the layout is never of size zero, for it has the header.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let start = start.cast::<u32>();
        // SAFETY: the allocation begins with room for a `u32` and is aligned for one.
        unsafe { start.write(length as u32) };
        let mut at = HEADER;
        for part in parts {
            // SAFETY: the parts fit one after the other behind the header, by the sum above, and
            // fresh memory does not overlap them.
            unsafe {
                let to = start.cast::<u8>().add(at);
                to.copy_from_nonoverlapping(NonNull::from(*part).cast(), part.len());
            }
            at += part.len();
        }
        Self { start }
    }

    /// Has the processor load the bytes, the first of them at least.
    pub(crate) fn prefetch(&self) {
        prefetch(self.start.as_ptr());
    }

    fn length(&self) -> u32 {
        // SAFETY: the allocation begins with the length.
        unsafe { self.start.read() }
    }
}

fn layout(length: u32) -> Layout {
    let size = HEADER.saturating_add(length as usize);
    Layout::from_size_align(size, align_of::<u32>()).expect("the address space has room")
}

impl Deref for ThinBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let length = self.length() as usize;
        // SAFETY: `length` initialised bytes follow the header, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>().add(HEADER).as_ptr(), length) }
    }
}

impl DerefMut for ThinBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length() as usize;
        // SAFETY: as in `deref`, and `self` is borrowed for change.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.cast::<u8>().add(HEADER).as_ptr(), length)
        }
    }
}

impl Drop for ThinBytes {
    fn drop(&mut self) {
        let layout = layout(self.length());
        // SAFETY: allocated with this layout, and not used again.
        unsafe { dealloc(self.start.cast::<u8>().as_ptr(), layout) };
    }
}

impl Clone for ThinBytes {
    fn clone(&self) -> Self {
        Self::from_parts(&[self])
    }
}

impl fmt::Debug for ThinBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pointer_takes_eight_bytes_and_so_does_none() {
        assert_eq!(size_of::<Option<ThinBytes>>(), 8);
    }

    proptest! {
        #[test]
        fn holds_its_parts(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let mut bytes = ThinBytes::from_parts(&slices);
            prop_assert_eq!(&bytes[..], parts.concat());
            prop_assert_eq!(&bytes.clone()[..], parts.concat());
            bytes.iter_mut().for_each(|b| *b ^= 1);
            let changed: Vec<u8> = parts.concat().iter().map(|b| b ^ 1).collect();
            prop_assert_eq!(&bytes[..], changed);
        }
    }
}
