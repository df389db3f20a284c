//! The bytes of a record, on the wire and on disk: docs/protocol.md, "Record of regions".
//!
//! Entries stand in order, so a record has one form only; what is not in that form is refused.

use std::collections::BTreeSet;

use crdt::{Epoch, Region};

use super::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, ENTRIES_MAX, Entry, NAME_BYTES_MAX, Roster, Stage};

/// The format of a record in which nobody is excluded: builds read it that know of no exclusion.
const FORMAT: u8 = 1;
/// The format of one in which somebody is, or was.
const EXCLUDING: u8 = 2;

/// Why bytes are no record, or a record cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Another build wrote it.
    #[error(
        "the record of regions has format {0}, and {FORMAT} and {EXCLUDING} are those that this \
         build reads"
    )]
    Format(u8),
    /// It ends too early, or goes on behind its end.
    #[error("the record of regions has a wrong length")]
    Length,
    /// A part of it is not what it should be.
    #[error("the record of regions is malformed: {0}")]
    Content(&'static str),
    /// It names more regions than any database has.
    #[error("the record names {ENTRIES_MAX} regions already, with all that are gone")]
    TooMany,
}

impl Roster {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_in(if self.excludes() { EXCLUDING } else { FORMAT })
    }

    /// Its bytes for a build that knows of no exclusion: there, whoever is excluded is forgotten.
    pub fn encode_without_exclusion(&self) -> Vec<u8> {
        self.encode_in(FORMAT)
    }

    fn excludes(&self) -> bool {
        let excludes = |entry: &Entry| entry.stage == Stage::Excluded || !entry.without.is_empty();
        self.entries.values().any(excludes)
    }

    fn encode_in(&self, format: u8) -> Vec<u8> {
        let mut bytes = vec![format];
        bytes.extend((self.entries.len() as u16).to_le_bytes());
        for ((id, name), entry) in &self.entries {
            bytes.push(id.id());
            put_text(&mut bytes, name);
            bytes.extend(entry.incarnation.to_le_bytes());
            bytes.push(match entry.stage {
                Stage::Founding => 0,
                Stage::Joining => 1,
                Stage::Member => 2,
                Stage::Excluded if format == EXCLUDING => 4,
                Stage::Excluded | Stage::Forgotten => 3,
            });
            bytes.extend(entry.ended.0.to_le_bytes());
            bytes.extend(entry.revision.to_le_bytes());
            bytes.push(entry.addresses.len() as u8);
            for address in &entry.addresses {
                put_text(&mut bytes, address);
            }
            put_regions(&mut bytes, &entry.confirmed);
            if format == EXCLUDING {
                put_regions(&mut bytes, &entry.without);
            }
        }
        bytes
    }

    /// Reads a record, all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, RosterError> {
        let mut rest = bytes;
        let [format] = array(&mut rest)?;
        if !matches!(format, FORMAT | EXCLUDING) {
            return Err(RosterError::Format(format));
        }
        let count = u16::from_le_bytes(array(&mut rest)?);
        if ENTRIES_MAX < count.into() {
            return Err(RosterError::TooMany);
        }
        let mut roster = Self::new();
        for _ in 0..count {
            let id = region(&mut rest)?;
            let name = text(&mut rest)?;
            let incarnation = u32::from_le_bytes(array(&mut rest)?);
            let stage = match array(&mut rest)? {
                [0] => Stage::Founding,
                [1] => Stage::Joining,
                [2] => Stage::Member,
                [3] => Stage::Forgotten,
                [4] if format == EXCLUDING => Stage::Excluded,
                [_] => return Err(RosterError::Content("an unknown stage")),
            };
            let ended = Epoch(u64::from_le_bytes(array(&mut rest)?));
            let revision = u32::from_le_bytes(array(&mut rest)?);
            let [addresses] = array(&mut rest)?;
            let addresses = (0..addresses).map(|_| text(&mut rest));
            let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
            let confirmed = regions(&mut rest)?;
            let without = match format {
                EXCLUDING => regions(&mut rest)?,
                _ => BTreeSet::new(),
            };
            let entry = Entry {
                incarnation,
                stage,
                ended,
                addresses,
                revision,
                confirmed,
                without,
            };
            let key = (id, name);
            if roster
                .entries
                .last_key_value()
                .is_some_and(|(last, _)| key <= *last)
            {
                return Err(RosterError::Content("entries out of order"));
            }
            roster.entries.insert(key, entry);
        }
        if !rest.is_empty() {
            return Err(RosterError::Length);
        }
        roster.check()?;
        if format == EXCLUDING && !roster.excludes() {
            return Err(RosterError::Content(
                "the format of an exclusion without one",
            ));
        }
        Ok(roster)
    }

    /// Whether every name and address is one.
    pub(super) fn check(&self) -> Result<(), RosterError> {
        for (_, name, entry) in self.iter() {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_plain) {
                return Err(RosterError::Content("a name that is none"));
            }
            let is_address = |address: &String| {
                (1..=ADDRESS_BYTES_MAX).contains(&address.len())
                    && address.bytes().all(|byte| byte.is_ascii_graphic())
            };
            if ADDRESSES_MAX < entry.addresses.len() || !entry.addresses.iter().all(is_address) {
                return Err(RosterError::Content("an address that is none"));
            }
        }
        Ok(())
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend(text.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RosterError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(RosterError::Length)?;
    *rest = left;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RosterError> {
    let taken = take(rest, N)?;
    taken.try_into().map_err(|_| RosterError::Length)
}

fn put_regions(bytes: &mut Vec<u8>, regions: &BTreeSet<Region>) {
    bytes.push(regions.len() as u8);
    bytes.extend(regions.iter().map(|region| region.id()));
}

fn regions(rest: &mut &[u8]) -> Result<BTreeSet<Region>, RosterError> {
    let [count] = array(rest)?;
    let regions = (0..count).map(|_| region(rest));
    let regions: Vec<Region> = regions.collect::<Result<_, _>>()?;
    if !regions.is_sorted_by(|a, b| a < b) {
        return Err(RosterError::Content("regions out of order"));
    }
    Ok(BTreeSet::from_iter(regions))
}

fn region(rest: &mut &[u8]) -> Result<Region, RosterError> {
    let [id] = array(rest)?;
    Region::new(id).ok_or(RosterError::Content("0 is not a region"))
}

fn text(rest: &mut &[u8]) -> Result<String, RosterError> {
    let [length] = array(rest)?;
    let bytes = take(rest, length.into())?.to_vec();
    String::from_utf8(bytes).map_err(|_| RosterError::Content("text that is none"))
}
