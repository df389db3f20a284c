//! List elements packed into one allocation: a leaf of a list's sequence.
//!
//! An element that was pushed and never set is its value and about six bytes: its identity is
//! kept as a difference to that of the leaf's first element, for neighbours mostly come from one
//! origin within a moment. Room is left at the end of a list that grows, so pushing and taking
//! there move nothing; in the middle, up to [`LEAF_BYTES`] move.
//!
//! Layout of an element: flags, then either a place (four bytes, little-endian), or what the time
//! differs from the leaf's (zigzag), the origin if it is another than the leaf's, the index and
//! the length of the value (varints), and the value; behind it how long all this is, as a varint
//! to be read backwards. These bytes never leave the process.

use std::ops::Range;

use crate::effect::End;
use crate::fact::{Id, OriginIx};
use crate::sequence::{FULL, Growth, Leaf};
use crate::stamp::Time;

/// Bytes of a full leaf. A value that is longer has a leaf to itself.
const LEAF_BYTES: usize = 4096;
/// Bytes of an element besides its value, at most.
const OVERHEAD_MAX: usize = 32;

/// Pushed at the head; otherwise at the tail.
const AT_HEAD: u8 = 1;
/// Holds a place.
const ELSEWHERE: u8 = 2;
/// The origin is not the leaf's.
const OTHER_ORIGIN: u8 = 4;

/// An element of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Element<'a> {
    /// Pushed at an end, and never set.
    Pushed { id: Id, end: End, value: &'a [u8] },
    /// Kept in full, at this place of a slab.
    Full(u32),
}

/// Elements in order. Invariant: `bytes` from `start` on are `count` elements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    start: u32,
    count: u16,
    /// What elements' identities are held against.
    origin: u16,
    time: u64,
}

impl Packed {
    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes of its elements.
    fn used(&self) -> usize {
        self.bytes.len() - self.start()
    }

    const fn start(&self) -> usize {
        self.start as usize
    }

    /// The element that begins at an offset, and where the next one does.
    fn read(&self, at: usize) -> (Element<'_>, usize) {
        let bytes = &self.bytes[at..];
        let (flags, rest) = (bytes[0], &bytes[1..]);
        if flags & ELSEWHERE != 0 {
            let place = rest.first_chunk().expect("four bytes");
            return (Element::Full(u32::from_le_bytes(*place)), at + 6);
        }
        let (delta, rest) = take_varint(rest);
        let delta = (delta >> 1) ^ (delta & 1).wrapping_neg();
        let (origin, rest) = match flags & OTHER_ORIGIN {
            0 => (self.origin.into(), rest),
            _ => take_varint(rest),
        };
        let (index, rest) = take_varint(rest);
        let (length, rest) = take_varint(rest);
        let value = &rest[..length as usize];
        let end = at + bytes.len() - rest.len() + value.len();
        let element = Element::Pushed {
            id: Id {
                time: Time(self.time.wrapping_add(delta)),
                index: index as u32,
                origin: OriginIx(origin as u16),
            },
            end: if flags & AT_HEAD == 0 {
                End::Tail
            } else {
                End::Head
            },
            value,
        };
        (element, end + varint_bytes(end - at))
    }

