//! Intsets: sets of integers in one string.
//!
//! `<bytes of one u32> <members u32> <member> …`, in order, the lowest byte first. Source:
//! `intset.c` of Redis 7.0.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Broken;
use super::listpack::number;

const BROKEN: Broken = Broken("an intset is broken");

/// The members, as decimal text.
pub(super) fn members(pack: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    let (header, rest) = pack.split_first_chunk::<8>().ok_or(BROKEN)?;
    let [w0, w1, w2, w3, n0, n1, n2, n3] = *header;
    let width = u32::from_le_bytes([w0, w1, w2, w3]);
    let count = u32::from_le_bytes([n0, n1, n2, n3]);
    if u64::from(width) * u64::from(count) != rest.len() as u64 {
        return Err(BROKEN);
    }
    let members: Vec<i64> = match width {
        2 => integers(rest, |bytes| i16::from_le_bytes(bytes).into()),
        4 => integers(rest, |bytes| i32::from_le_bytes(bytes).into()),
        8 => integers(rest, i64::from_le_bytes),
        _ => return Err(BROKEN),
    };
    if !members.is_sorted_by(|a, b| a < b) {
        return Err(BROKEN);
    }
    Ok(members.into_iter().map(number).collect())
}

fn integers<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|bytes| of(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_signs_and_order() {
        let narrow = b"\x02\0\0\0\x02\0\0\0\xff\xff\x07\0";
        assert_eq!(members(narrow).unwrap(), [b"-1".to_vec(), b"7".to_vec()]);
        let wide = b"\x08\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x80";
        assert_eq!(members(wide).unwrap(), [b"-9223372036854775808".to_vec()]);
        let reversed = b"\x02\0\0\0\x02\0\0\0\x07\0\xff\xff";
        assert!(members(reversed).is_err());
        assert!(members(b"\x03\0\0\0\x01\0\0\0\0\0\0").is_err());
        assert!(members(b"\0\0\0\0\0\0\0\x80").is_err());
        for end in 0..narrow.len() {
            assert!(members(&narrow[..end]).is_err(), "{end}");
        }
    }
}
