//! Zipmaps: small hashes in one string, up to Redis 2.4.
//!
//! `<fields u8> (<length> <name> <length> <unused u8> <value> <unused bytes>) … <0xff>`; a length
//! is a byte below 254, or 254 and a u32, the lowest byte first. A number of fields from 254 on
//! means that they have to be counted. Source: `zipmap.c` of Redis 7.0.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::value::field;
use super::{Broken, Field};

const BROKEN: Broken = Broken("a zipmap is broken");

/// The fields.
pub(super) fn fields(pack: &[u8]) -> Result<Vec<Field>, Broken> {
    let (&claimed, mut rest) = pack.split_first().ok_or(BROKEN)?;
    let mut fields = Vec::new();
    while rest != [0xff] {
        let length = length(&mut rest)?;
        let name = take(&mut rest, length)?.to_vec();
        let length = self::length(&mut rest)?;
        let unused = take(&mut rest, 1)?.first().copied().unwrap_or_default();
        let value = take(&mut rest, length)?.to_vec();
        take(&mut rest, unused.into())?;
        fields.push(field(name, value));
    }
    if claimed < 254 && usize::from(claimed) != fields.len() {
        return Err(BROKEN);
    }
    Ok(fields)
}

fn length(rest: &mut &[u8]) -> Result<usize, Broken> {
    let (&first, behind) = rest.split_first().ok_or(BROKEN)?;
    *rest = behind;
    if first == 0xff {
        return Err(BROKEN);
    }
    if first < 254 {
        return Ok(first.into());
    }
    let (length, behind) = rest.split_first_chunk().ok_or(BROKEN)?;
    *rest = behind;
    Ok(u32::from_le_bytes(*length) as usize)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Broken> {
    let (taken, behind) = rest.split_at_checked(count).ok_or(BROKEN)?;
    *rest = behind;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_unused_bytes_and_long_lengths() {
        let pack = b"\x02\x03foo\x03\x02bar..\xfe\x01\0\0\0a\x00\x00\xff";
        let wanted = [
            field(b"foo".to_vec(), b"bar".to_vec()),
            field(b"a".to_vec(), b"".to_vec()),
        ];
        assert_eq!(fields(pack).unwrap(), wanted);
        for end in 0..pack.len() {
            assert!(fields(&pack[..end]).is_err(), "{end}");
        }
        assert!(fields(b"\x01\xff").is_err());
        assert_eq!(fields(b"\xfe\xff").unwrap(), []);
    }
}