    /// Where the element begins that ends at an offset.
    fn before(&self, end: usize) -> usize {
        let (mut length, mut shift, mut cursor) = (0, 0, end);
        loop {
            cursor -= 1;
            let byte = self.bytes[cursor];
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return cursor - length;
            }
            shift += 7;
        }
    }

    /// Where the element at a place begins, or where the last one ends.
    fn offset(&self, place: usize) -> usize {
        self.offset_after((0, self.start()), place)
    }

    /// As [`Packed::offset`], from a place at or before it whose offset is known.
    fn offset_after(&self, (from, offset): (usize, usize), place: usize) -> usize {
        let count = usize::from(self.count);
        if place - from <= count - place {
            (from..place).fold(offset, |at, _| self.read(at).1)
        } else {
            (place..count).fold(self.bytes.len(), |at, _| self.before(at))
        }
    }

    /// Opens a gap of so many bytes, so far behind the start.
    fn open(&mut self, behind: usize, bytes: usize) -> &mut [u8] {
        let used = self.used();
        if behind == 0 && 0 < used {
            if self.start() < bytes {
                let room = self.room_for(bytes);
                self.rebuild(room, room - used);
            }
            self.start -= bytes as u32;
            let start = self.start();
            return &mut self.bytes[start..start + bytes];
        }
        if self.bytes.capacity() - self.bytes.len() < bytes {
            self.rebuild(self.room_for(bytes), 0);
        }
        let (at, end) = (self.start() + behind, self.bytes.len());
        self.bytes.resize(end + bytes, 0);
        self.bytes.copy_within(at..end, at + bytes);
        &mut self.bytes[at..at + bytes]
    }

    /// How much room to have for so many bytes more: a little more than needed while a leaf is
    /// small, for most lists are; what there is if a quarter of it would stay free, so that
    /// elements do not move often.
    fn room_for(&self, bytes: usize) -> usize {
        let (needed, room) = (self.used() + bytes, self.bytes.capacity());
        let more = match needed {
            _ if self.used() == 0 => 0,
            ..512 => needed / 2,
            _ => needed,
        };
        if needed <= room / 4 * 3 {
            room
        } else {
            (needed + more).min(LEAF_BYTES.max(needed))
        }
    }

    /// Moves the elements into an allocation of their own, to an offset there.
    fn rebuild(&mut self, room: usize, start: usize) {
        let mut bytes = Vec::with_capacity(room);
        bytes.resize(start, 0);
        bytes.extend_from_slice(&self.bytes[self.start()..]);
        (self.bytes, self.start) = (bytes, start as u32);
    }

    /// Takes out the bytes between two offsets, which are `elements` whole ones.
    fn close(&mut self, bytes: Range<usize>, elements: usize) {
        self.count -= elements as u16;
        if bytes.start == self.start() {
            self.start = bytes.end as u32;
        } else {
            self.bytes.copy_within(bytes.end.., bytes.start);
            self.bytes.truncate(self.bytes.len() - bytes.len());
        }
        let (used, room) = (self.used(), self.bytes.capacity());
        if used == 0 {
            (self.bytes, self.start) = (Vec::new(), 0);
        } else if OVERHEAD_MAX * 4 < room && used <= room / 4 {
            self.rebuild(used * 2, 0);
        }
    }

    fn encode(&self, element: Element<'_>) -> Head {
        let mut head = Head::default();
        match element {
            Element::Full(place) => {
                head.push(ELSEWHERE);
                place
                    .to_le_bytes()
                    .into_iter()
                    .for_each(|byte| head.push(byte));
            }
            Element::Pushed { id, end, value } => {
                let other = id.origin.0 != self.origin;
                let at_head = matches!(end, End::Head);
                head.push((u8::from(at_head) * AT_HEAD) | (u8::from(other) * OTHER_ORIGIN));
                let delta = id.time.0.wrapping_sub(self.time).cast_signed();
                head.push_varint((delta << 1 ^ delta >> 63).cast_unsigned());
                if other {
                    head.push_varint(id.origin.0.into());
                }
                head.push_varint(id.index.into());
                head.push_varint(value.len() as u64);
            }
        }
        head
    }
}

/// A varint, and what comes behind it.
#[inline]
fn take_varint(bytes: &[u8]) -> (u64, &[u8]) {
    if let [byte @ ..0x80, rest @ ..] = bytes {
        return (u64::from(*byte), rest);
    }
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return (value, &bytes[at + 1..]);
        }
    }
    (value, &[])
}

/// How many bytes a varint takes.
const fn varint_bytes(value: usize) -> usize {
    match value {
        ..0x80 => 1,
        _ => (value.ilog2() / 7 + 1) as usize,
    }
}

