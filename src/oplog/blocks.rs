//! Memory for frames that has been touched before it is needed.
//!
//! The first touch of memory takes the system 0.2 ms for two MiB, and where a hypervisor must find
//! it first, 7 ms. Frames are written under a shard's lock by threads that serve clients and links,
//! so logs write them into blocks that a thread with nothing else to do has touched, and that come
//! back once all of their frames have been dropped: a log at its bound takes no new memory.
//!
//! When no block is ready, a new one is made where it is needed: slower, never refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::frames::{Chunk, new_chunk, touched_chunk};

/// Bytes of a block. Each shard fills one, and one is dropped little by little.
const BLOCK_BYTES: usize = 64 << 10;
/// Frames beyond this have memory of their own, so that no more than a quarter of a block is lost.
pub(super) const PIECE_BYTES_MAX: usize = BLOCK_BYTES / 4;
/// Blocks that are to be ready: 8 MiB, 100 ms of 600,000 writes/s.
const READY: usize = 128;
/// Blocks that are kept when they come back: as many again.
const READY_MAX: usize = 2 * READY;
/// Chunks that are to be ready: for as many frames as fit into the blocks where they are small.
const CHUNKS_READY: usize = 64;
const CHUNKS_READY_MAX: usize = 2 * CHUNKS_READY;

/// Bytes that are kept ready at most, but for those of chunks.
pub(super) const READY_BYTES_MAX: u64 = (READY_MAX * BLOCK_BYTES) as u64;

/// See the module. Shared by the logs of a node.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    state: Mutex<State>,
    /// How many blocks are ready, to be known without the lock.
    ready: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<BytesMut>,
    /// For what the logs know of each frame.
    chunks: Vec<Chunk>,
    /// Whether one was ever asked for: a node that nobody writes to keeps none.
    is_used: bool,
}

impl Blocks {
    /// An empty block.
    pub(super) fn take(&self) -> BytesMut {
        let ready = {
            let state = &mut *self.state.lock();
            state.is_used = true;
            let block = state.ready.pop();
            self.ready.store(state.ready.len(), Ordering::Relaxed);
            block
        };
        ready.unwrap_or_else(|| BytesMut::with_capacity(BLOCK_BYTES))
    }

    /// Takes a frame's bytes: if they were the last of a block, that is ready again.
    pub(super) fn give_back(&self, bytes: Bytes) {
        let Ok(mut block) = bytes.try_into_mut() else {
            return;
        };
        block.clear();
        if block.try_reclaim(BLOCK_BYTES) && block.capacity() == BLOCK_BYTES {
            let state = &mut *self.state.lock();
            if state.ready.len() < READY_MAX {
                state.ready.push(block);
                self.ready.store(state.ready.len(), Ordering::Relaxed);
            }
        }
    }

    /// Bytes of the blocks that are ready.
    pub(super) fn ready_bytes(&self) -> u64 {
        (self.ready.load(Ordering::Relaxed) * BLOCK_BYTES) as u64
    }

    /// An empty chunk.
    pub(super) fn take_chunk(&self) -> Chunk {
        let ready = self.state.lock().chunks.pop();
        ready.unwrap_or_else(new_chunk)
    }

    /// Takes a chunk that has become empty.
    pub(super) fn give_back_chunk(&self, chunk: Chunk) {
        let state = &mut *self.state.lock();
        if state.chunks.len() < CHUNKS_READY_MAX {
            state.chunks.push(chunk);
        }
    }

    /// Whether [`Self::fill`] has something to do.
    pub(super) fn is_low(&self) -> bool {
        let state = self.state.lock();
        let is_low = state.ready.len() < READY || state.chunks.len() < CHUNKS_READY;
        state.is_used && is_low
    }

    /// Makes blocks ready. Takes as long as the system needs to find the memory.
    pub(super) fn fill(&self) {
        while self.is_low() {
            let mut block = BytesMut::with_capacity(BLOCK_BYTES);
            block.resize(BLOCK_BYTES, 0xff);
            block.clear();
            self.give_back(block.freeze());
            self.give_back_chunk(touched_chunk());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_ready_again_once_its_last_frame_is_dropped() {
        let blocks = Blocks::default();
        assert!(!blocks.is_low(), "nobody has asked for any");
        let mut block = blocks.take();
        let place = block.as_ptr();
        assert!(blocks.is_low());
        let frames = [10, 20, 30].map(|bytes| {
            block.resize(bytes, 7);
            block.split().freeze()
        });
        drop(block);
        let reader = frames[1].clone();
        for frame in frames {
            blocks.give_back(frame);
        }
        assert_eq!(blocks.state.lock().ready.len(), 0, "somebody reads it");
        blocks.give_back(reader);
        let again = blocks.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(again.capacity(), BLOCK_BYTES);
    }

    #[test]
    fn what_is_kept_ready_is_bounded_and_other_memory_is_not_kept() {
        let blocks = Blocks::default();
        let all: Vec<_> = (0..=READY_MAX).map(|_| blocks.take()).collect();
        for mut block in all {
            block.resize(1, 7);
            let frame = block.split().freeze();
            drop(block);
            blocks.give_back(frame);
        }
        assert_eq!(blocks.state.lock().ready.len(), READY_MAX);
        blocks.state.lock().ready.clear();
        blocks.give_back(Bytes::from(vec![7; 10]));
        blocks.give_back(Bytes::from(vec![7; 2 * BLOCK_BYTES]));
        assert_eq!(blocks.state.lock().ready.len(), 0);
        blocks.fill();
        assert_eq!(blocks.state.lock().ready.len(), READY);
    }
}
