//! Frames compressed on their way, where that helps.
//!
//! What is sent on a lane at one time is compressed together, for frames are small and alike. Such
//! a *block* stands where a frame could; the top bit of its length tells them apart. Who takes it
//! gets the frames as they were sealed, byte for byte: logs and third regions see no difference.
//!
//! Between regions that are near, the network is faster than compressing; so it is done where the
//! round trip is long, and tried less often while it gains little.
//!
//! What can go wrong: a block that holds more than it may, or what is no frames, ends the
//! connection. Memory is taken as a block is read, never for what it says that it holds.

#![deny(clippy::indexing_slicing)]

use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::split::PREFIX;

/// Set in the length of a block.
pub(super) const BLOCK_BIT: u32 = 1 << 31;
/// Bytes of frames in a block: several times what is sent at one time, and more than a frame that
/// gathered. What is larger goes as it is.
pub(super) const BLOCK_BYTES_MAX: usize = 4 << 20;
/// The decoder sets aside no more than this, as a power of two.
const WINDOW_LOG_MAX: u32 = BLOCK_BYTES_MAX.ilog2();
/// Less is not worth it.
const BLOCK_BYTES_MIN: usize = 512;
/// Fast enough for a gigabit on one core; higher levels gain little on what is so short.
const LEVEL: i32 = 1;
/// From this round trip on, regions are apart.
const APART: Duration = Duration::from_millis(5);
/// How many batches go as they are, after one that did not get smaller by an eighth.
const PAUSE: u32 = 31;

/// Whether frames are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Never.
    Off,
    /// To regions that are 5 ms or more away, there and back.
    #[default]
    Apart,
    /// To all regions.
    On,
}

impl FromStr for Compression {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "off" => Ok(Self::Off),
            "apart" => Ok(Self::Apart),
            "on" => Ok(Self::On),
            _ => Err(()),
        }
    }
}

/// Why a block is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBlock {
    #[error("a compressed block cannot be read: {0}")]
    Unreadable(String),
    #[error("a compressed block holds more than {BLOCK_BYTES_MAX} bytes")]
    TooLong,
    #[error("a compressed block does not hold whole frames")]
    NoFrames,
}

/// Makes blocks for one connection.
pub(super) struct Squeezer {
    compression: Compression,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    pause: u32,
}

impl std::fmt::Debug for Squeezer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Squeezer")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

impl Squeezer {
    pub(super) const fn new(compression: Compression) -> Self {
        Self {
            compression,
            compressor: None,
            pause: 0,
        }
    }

    /// Whether to try, on a path with this round trip.
    pub(super) fn wants(&self, rtt: Duration) -> bool {
        match self.compression {
            Compression::Off => false,
            Compression::Apart => APART <= rtt,
            Compression::On => true,
        }
    }

    /// A block of these frames, if that is worth it. Costs a pass over them.
    pub(super) fn block(&mut self, frames: &[Bytes]) -> Option<Bytes> {
        let length: usize = frames.iter().map(Bytes::len).sum();
        if !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&length) {
            return None;
        }
        if 0 < self.pause {
            self.pause -= 1;
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let plain = frames.concat();
        let mut block = vec![0; PREFIX];
        let room = zstd::zstd_safe::compress_bound(length);
        block.resize(PREFIX + room, 0);
        let out = block.get_mut(PREFIX..)?;
        let written = self.compressor.as_mut()?.compress_to_buffer(&plain, out);
        let written = written
            .ok()
            .filter(|&written| written <= length - length / 8);
        let Some(written) = written else {
            self.pause = PAUSE;
            return None;
        };
        block.truncate(PREFIX + written);
        let prefix = (written as u32 | BLOCK_BIT).to_le_bytes();
        block.get_mut(..PREFIX)?.copy_from_slice(&prefix);
        Some(Bytes::from(block))
    }
}

/// Whether what came on a lane is a block.
pub(super) fn is_block(mut piece: &[u8]) -> bool {
    PREFIX <= piece.len() && piece.get_u32_le() & BLOCK_BIT != 0
}

