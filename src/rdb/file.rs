//! An RDB file, item by item, from as much of it as is there.
//!
//! A [`Reader`] is handed the bytes that it has not taken yet and says what comes next and how many
//! bytes that was, or that it needs more: so a file of any size is read with memory for its
//! largest value. It keeps the checksum, and ends only where that is right. Source:
//! `rdbLoadRioWithLoadingCtx` in `rdb.c` of Redis 7.4.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::borrow::Cow;

use super::cursor::Cursor;
use super::{Error, Problem, Type, VERSION_MAX, Value, checksum, extent};

/// From this version on a file ends with a checksum.
const VERSION_CHECKSUM: u16 = 5;
/// What begins a file, before the version.
const MAGIC: &[u8; 5] = b"REDIS";

const SLOT_INFO: u8 = 244;
const FUNCTION: u8 = 245;
const FUNCTION_PRE_GA: u8 = 246;
const MODULE_AUX: u8 = 247;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const AUX: u8 = 250;
const RESIZE: u8 = 251;
const DEADLINE_MS: u8 = 252;
const DEADLINE_S: u8 = 253;
const SELECT: u8 = 254;
const END: u8 = 255;

/// What a file has in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// The version of the format.
    Version(u16),
    /// A fact about who wrote it, such as `redis-ver`.
    Fact {
        /// Which.
        name: Cow<'a, [u8]>,
        /// What.
        value: Cow<'a, [u8]>,
    },
    /// The keys that follow are of this database.
    Database(u64),
    /// How many keys the database has, and how many of them have a deadline.
    Sizes {
        /// All.
        keys: u64,
        /// Those with a deadline.
        deadlines: u64,
    },
    /// A key with its value.
    Entry(Entry<'a>),
    /// A library of functions, which has been walked past.
    Function,
    /// What a module keeps besides keys, which has been walked past.
    ModuleData,
    /// How many keys a slot has.
    Slot,
    /// The end, and the checksum was right.
    End,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Which of the databases it is in.
    pub database: u64,
    /// The key.
    pub key: Cow<'a, [u8]>,
    /// When it ends, milliseconds since 1970.
    pub ends_at_ms: Option<u64>,
    /// What the value is, and how it is encoded.
    pub of: Type,
    /// The value as it stands in the file.
    pub bytes: &'a [u8],
    /// Where it begins in the file.
    pub at: u64,
}

impl Entry<'_> {
    /// The value.
    pub fn value(&self) -> Result<Value, Error> {
        Value::read(self.of, &mut Cursor::new(self.bytes, self.at))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    /// None before it has been read.
    version: Option<u16>,
    database: u64,
    /// How far it is.
    at: u64,
    /// Of all up to there.
    crc: u64,
}

impl Reader {
    /// At the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes it has taken.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next item of `bytes`, the first of which is the first not taken yet. Returns it
    /// and how many bytes it was. [`Problem::Truncated`] changes nothing: it may be asked again
    /// with more. After [`Item::End`] there is nothing to ask for.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(Item<'a>, usize), Error> {
        let mut cursor = Cursor::new(bytes, self.at);
        let item = match self.version {
            None => Item::Version(header(&mut cursor)?),
            Some(version) => self.item(version, &mut cursor)?,
        };
        let taken = bytes.len() - cursor.rest().len();
        let counted = bytes.get(..taken).expect("the cursor is in the bytes");
        self.crc = checksum::update(self.crc, counted);
        self.at = cursor.at();
        if let Item::Version(version) = item {
            self.version = Some(version);
        } else if let Item::Database(database) = item {
            self.database = database;
        }
        Ok((item, taken))
    }

    fn item<'a>(&self, version: u16, cursor: &mut Cursor<'a>) -> Result<Item<'a>, Error> {
        let begins = cursor.clone();
        Ok(match cursor.byte()? {
            AUX => Item::Fact {
                name: cursor.string()?,
                value: cursor.string()?,
            },
            SELECT => Item::Database(cursor.length()?),
            RESIZE => Item::Sizes {
                keys: cursor.length()?,
                deadlines: cursor.length()?,
            },
            SLOT_INFO => {
                // Its number, its keys, those with a deadline.
                extent::skip_lengths(cursor, 3)?;
                Item::Slot
            }
            FUNCTION => {
                cursor.skip_string()?;
                Item::Function
            }
            FUNCTION_PRE_GA => {
                return Err(begins.broken("a function as Redis 7.0 had it before its release"));
            }
            MODULE_AUX => {
                // Which module, and whether it is of before or after the keys.
                extent::skip_lengths(cursor, 3)?;
                extent::skip_words(cursor)?;
                Item::ModuleData
            }
            END => {
                self.end(version, &begins, cursor)?;
                Item::End
            }
            _ => {
                *cursor = begins;
                Item::Entry(self.entry(cursor)?)
            }
        })
    }

    /// Takes a key, with what may stand before it.
    fn entry<'a>(&self, cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Error> {
        let mut ends_at_ms = None;
        let of = loop {
            let begins = cursor.clone();
            match cursor.byte()? {
                DEADLINE_MS => {
                    let ends = i64::from_le_bytes(cursor.array()?);
                    ends_at_ms = Some(u64::try_from(ends).unwrap_or(0));
                }
                DEADLINE_S => {
                    let ends = i32::from_le_bytes(cursor.array()?);
                    ends_at_ms = Some(u64::try_from(ends).unwrap_or(0) * 1_000);
                }
                IDLE => cursor.length().map(|_| ())?,
                FREQUENCY => cursor.byte().map(|_| ())?,
                byte => {
                    let of = Type::from_byte(byte);
                    break of.ok_or_else(|| begins.broken("no type has this number"))?;
                }
            }
        };
        let key = cursor.string()?;
        let (at, rest) = (cursor.at(), cursor.rest());
        extent::skip(of, cursor)?;
        let bytes = rest.get(..rest.len() - cursor.rest().len());
        Ok(Entry {
            database: self.database,
            key,
            ends_at_ms,
            of,
            bytes: bytes.expect("the cursor is in the bytes"),
            at,
        })
    }

    /// Takes the checksum, which is of all before it; 0 says that there is none.
    fn end(&self, version: u16, begins: &Cursor<'_>, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        if version < VERSION_CHECKSUM {
            return Ok(());
        }
        let checked = begins.clone().take(cursor.at() - begins.at())?;
        let stands = cursor.clone();
        let written = cursor.u64_le()?;
        if written == 0 || written == checksum::update(self.crc, checked) {
            Ok(())
        } else {
            Err(stands.broken("the checksum of the file is another"))
        }
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<u16, Error> {
    let begins = cursor.clone();
    let magic = cursor.rest();
    if !MAGIC.starts_with(magic.get(..MAGIC.len()).unwrap_or(magic)) {
        return Err(begins.broken("a file of Redis begins with REDIS and its version"));
    }
    cursor.take(MAGIC.len() as u64)?;
    let stands = cursor.clone();
    let digits: [u8; 4] = cursor.array()?;
    let version = str::from_utf8(&digits).ok();
    let version = version.filter(|_| digits.iter().all(u8::is_ascii_digit));
    let version = version.and_then(|version| version.parse().ok());
    match version {
        Some(version @ 1..=VERSION_MAX) => Ok(version),
        Some(version) => Err(Error {
            at: stands.at(),
            problem: Problem::Version(version),
        }),
        None => Err(stands.broken("a file of Redis begins with REDIS and its version")),
    }
}
