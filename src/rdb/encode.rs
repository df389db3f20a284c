//! Bytes of values, in the plain encodings: one string after the other.
//!
//! Redis reads them for containers of every size, and packs them itself where it wants to, so there
//! is no reason to write packed ones. Strings that are integers take up to five bytes, as Redis
//! writes them; nothing is compressed.

use super::{Field, Type, Value};

/// Bytes of the longest text that may be a number of 32 bits.
const NUMBER_TEXT_MAX: usize = 11;

impl Value {
    /// How it is written.
    pub(super) fn encoding(&self) -> Type {
        match self {
            Self::String(_) => Type::String,
            Self::List(_) => Type::List,
            Self::Set(_) => Type::Set,
            Self::SortedSet(_) => Type::Zset,
            Self::Hash(fields) if fields.iter().any(|field| field.ends_at_ms.is_some()) => {
                Type::HashMetadata
            }
            Self::Hash(_) => Type::Hash,
        }
    }

    /// Writes the value in its [`Self::encoding`].
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::String(text) => string(out, text),
            Self::List(elements) | Self::Set(elements) => {
                length(out, elements.len() as u64);
                for element in elements {
                    string(out, element);
                }
            }
            Self::SortedSet(members) => {
                length(out, members.len() as u64);
                for (name, score) in members {
                    string(out, name);
                    out.extend_from_slice(&score.to_bits().to_le_bytes());
                }
            }
            Self::Hash(fields) => hash(out, fields),
        }
    }
}

fn hash(out: &mut Vec<u8>, fields: &[Field]) {
    let earliest = fields.iter().filter_map(|field| field.ends_at_ms).min();
    if let Some(earliest) = earliest {
        out.extend_from_slice(&earliest.to_le_bytes());
    }
    length(out, fields.len() as u64);
    for field in fields {
        if let Some(earliest) = earliest {
            length(out, field.ends_at_ms.map_or(0, |ends| ends - earliest + 1));
        }
        string(out, &field.name);
        string(out, &field.value);
    }
}

/// Writes a length or count.
pub(super) fn length(out: &mut Vec<u8>, length: u64) {
    if length < 1 << 6 {
        out.push(length as u8);
    } else if length < 1 << 14 {
        out.extend_from_slice(&(1 << 14 | length as u16).to_be_bytes());
    } else if let Ok(length) = u32::try_from(length) {
        out.push(0x80);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// Writes a string.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    if let Some(number) = number(text) {
        if let Ok(number) = i8::try_from(number) {
            out.push(0xc0);
            out.extend_from_slice(&number.to_le_bytes());
        } else if let Ok(number) = i16::try_from(number) {
            out.push(0xc1);
            out.extend_from_slice(&number.to_le_bytes());
        } else {
            out.push(0xc2);
            out.extend_from_slice(&number.to_le_bytes());
        }
        return;
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// The number that this is the text of, and no other text.
fn number(text: &[u8]) -> Option<i32> {
    if NUMBER_TEXT_MAX < text.len() {
        return None;
    }
    let number: i32 = str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == text).then_some(number)
}
