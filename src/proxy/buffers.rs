//! Buffers of connections: those that are idle hold none.
//!
//! Each thread keeps a few that are free, for the next connection that has something to say.

use std::cell::RefCell;

use crate::limits;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back if it is empty, and leaves one that takes up nothing.
pub(super) fn give_back(buffer: &mut Vec<u8>) {
    if !buffer.is_empty() {
        return;
    }
    let buffer = std::mem::take(buffer);
    if buffer.capacity() == 0 || limits::IDLE_BUFFER_BYTES < buffer.capacity() {
        return;
    }
    FREE.with_borrow_mut(|free| {
        if free.len() < limits::FREE_BUFFERS {
            free.push(buffer);
        }
    });
}

/// Leaves a buffer with room for what is in it, if that is little: the rest may never come.
pub(super) fn shrink(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        return give_back(buffer);
    }
    if buffer.len() < buffer.capacity() / 8 {
        let little = buffer.clone();
        let mut large = std::mem::replace(buffer, little);
        large.clear();
        give_back(&mut large);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_request_takes_up_no_more_than_it_is() {
        let mut buffer = Vec::with_capacity(limits::IDLE_BUFFER_BYTES);
        buffer.extend_from_slice(b"half");
        shrink(&mut buffer);
        assert_eq!((&buffer[..], buffer.capacity()), (&b"half"[..], 4));
        assert_eq!(take().capacity(), limits::IDLE_BUFFER_BYTES);
        shrink(&mut buffer);
        assert_eq!((buffer.capacity(), take().capacity()), (4, 0));
    }

    #[test]
    fn a_buffer_comes_back_unless_it_is_large_or_in_use() {
        let mut buffer = Vec::with_capacity(100);
        buffer.push(1);
        give_back(&mut buffer);
        assert_eq!(buffer, [1]);
        buffer.clear();
        give_back(&mut buffer);
        assert_eq!((buffer.capacity(), take().capacity()), (0, 100));
        let mut large = Vec::with_capacity(limits::IDLE_BUFFER_BYTES + 1);
        give_back(&mut large);
        assert_eq!((large.capacity(), take().capacity()), (0, 0));
    }
}
