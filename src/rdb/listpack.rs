//! Listpacks: small containers in one string, from Redis 5 on.
//!
//! `<bytes u32> <elements u16> <element> … <0xff>`, numbers the lowest byte first. An element is an
//! encoding byte, its value, and its length once more for those who walk backwards. An element
//! count of 65,535 means that it has to be counted. Source: `listpack.c` of Redis 7.4.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Broken;

const BROKEN: Broken = Broken("a listpack is broken");

/// The elements; integers as decimal text.
pub(super) fn elements(pack: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    let (header, mut rest) = pack.split_first_chunk::<6>().ok_or(BROKEN)?;
    let [b0, b1, b2, b3, n0, n1] = *header;
    if u32::from_le_bytes([b0, b1, b2, b3]) as usize != pack.len() {
        return Err(BROKEN);
    }
    let mut elements = Vec::new();
    while rest != [0xff] {
        let before = rest.len();
        elements.push(element(&mut rest)?);
        let bytes = before - rest.len();
        rest = rest.get(bytes_of_length(bytes)..).ok_or(BROKEN)?;
    }
    let claimed = u16::from_le_bytes([n0, n1]);
    if claimed != u16::MAX && usize::from(claimed) != elements.len() {
        return Err(BROKEN);
    }
    Ok(elements)
}

/// Takes an element without the length behind it.
fn element(rest: &mut &[u8]) -> Result<Vec<u8>, Broken> {
    let first = byte(rest)?;
    let low = u32::from(first);
    let length = match first {
        0x00..=0x7f => return Ok(number(low.into())),
        0x80..=0xbf => low & 0x3f,
        0xc0..=0xdf => {
            let unsigned = (low & 0x1f) << 8 | u32::from(byte(rest)?);
            // 13 bits with a sign.
            return Ok(number(i64::from((unsigned << 19) as i32 >> 19)));
        }
        0xe0..=0xef => (low & 0x0f) << 8 | u32::from(byte(rest)?),
        0xf0 => u32::from_le_bytes(array(rest)?),
        0xf1 => return Ok(number(i16::from_le_bytes(array(rest)?).into())),
        0xf2 => {
            let [b0, b1, b2] = array(rest)?;
            return Ok(number((i32::from_le_bytes([0, b0, b1, b2]) >> 8).into()));
        }
        0xf3 => return Ok(number(i32::from_le_bytes(array(rest)?).into())),
        0xf4 => return Ok(number(i64::from_le_bytes(array(rest)?))),
        _ => return Err(BROKEN),
    };
    let (text, behind) = rest.split_at_checked(length as usize).ok_or(BROKEN)?;
    *rest = behind;
    Ok(text.to_vec())
}

/// Bytes that the length of an element of so many bytes takes behind it.
const fn bytes_of_length(bytes: usize) -> usize {
    match bytes {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// An integer as the text that it stands for.
pub(super) fn number(value: i64) -> Vec<u8> {
    itoa::Buffer::new().format(value).into()
}

fn byte(rest: &mut &[u8]) -> Result<u8, Broken> {
    let [byte] = array(rest)?;
    Ok(byte)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Broken> {
    let (taken, behind) = rest.split_first_chunk().ok_or(BROKEN)?;
    *rest = behind;
    Ok(*taken)
}
