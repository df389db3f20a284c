//! The bytes of a table entry.
//!
//! Nearly every thing is just one base, or just one counter part, and there are millions: so an
//! entry is one allocation that holds the name and, of a base, its identity, its attached deadline
//! and the value; of a part, whose it is, its birth, its last increment and the sum. Whatever has
//! more to it (siblings, edits, several parts, containers) is kept in full in a slab beside the
//! table, and its entry says where.
//!
//! Layout: flags, name length (one byte, or four with [`LONG_NAME`]), name, then one of three: the
//! place in the slab (four bytes); a base, as time (eight bytes), origin and index (varints), the
//! deadline if there is one (eight bytes), and the value up to the end; a part, as origin (two
//! bytes), birth and last increment (eight and four bytes each) and the sum (eight bytes). Integers
//! are little-endian. These bytes never leave the process.

use crate::counter::Counter;
use crate::effect::{Attached, Deadline};
use crate::fact::{Id, OriginIx};
use crate::stamp::{Dot, Time};
use crate::thin::ThinBytes;

/// The entry holds a place in the slab.
const FULL: u8 = 1;
/// The base has an attached deadline of never.
const NEVER: u8 = 2;
/// The base has an attached deadline.
const AT: u8 = 4;
/// The name length takes four bytes.
const LONG_NAME: u8 = 8;
/// The entry holds a counter part.
const PART: u8 = 16;
/// Bytes of a counter part.
const PART_BYTES: usize = 34;

/// A thing that is just one base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compact<'a> {
    pub(crate) id: Id,
    pub(crate) attached: Attached,
    pub(crate) value: &'a [u8],
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    Compact(Compact<'a>),
    Counter(Counter),
    /// Its place in the slab.
    Full(u32),
}

/// The name of an entry.
pub(crate) fn name(entry: &[u8]) -> &[u8] {
    let (start, length) = name_span(entry);
    &entry[start..start + length]
}

/// Reads an entry.
#[inline]
pub(crate) fn read(entry: &[u8]) -> Entry<'_> {
    let (start, length) = name_span(entry);
    let rest = &entry[start + length..];
    if entry[0] & FULL != 0 {
        return Entry::Full(u32::from_le_bytes(array(rest)));
    }
    if entry[0] & PART != 0 {
        return Entry::Counter(read_counter(rest));
    }
    let time = Time(u64::from_le_bytes(array(rest)));
    let (origin, rest) = take_varint(&rest[8..]);
    let (index, rest) = take_varint(rest);
    let (attached, value) = match entry[0] & (NEVER | AT) {
        0 => (Attached::Nothing, rest),
        NEVER => (Attached::Deadline(Deadline::Never), rest),
        _ => {
            let ms = u64::from_le_bytes(array(rest));
            (Attached::Deadline(Deadline::At(ms)), &rest[8..])
        }
    };
    let id = Id {
        time,
        origin: OriginIx(origin as u16),
        index,
    };
    Entry::Compact(Compact {
        id,
        attached,
        value,
    })
}

/// The entry of a thing in the slab.
pub(crate) fn full(name: &[u8], place: u32) -> ThinBytes {
    let (flags, head) = head(name, FULL);
    ThinBytes::from_parts(&[&[flags], head.bytes(), name, &place.to_le_bytes()])
}

fn read_counter(bytes: &[u8]) -> Counter {
    let word = |at: usize| u64::from_le_bytes(array(&bytes[at..]));
    let dot = |at: usize| Dot {
        time: Time(word(at)),
        index: u32::from_le_bytes(array(&bytes[at + 8..])),
    };
    Counter {
        origin: OriginIx(u16::from_le_bytes(array(bytes))),
        birth: dot(2),
        at: dot(14),
        word: word(26),
    }
}

fn counter_bytes(counter: Counter) -> [u8; PART_BYTES] {
    let mut bytes = [0; PART_BYTES];
    bytes[..2].copy_from_slice(&counter.origin.0.to_le_bytes());
    for (at, dot) in [(2, counter.birth), (14, counter.at)] {
        bytes[at..at + 8].copy_from_slice(&dot.time.0.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&dot.index.to_le_bytes());
    }
    bytes[26..].copy_from_slice(&counter.word.to_le_bytes());
    bytes
}

/// The entry of a thing that is just one counter part.
pub(crate) fn counter(name: &[u8], counter: Counter) -> ThinBytes {
    let (flags, head) = head(name, PART);
    ThinBytes::from_parts(&[&[flags], head.bytes(), name, &counter_bytes(counter)])
}

/// Overwrites the part in an entry that holds one.
pub(crate) fn overwrite_counter(entry: &mut [u8], counter: Counter) {
    debug_assert!(entry[0] & PART != 0, "there is one");
    let at = entry.len() - PART_BYTES;
    entry[at..].copy_from_slice(&counter_bytes(counter));
}

/// The entry of a thing that is just one base.
pub(crate) fn compact(name: &[u8], base: Compact<'_>) -> ThinBytes {
    let (flags, head) = head(name, attached_flag(base.attached));
    let mut id = Small::default();
    write_id(&mut id, base);
    ThinBytes::from_parts(&[&[flags], head.bytes(), name, id.bytes(), base.value])
}

