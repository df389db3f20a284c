//! Redis's RDB format: what `SAVE` writes to a file, and `DUMP` and `RESTORE` carry.
//!
//! Bytes in, values out, and back: nothing here reads a file or looks at a clock. What comes in may
//! be anything: it ends in a value or in an [`Error`] that says at which byte, never in a panic,
//! and what it makes us keep is bounded by its own length, not by the lengths that it claims (a
//! compressed string grows at most 88-fold, a number in it becomes an allocation of its own).
//!
//! Files of the versions 1 to 12 are read, which are those of Redis up to 7.4; values are written
//! as 7.0 and all before it read them, but for hashes whose fields have deadlines, which only 7.4
//! and later know. What we have no type for is walked past.
//!
//! Source: `rdb.c`, `rdb.h`, `listpack.c`, `ziplist.c`, `intset.c` and `zipmap.c` of Redis 7.4.

mod checksum;
mod cursor;
mod encode;
mod extent;
mod file;
mod intset;
mod listpack;
mod lzf;
mod payload;
#[cfg(test)]
mod tests;
mod types;
mod value;
mod ziplist;
mod zipmap;

pub use file::{Entry, Item, Reader};
pub use payload::{OpenError, dump, open, seal};
pub use types::Type;

/// The newest version of the format that is read: that of Redis 7.4.
pub const VERSION_MAX: u16 = 12;

/// Bytes of a string: what Redis takes at most, by default.
const STRING_BYTES_MAX: u64 = crate::limits::STRING_BYTES_MAX as u64;

/// A value of one of the types that we have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(Vec<u8>),
    /// Elements from the head on.
    List(Vec<Vec<u8>>),
    /// Members, none twice.
    Set(Vec<Vec<u8>>),
    /// Members with their scores, none twice and no score a NaN.
    SortedSet(Vec<(Vec<u8>, f64)>),
    /// Fields, none twice.
    Hash(Vec<Field>),
}

/// A field of a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Vec<u8>,
    /// What it holds.
    pub value: Vec<u8>,
    /// When it ends, milliseconds since 1970.
    pub ends_at_ms: Option<u64>,
}

/// What is wrong with bytes, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct Error {
    /// From the first byte of the file or payload.
    pub at: u64,
    /// What.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It ends too early: there may be more to come.
    #[error("ends too early")]
    Truncated,
    /// A container without anything in it, which Redis leaves out.
    #[error("nothing is in it")]
    Empty,
    /// A type that we have not.
    #[error("a {0} is no type of ours")]
    NotOurs(&'static str),
    /// A version of the format that is not known.
    #[error("version {0} of the format is not known: {VERSION_MAX} is the newest that is")]
    Version(u16),
    /// What is said to be there is not.
    #[error("{0}")]
    Broken(&'static str),
}

/// Why the inside of a packed value cannot be read; where is known only outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken(&'static str);
