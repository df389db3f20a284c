//! Hash slots, as in Redis Cluster, and keys with what is computed of them once.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "Key
//! distribution model" and "Hash tags".

use siphasher::sip::SipHasher13;

/// How many hash slots a database has.
pub const SLOTS: u16 = 16_384;

/// A hash slot, from 0 to 16,383.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The slot of a key: CRC16 (XMODEM) of it, or of its first non-empty `{…}`, modulo 16,384.
    pub fn of(key: &[u8]) -> Self {
        Self(crc16::State::<crc16::XMODEM>::calculate(hash_tag(key)) % SLOTS)
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The part of a key that picks its slot.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(length) if 0 < length => &rest[..length],
        _ => key,
    }
}

/// Hashes names with a seed that clients do not know, so that nobody can aim at one bucket.
///
/// The seed is the same in every region of a database: digests are made of these hashes.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    hasher: SipHasher13,
}

impl Seed {
    /// The seed that a text stands for, such as a database's id.
    pub fn from_text(text: &[u8]) -> Self {
        let low = SipHasher13::new_with_keys(0x6d65_7269_6469_616e, 1).hash(text);
        let high = SipHasher13::new_with_keys(0x6d65_7269_6469_616e, 2).hash(text);
        Self {
            hasher: SipHasher13::new_with_keys(low, high),
        }
    }

    /// The hash of a name.
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash(name)
    }

    /// A key with its slot and hash.
    pub fn key<'a>(&self, name: &'a [u8]) -> Key<'a> {
        Key {
            name,
            slot: Slot::of(name),
            hash: self.hash(name),
        }
    }
}

/// A key's name with its slot and hash, computed once on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The name, as the client wrote it.
    pub name: &'a [u8],
    /// Its slot.
    pub slot: Slot,
    /// Its hash under the database's seed.
    pub hash: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(Slot::of(b"foo").number(), 12_182);
        assert_eq!(Slot::of(b"user1000").number(), 3_443);
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
        assert_eq!(
            Slot::of(b"{}x"),
            Slot(crc16::State::<crc16::XMODEM>::calculate(b"{}x") % SLOTS)
        );
        assert_eq!(Slot::of(b"a{b}{c}"), Slot::of(b"b"));
        assert_eq!(Slot::of(b"{a}RGN-3").number(), 15_495);
    }
}
