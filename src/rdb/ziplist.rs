//! Ziplists: small containers in one string, up to Redis 6.
//!
//! `<bytes u32> <offset of the last u32> <elements u16> <element> … <0xff>`, numbers the lowest
//! byte first. An element is the length of the one before it, an encoding, and its value. Source:
//! `ziplist.c` of Redis 7.0.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Broken;
use super::listpack::number;

const BROKEN: Broken = Broken("a ziplist is broken");

/// The elements; integers as decimal text.
pub(super) fn elements(pack: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    let (header, mut rest) = pack.split_first_chunk::<10>().ok_or(BROKEN)?;
    let [b0, b1, b2, b3, _, _, _, _, n0, n1] = *header;
    if u32::from_le_bytes([b0, b1, b2, b3]) as usize != pack.len() {
        return Err(BROKEN);
    }
    let mut elements = Vec::new();
    while rest != [0xff] {
        elements.push(element(&mut rest)?);
    }
    let claimed = u16::from_le_bytes([n0, n1]);
    if claimed != u16::MAX && usize::from(claimed) != elements.len() {
        return Err(BROKEN);
    }
    Ok(elements)
}

fn element(rest: &mut &[u8]) -> Result<Vec<u8>, Broken> {
    match byte(rest)? {
        0xff => return Err(BROKEN),
        0xfe => {
            array::<4>(rest)?;
        }
        _ => {}
    }
    let first = byte(rest)?;
    let length = match first {
        0x00..=0x3f => u32::from(first),
        0x40..=0x7f => u32::from(first & 0x3f) << 8 | u32::from(byte(rest)?),
        0x80 => u32::from_be_bytes(array(rest)?),
        0xc0 => return Ok(number(i16::from_le_bytes(array(rest)?).into())),
        0xd0 => return Ok(number(i32::from_le_bytes(array(rest)?).into())),
        0xe0 => return Ok(number(i64::from_le_bytes(array(rest)?))),
        0xf0 => {
            let [b0, b1, b2] = array(rest)?;
            return Ok(number((i32::from_le_bytes([0, b0, b1, b2]) >> 8).into()));
        }
        0xfe => return Ok(number(i8::from_le_bytes(array(rest)?).into())),
        0xf1..=0xfd => return Ok(number(i64::from(first & 0x0f) - 1)),
        _ => return Err(BROKEN),
    };
    let (text, behind) = rest.split_at_checked(length as usize).ok_or(BROKEN)?;
    *rest = behind;
    Ok(text.to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A ziplist of these encoded elements, each with the length of the one before it.
    fn pack(entries: &[&[u8]]) -> Vec<u8> {
        let body = entries.concat();
        let mut pack = (body.len() as u32 + 11).to_le_bytes().to_vec();
        pack.extend_from_slice(&10_u32.to_le_bytes());
        pack.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        pack.extend_from_slice(&body);
        pack.push(0xff);
        pack
    }

    #[test]
    fn every_encoding_is_read() {
        let long = [b"\x00\x41\x00".as_slice(), &[b'x'; 256]].concat();
        let longer = [
            b"\xfe\x03\x01\x00\x00\x80\x00\x00\x40\x00".as_slice(),
            &[b'y'; 16_384],
        ];
        let entries: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"\x00\x02ab".to_vec(), b"ab".to_vec()),
            (long, vec![b'x'; 256]),
            (longer.concat(), vec![b'y'; 16_384]),
            (b"\x00\xf1".to_vec(), b"0".to_vec()),
            (b"\x00\xfd".to_vec(), b"12".to_vec()),
            (b"\x00\xfe\x80".to_vec(), b"-128".to_vec()),
            (b"\x00\xc0\x00\x80".to_vec(), b"-32768".to_vec()),
            (b"\x00\xf0\xff\xff\x7f".to_vec(), b"8388607".to_vec()),
            (b"\x00\xf0\x00\x00\x80".to_vec(), b"-8388608".to_vec()),
            (
                b"\x00\xd0\x00\x00\x00\x80".to_vec(),
                b"-2147483648".to_vec(),
            ),
            (
                b"\x00\xe0\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
                b"9223372036854775807".to_vec(),
            ),
        ];
        let encoded: Vec<&[u8]> = entries.iter().map(|(bytes, _)| bytes.as_slice()).collect();
        let wanted: Vec<Vec<u8>> = entries.iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(elements(&pack(&encoded)).unwrap(), wanted);
    }

    #[test]
    fn what_is_cut_or_miscounted_is_refused() {
        let whole = pack(&[b"\x00\x02ab", b"\x04\xc0\x00\x80"]);
        assert_eq!(elements(&whole).unwrap().len(), 2);
        for end in 0..whole.len() {
            assert!(elements(&whole[..end]).is_err(), "{end}");
        }
        for (at, byte) in [(8, 3), (10, 0xff), (11, 0x90), (11, 0x3f)] {
            let mut broken = whole.clone();
            broken[at] = byte;
            assert!(elements(&broken).is_err(), "{at}");
        }
    }
}
