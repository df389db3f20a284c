//! Where a value ends, found without reading what is in it: also of types that we have not.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::cursor::Cursor;
use super::{Error, Type};

/// Bytes of an id of an entry of a stream, as it stands in lists of what is pending.
const STREAM_ID_BYTES: u64 = 16;
/// Bytes of a time.
const TIME_BYTES: u64 = 8;

/// What the words of a module's value are, each after its number.
const WORD_END: u64 = 0;
const WORD_SIGNED: u64 = 1;
const WORD_UNSIGNED: u64 = 2;
const WORD_FLOAT: u64 = 3;
const WORD_DOUBLE: u64 = 4;
const WORD_STRING: u64 = 5;

/// Moves past a value of this type.
pub(super) fn skip(of: Type, cursor: &mut Cursor<'_>) -> Result<(), Error> {
    match of {
        Type::String
        | Type::HashZipmap
        | Type::ListZiplist
        | Type::SetIntset
        | Type::ZsetZiplist
        | Type::HashZiplist
        | Type::HashListpack
        | Type::ZsetListpack
        | Type::SetListpack
        | Type::HashListpackExPreGa => cursor.skip_string(),
        Type::HashListpackEx => {
            cursor.take(TIME_BYTES)?;
            cursor.skip_string()
        }
        Type::List | Type::Set | Type::ListQuicklist => each(cursor, skip_string),
        Type::Hash => each(cursor, |cursor| {
            cursor.skip_string()?;
            cursor.skip_string()
        }),
        Type::Zset => each(cursor, |cursor| {
            cursor.skip_string()?;
            cursor.take(8).map(|_| ())
        }),
        Type::ZsetText => each(cursor, |cursor| {
            cursor.skip_string()?;
            let length = cursor.byte()?;
            let length = if length < 253 { length.into() } else { 0 };
            cursor.take(length).map(|_| ())
        }),
        Type::ListQuicklist2 => each(cursor, |cursor| {
            cursor.length()?;
            cursor.skip_string()
        }),
        Type::HashMetadata | Type::HashMetadataPreGa => {
            if of == Type::HashMetadata {
                cursor.take(TIME_BYTES)?;
            }
            each(cursor, |cursor| {
                cursor.length()?;
                cursor.skip_string()?;
                cursor.skip_string()
            })
        }
        Type::Stream => skip_stream(cursor, 1),
        Type::Stream2 => skip_stream(cursor, 2),
        Type::Stream3 => skip_stream(cursor, 3),
        Type::Module => {
            cursor.length()?; // Which module.
            skip_words(cursor)
        }
        Type::ModulePreGa => {
            Err(cursor.broken("only its module knows where a value of this type ends"))
        }
    }
}

/// Moves past a count and as many things. Each takes at least a byte, so a claim ends with the
/// bytes.
fn each(
    cursor: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for _ in 0..cursor.length()? {
        one(cursor)?;
    }
    Ok(())
}

fn skip_string(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    cursor.skip_string()
}

pub(super) fn skip_lengths(cursor: &mut Cursor<'_>, count: usize) -> Result<(), Error> {
    for _ in 0..count {
        cursor.length()?;
    }
    Ok(())
}

fn skip_stream(cursor: &mut Cursor<'_>, version: u8) -> Result<(), Error> {
    // Entries, by the first id of each pack.
    each(cursor, |cursor| {
        cursor.skip_string()?;
        cursor.skip_string()
    })?;
    // Their number and the last id; then also the first and the highest removed one, and how many
    // there have been.
    skip_lengths(cursor, if version < 2 { 3 } else { 8 })?;
    each(cursor, |cursor| {
        cursor.skip_string()?; // The group.
        skip_lengths(cursor, if version < 2 { 2 } else { 3 })?;
        each(cursor, |cursor| {
            cursor.take(STREAM_ID_BYTES + TIME_BYTES)?;
            cursor.length().map(|_| ())
        })?;
        each(cursor, |cursor| {
            cursor.skip_string()?; // The consumer.
            cursor.take(if version < 3 {
                TIME_BYTES
            } else {
                2 * TIME_BYTES
            })?;
            each(cursor, |cursor| cursor.take(STREAM_ID_BYTES).map(|_| ()))
        })
    })
}

/// Moves past what a module wrote, up to its end.
pub(super) fn skip_words(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    loop {
        let begins = cursor.clone();
        match cursor.length()? {
            WORD_END => return Ok(()),
            WORD_SIGNED | WORD_UNSIGNED => skip_lengths(cursor, 1)?,
            WORD_FLOAT => cursor.take(4).map(|_| ())?,
            WORD_DOUBLE => cursor.take(8).map(|_| ())?,
            WORD_STRING => cursor.skip_string()?,
            _ => return Err(begins.broken("no word of a module begins like this")),
        }
    }
}