/// The frames in a block, each with its length in front and memory of its own.
pub(super) fn frames(block: &[u8]) -> Result<Vec<Bytes>, BadBlock> {
    let unreadable = |error: std::io::Error| BadBlock::Unreadable(error.to_string());
    let content = block.get(PREFIX..).unwrap_or_default();
    let mut decoder = zstd::stream::read::Decoder::new(content).map_err(unreadable)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
    let mut plain = Vec::new();
    let most = BLOCK_BYTES_MAX as u64 + 1;
    let mut decoder = decoder.take(most);
    decoder.read_to_end(&mut plain).map_err(unreadable)?;
    if BLOCK_BYTES_MAX < plain.len() {
        return Err(BadBlock::TooLong);
    }
    let mut rest = plain.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (frame, behind) = first(rest).ok_or(BadBlock::NoFrames)?;
        frames.push(Bytes::copy_from_slice(frame));
        rest = behind;
    }
    if frames.is_empty() {
        return Err(BadBlock::NoFrames);
    }
    Ok(frames)
}

/// The first frame of some, with its length in front, and what follows it.
fn first(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = frames.first_chunk().copied().map(u32::from_le_bytes)?;
    frames.split_at_checked(PREFIX.checked_add(length as usize)?)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "of what was just made")]
mod tests {
    use super::*;

    fn frame(content: &[u8]) -> Bytes {
        let length = (content.len() as u32).to_le_bytes();
        Bytes::from([&length[..], content].concat())
    }

    fn alike() -> Vec<Bytes> {
        (0..100)
            .map(|number| frame(format!("key:{number:012} and a value").as_bytes()))
            .collect()
    }

    fn noise(bytes: usize) -> Bytes {
        let mut chance = fastrand::Rng::with_seed(1);
        frame(
            &std::iter::repeat_with(|| chance.u8(..))
                .take(bytes)
                .collect::<Vec<u8>>(),
        )
    }

    #[test]
    fn frames_come_out_of_a_block_as_they_went_in() {
        let sent = alike();
        let block = Squeezer::new(Compression::On).block(&sent).expect("alike");
        assert!(is_block(&block) && !is_block(&sent[0]));
        let length: usize = sent.iter().map(Bytes::len).sum();
        assert!(3 * block.len() < length, "{} of {length}", block.len());
        assert_eq!(frames(&block), Ok(sent));
    }

    #[test]
    fn what_does_not_get_smaller_goes_as_it_is_and_is_not_tried_all_the_time() {
        let mut squeezer = Squeezer::new(Compression::On);
        assert_eq!(squeezer.block(&[noise(10_000)]), None);
        for _ in 0..PAUSE {
            assert_eq!(squeezer.block(&alike()), None);
        }
        assert!(squeezer.block(&alike()).is_some());
        assert_eq!(squeezer.block(&alike()[..2]), None, "too little");
        assert_eq!(
            squeezer.block(&[frame(&vec![0; BLOCK_BYTES_MAX])]),
            None,
            "too much"
        );
    }

    #[test]
    fn regions_that_are_near_get_frames_as_they_are() {
        let wants = |compression, ms| Squeezer::new(compression).wants(Duration::from_millis(ms));
        assert!(wants(Compression::Apart, 5) && !wants(Compression::Apart, 4));
        assert!(wants(Compression::On, 0) && !wants(Compression::Off, 100));
    }

    #[test]
    fn a_block_that_was_cut_or_changed_or_holds_too_much_is_refused() {
        let block = Squeezer::new(Compression::On)
            .block(&alike())
            .expect("alike");
        for end in 0..block.len() {
            assert!(frames(&block[..end]).is_err(), "cut at {end}");
        }
        for at in PREFIX..block.len() {
            let mut changed = block.to_vec();
            changed[at] ^= 0x10;
            // What is read nevertheless has other bytes: the frames' own checksums tell.
            let _ = frames(&changed);
        }
        let block_of = |plain: &[u8]| {
            let content = zstd::bulk::compress(plain, 1).expect("in memory");
            [&[0; PREFIX][..], &content].concat()
        };
        let bomb = block_of(&vec![0; BLOCK_BYTES_MAX + 1]);
        assert!(bomb.len() < 1_000);
        assert_eq!(frames(&bomb), Err(BadBlock::TooLong));
        assert_eq!(frames(&block_of(&[9, 0, 0, 0, 1])), Err(BadBlock::NoFrames));
        assert_eq!(
            frames(&block_of(&u32::MAX.to_le_bytes())),
            Err(BadBlock::NoFrames)
        );
    }
}