/// Overwrites the base in an entry, if the new one takes as many bytes.
pub(crate) fn overwrite(entry: &mut [u8], base: Compact<'_>) -> bool {
    let (start, length) = name_span(entry);
    let mut id = Small::default();
    write_id(&mut id, base);
    let at = start + length;
    if entry[0] & (FULL | PART) != 0 || entry.len() != at + id.bytes().len() + base.value.len() {
        return false;
    }
    entry[0] = entry[0] & LONG_NAME | attached_flag(base.attached);
    let (head, value) = entry[at..].split_at_mut(id.bytes().len());
    head.copy_from_slice(id.bytes());
    value.copy_from_slice(base.value);
    true
}

fn write_id(into: &mut Small, base: Compact<'_>) {
    into.push(&base.id.time.0.to_le_bytes());
    into.push_varint(u32::from(base.id.origin.0));
    into.push_varint(base.id.index);
    if let Attached::Deadline(Deadline::At(ms)) = base.attached {
        into.push(&ms.to_le_bytes());
    }
}

const fn attached_flag(attached: Attached) -> u8 {
    match attached {
        Attached::Nothing => 0,
        Attached::Deadline(Deadline::Never) => NEVER,
        Attached::Deadline(Deadline::At(_)) => AT,
    }
}

fn head(name: &[u8], flags: u8) -> (u8, Small) {
    let mut head = Small::default();
    if let Ok(length) = u8::try_from(name.len()) {
        head.push(&[length]);
        (flags, head)
    } else {
        head.push(&(name.len() as u32).to_le_bytes());
        (flags | LONG_NAME, head)
    }
}

/// Where a name starts, and its length.
fn name_span(entry: &[u8]) -> (usize, usize) {
    if entry[0] & LONG_NAME == 0 {
        (2, usize::from(entry[1]))
    } else {
        (5, u32::from_le_bytes(array(&entry[1..])) as usize)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("as long as asked for")
}

fn take_varint(bytes: &[u8]) -> (u32, &[u8]) {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return (value, &bytes[at + 1..]);
        }
    }
    (value, &[])
}

/// A few bytes on the stack.
#[derive(Default)]
struct Small {
    bytes: [u8; 32],
    length: usize,
}

impl Small {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn push_varint(&mut self, mut value: u32) {
        while 0x80 <= value {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attached() -> impl Strategy<Value = Attached> {
        prop_oneof![
            Just(Attached::Nothing),
            Just(Attached::Deadline(Deadline::Never)),
            any::<u64>().prop_map(|ms| Attached::Deadline(Deadline::At(ms))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name_length in prop_oneof![0_usize..40, 250_usize..300],
            (time, origin, index) in any::<(u64, u16, u32)>(),
            attached in attached(),
            value in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let name_bytes = vec![7; name_length];
            let id = Id { time: Time(time), origin: OriginIx(origin), index };
            let mut entry = compact(&name_bytes, Compact { id, attached, value: &value });
            prop_assert_eq!(name(&entry), name_bytes.as_slice());
            let Entry::Compact(back) = read(&entry) else { return Err(TestCaseError::fail("full")) };
            prop_assert_eq!((back.id, back.attached, back.value), (id, attached, value.as_slice()));

            let other: Vec<u8> = value.iter().map(|b| !b).collect();
            let base = Compact { id, attached, value: &other };
            prop_assert!(overwrite(&mut entry, base));
            prop_assert_eq!(&entry[..], &compact(&name_bytes, base)[..]);
        }

        #[test]
        fn a_counter_is_read(
            name_length in 0_usize..300,
            (origin, word, other) in any::<(u16, u64, u64)>(),
            (birth, at) in any::<((u64, u32), (u64, u32))>(),
        ) {
            let name_bytes = vec![7; name_length];
            let dot = |(time, index)| Dot { time: Time(time), index };
            let part = Counter { origin: OriginIx(origin), birth: dot(birth), at: dot(at), word };
            let mut entry = counter(&name_bytes, part);
            prop_assert_eq!(name(&entry), name_bytes.as_slice());
            prop_assert!(matches!(read(&entry), Entry::Counter(back) if back == part));

            let part = Counter { at: dot(birth), word: other, ..part };
            overwrite_counter(&mut entry, part);
            prop_assert_eq!(&entry[..], &counter(&name_bytes, part)[..]);
            let id = Id { time: Time(1), origin: OriginIx(1), index: 1 };
            let base = Compact { id, attached: Attached::Nothing, value: &[1; 24] };
            prop_assert!(!overwrite(&mut entry, base));
        }

        #[test]
        fn a_place_in_the_slab_is_read(name_length in 0_usize..300, place: u32) {
            let name_bytes = vec![7; name_length];
            let entry = full(&name_bytes, place);
            prop_assert_eq!(name(&entry), name_bytes.as_slice());
            prop_assert!(matches!(read(&entry), Entry::Full(at) if at == place));
        }
    }
}
