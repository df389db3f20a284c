//! What `DUMP` gives and `RESTORE` takes: a type, a value, the version of the format, a checksum.
//!
//! `<type u8> <value> <version u16> <checksum u64>`, the lowest byte first; the checksum is of all
//! before it. Source: `createDumpPayload` and `verifyDumpPayload` in `cluster.c` of Redis 7.0.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::cursor::Cursor;
use super::{Error, Problem, Type, VERSION_MAX, Value, checksum};

/// The version of what Redis 7.0 writes, and reads.
const VERSION: u16 = 10;
/// The first one that has fields with deadlines: that of Redis 7.4.
const VERSION_FIELD_DEADLINES: u16 = 12;

/// A value as `DUMP` gives it, in a version that Redis 7.0 takes; 7.4 if fields have deadlines.
pub fn dump(value: &Value) -> Vec<u8> {
    let of = value.encoding();
    let mut payload = vec![of.byte()];
    value.write(&mut payload);
    let version = if of == Type::HashMetadata {
        VERSION_FIELD_DEADLINES
    } else {
        VERSION
    };
    end(payload, version)
}

/// A value that is in bytes of this version already, as [`dump`] gives them.
pub fn seal(of: Type, value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 11);
    payload.push(of.byte());
    payload.extend_from_slice(value);
    end(payload, version)
}

fn end(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = checksum::update(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload
}

/// Why `RESTORE` refuses: it has a text for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It is too short, of a version that is not known, or its checksum is another.
    Footer,
    /// The value is not one.
    Value(Error),
}

/// The value in what `DUMP` gave.
pub fn open(payload: &[u8]) -> Result<Value, OpenError> {
    let (checked, crc) = payload.split_last_chunk().ok_or(OpenError::Footer)?;
    let (body, version) = checked.split_last_chunk().ok_or(OpenError::Footer)?;
    let known = u16::from_le_bytes(*version) <= VERSION_MAX;
    if !known || u64::from_le_bytes(*crc) != checksum::update(0, checked) {
        return Err(OpenError::Footer);
    }
    value(body).map_err(OpenError::Value)
}

fn value(body: &[u8]) -> Result<Value, Error> {
    let mut cursor = Cursor::new(body, 0);
    let Some(of) = Type::from_byte(cursor.byte()?) else {
        let problem = Problem::Broken("no type has this number");
        return Err(Error { at: 0, problem });
    };
    let value = Value::read(of, &mut cursor)?;
    if cursor.rest().is_empty() {
        Ok(value)
    } else {
        Err(cursor.broken("there is more after the value"))
    }
}
