//! LZF, by which Redis compresses strings: literals, and copies of what was just written.
//!
//! Only expanded here; what we write is not compressed. Source: `lzf_d.c` of liblzf 3.6.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Broken;

/// Bytes that one byte of input can become at most: a copy takes three and gives 264.
const GROWTH_MAX: usize = 88;

/// What `input` was before it was compressed, which is said to be `length` bytes. The claim is
/// held against what the input can give before anything is allocated.
pub(super) fn expand(input: &[u8], length: usize) -> Result<Vec<u8>, Broken> {
    if input.len().saturating_mul(GROWTH_MAX) < length {
        return Err(Broken("a compressed string claims more than it can hold"));
    }
    let broken = Broken("a compressed string is broken");
    let mut out = Vec::with_capacity(length);
    let mut rest = input;
    while let Some(control) = next(&mut rest) {
        if control < 32 {
            let (literals, behind) = rest.split_at_checked(control + 1).ok_or(broken)?;
            out.extend_from_slice(literals);
            rest = behind;
        } else {
            let mut copied = control >> 5;
            if copied == 7 {
                copied += next(&mut rest).ok_or(broken)?;
            }
            let back = (control & 0x1f) << 8 | next(&mut rest).ok_or(broken)?;
            let from = out.len().checked_sub(back + 1).ok_or(broken)?;
            copy(&mut out, from, copied + 2);
        }
        if length < out.len() {
            return Err(broken);
        }
    }
    if out.len() == length {
        Ok(out)
    } else {
        Err(broken)
    }
}

fn next(rest: &mut &[u8]) -> Option<usize> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(usize::from(*first))
}

/// Appends `count` bytes of what is there from `from` on, those that it appends included.
fn copy(out: &mut Vec<u8>, from: usize, mut count: usize) {
    while 0 < count {
        let end = out.len().min(from + count);
        let run = end - from;
        out.extend_from_within(from..end);
        count -= run;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_that_overlap() {
        assert_eq!(expand(b"\x02abc", 3).unwrap(), b"abc");
        // `ab`, then seven bytes from two before: 3 << 5 copies 5, 5 << 5 copies 7.
        assert_eq!(expand(b"\x01ab\xa0\x01", 9).unwrap(), b"ababababa");
        let mut long = b"\x00a\xe0\xff\x00".to_vec();
        assert_eq!(expand(&long, 265).unwrap(), vec![b'a'; 265]);
        long.extend_from_slice(b"\x00b");
        assert_eq!(expand(&long, 266).unwrap().last(), Some(&b'b'));
    }

    #[test]
    fn what_is_broken_is_said_to_be() {
        for (input, length) in [
            (&b"\x02ab"[..], 3),
            (b"\x02abc", 2),
            (b"\x02abc", 4),
            (b"\x00a\x20", 4),
            (b"\x00a\xe0", 4),
            (b"\x00a\x20\x01", 4),
            (b"\x00a", usize::MAX),
        ] {
            assert!(expand(input, length).is_err(), "{input:?} as {length}");
        }
    }
}