/// Writes a varint to be read from its last byte to its first; it takes all of `bytes`.
fn put_backwards(bytes: &mut [u8], mut value: usize) {
    for byte in bytes.iter_mut().rev() {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    bytes[0] &= 0x7f;
}

/// What is in front of a value.
#[derive(Default)]
struct Head {
    bytes: [u8; OVERHEAD_MAX],
    length: usize,
}

impl Head {
    const fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    const fn push_varint(&mut self, mut value: u64) {
        while 0x80 <= value {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

impl Leaf for Packed {
    type Item<'a> = Element<'a>;
    type Items<'a> = Elements<'a>;

    fn len(&self) -> usize {
        self.count.into()
    }

    fn width(&self) -> usize {
        self.len().max((self.used() * FULL).div_ceil(LEAF_BYTES))
    }

    fn takes(&self, element: Element<'_>) -> bool {
        let value = match element {
            Element::Pushed { value, .. } => value.len(),
            Element::Full(_) => 0,
        };
        let fits = self.used() + value + OVERHEAD_MAX <= LEAF_BYTES;
        self.count == 0 || (fits && self.len() < FULL)
    }

    fn get(&self, at: usize) -> Element<'_> {
        self.read(self.offset(at)).0
    }

    fn items(&self, places: Range<usize>) -> Elements<'_> {
        let front = self.offset(places.start);
        Elements {
            leaf: Some(self),
            front,
            back: self.offset_after((places.start, front), places.end),
        }
    }

    fn insert(&mut self, at: usize, element: Element<'_>) {
        if self.count == 0
            && let Element::Pushed { id, .. } = element
        {
            (self.time, self.origin) = (id.time.0, id.origin.0);
        }
        let value = match element {
            Element::Pushed { value, .. } => value,
            Element::Full(_) => b"",
        };
        let head = self.encode(element);
        let length = head.length + value.len();
        let behind = self.offset(at) - self.start();
        let gap = self.open(behind, length + varint_bytes(length));
        gap[..head.length].copy_from_slice(&head.bytes[..head.length]);
        gap[head.length..length].copy_from_slice(value);
        put_backwards(&mut gap[length..], length);
        self.count += 1;
    }

    fn remove(&mut self, at: usize) {
        let start = self.offset(at);
        let is_last = at + 1 == self.len();
        let end = if is_last {
            self.bytes.len()
        } else {
            self.read(start).1
        };
        self.close(start..end, 1);
    }

    fn remove_range(&mut self, places: Range<usize>, mut wanted: impl FnMut(Element<'_>) -> bool) {
        let start = self.offset(places.start);
        let (mut from, mut to, mut removed) = (start, start, 0);
        for _ in places {
            let (element, next) = self.read(from);
            if wanted(element) {
                removed += 1;
            } else {
                self.bytes.copy_within(from..next, to);
                to += next - from;
            }
            from = next;
        }
        self.close(to..from, removed);
    }

    fn begin(element: Element<'_>, growth: Growth) -> Self {
        let mut leaf = Self::default();
        leaf.insert(0, element);
        let room = (LEAF_BYTES / 2).max(leaf.used());
        let start = match growth {
            Growth::Front => room - leaf.used(),
            Growth::Middle | Growth::Back => 0,
        };
        leaf.rebuild(room, start);
        leaf
    }

    fn cut(&mut self) -> Self {
        let (mut place, mut at) = (1, self.read(self.start()).1);
        // As even as can be: a large element goes to the side that is smaller without it.
        let size = |at: usize, leaf: &Self| (at - leaf.start()).max(leaf.bytes.len() - at);
        while place + 1 < self.len() {
            let next = self.read(at).1;
            if size(at, self) <= size(next, self) {
                break;
            }
            (place, at) = (place + 1, next);
        }
        let right = Self {
            bytes: self.bytes[at..].to_vec(),
            start: 0,
            count: self.count - place as u16,
            origin: self.origin,
            time: self.time,
        };
        self.bytes.truncate(at);
        self.count = place as u16;
        right
    }

    fn join(&mut self, next: Self) {
        let room = self.used() + next.used();
        if self.bytes.capacity() - self.start() < room {
            self.rebuild(room, 0);
        }
        for element in next.items(0..next.len()) {
            self.insert(self.len(), element);
        }
    }

    fn partition_point(&self, mut wanted: impl FnMut(Element<'_>) -> bool) -> usize {
        let all = self.items(0..self.len());
        all.take_while(|&element| wanted(element)).count()
    }
}

/// Some elements of a leaf.
#[derive(Debug, Default)]
pub(crate) struct Elements<'a> {
    leaf: Option<&'a Packed>,
    /// Offsets of the first, and of the end of the last.
    front: usize,
    back: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let leaf = self.leaf.filter(|_| self.front < self.back)?;
        let (element, next) = leaf.read(self.front);
        self.front = next;
        Some(element)
    }
}

impl DoubleEndedIterator for Elements<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let leaf = self.leaf.filter(|_| self.front < self.back)?;
        self.back = leaf.before(self.back);
        Some(leaf.read(self.back).0)
    }
}

#[cfg(test)]
mod tests;
