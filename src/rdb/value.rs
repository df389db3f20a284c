//! Values from their bytes, in every encoding that Redis has or had for the types that we have.
//!
//! What is wrong inside of a packed container is reported at the byte at which that begins.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::HashSet;

use super::cursor::Cursor;
use super::{Broken, Error, Field, Problem, Type, Value};
use super::{intset, listpack, ziplist, zipmap};

/// Elements that room is made for before they are seen.
const ROOM_MAX: u64 = 1024;
/// What holds one element of a list by itself.
const NODE_PLAIN: u64 = 1;
/// What holds several, as a listpack.
const NODE_PACKED: u64 = 2;

impl Value {
    /// Takes a value of this type and encoding.
    pub(super) fn read(of: Type, cursor: &mut Cursor<'_>) -> Result<Self, Error> {
        let begins = cursor.at();
        let value = match of {
            Type::String => Self::String(cursor.string()?.into_owned()),
            Type::List => Self::List(many(cursor, text)?),
            Type::ListZiplist => Self::List(packed(cursor, ziplist::elements)?),
            Type::ListQuicklist => {
                let nodes = many(cursor, |cursor| packed(cursor, ziplist::elements))?;
                Self::List(nodes.concat())
            }
            Type::ListQuicklist2 => Self::List(many(cursor, node)?.concat()),
            Type::Set => Self::Set(many(cursor, text)?),
            Type::SetIntset => Self::Set(packed(cursor, intset::members)?),
            Type::SetListpack => Self::Set(packed(cursor, listpack::elements)?),
            Type::ZsetText => Self::SortedSet(many(cursor, |cursor| {
                Ok((text(cursor)?, score_of_text(cursor)?))
            })?),
            Type::Zset => Self::SortedSet(many(cursor, |cursor| {
                Ok((text(cursor)?, f64::from_bits(cursor.u64_le()?)))
            })?),
            Type::ZsetZiplist => {
                Self::SortedSet(packed(cursor, |pack| scores(ziplist::elements(pack)?))?)
            }
            Type::ZsetListpack => {
                Self::SortedSet(packed(cursor, |pack| scores(listpack::elements(pack)?))?)
            }
            Type::Hash => Self::Hash(many(cursor, |cursor| {
                Ok(field(text(cursor)?, text(cursor)?))
            })?),
            Type::HashZipmap => Self::Hash(packed(cursor, zipmap::fields)?),
            Type::HashZiplist => {
                Self::Hash(packed(cursor, |pack| pairs(ziplist::elements(pack)?))?)
            }
            Type::HashListpack => {
                Self::Hash(packed(cursor, |pack| pairs(listpack::elements(pack)?))?)
            }
            Type::HashListpackEx => {
                cursor.u64_le()?; // The earliest of the deadlines, which are all there.
                Self::Hash(packed(cursor, triples)?)
            }
            Type::HashListpackExPreGa => Self::Hash(packed(cursor, triples)?),
            Type::HashMetadata => {
                let earliest = cursor.u64_le()?;
                // One more than what is past the earliest; 0 for none.
                let ends = |after: u64| after.checked_sub(1)?.checked_add(earliest);
                Self::Hash(many(cursor, |cursor| field_after_deadline(cursor, ends))?)
            }
            Type::HashMetadataPreGa => {
                let ends = |at: u64| (at != 0).then_some(at);
                Self::Hash(many(cursor, |cursor| field_after_deadline(cursor, ends))?)
            }
            Type::Stream | Type::Stream2 | Type::Stream3 | Type::Module | Type::ModulePreGa => {
                let problem = Problem::NotOurs(of.name());
                return Err(Error {
                    at: begins,
                    problem,
                });
            }
        };
        let checked = value.check();
        checked.map_err(|problem| Error {
            at: begins,
            problem,
        })?;
        Ok(value)
    }

    /// What has to be true of every value.
    fn check(&self) -> Result<(), Problem> {
        let (len, distinct) = match self {
            Self::String(_) => return Ok(()),
            Self::List(elements) => (elements.len(), elements.len()),
            Self::Set(members) => (members.len(), distinct(members.iter())),
            Self::SortedSet(members) => {
                if members.iter().any(|(_, score)| score.is_nan()) {
                    return Err(Problem::Broken("a score is not a number"));
                }
                let names = members.iter().map(|(name, _)| name);
                (members.len(), distinct(names))
            }
            Self::Hash(fields) => {
                let mut ends = fields.iter().filter_map(|field| field.ends_at_ms);
                if ends.any(|ms| i64::MAX as u64 <= ms) {
                    return Err(Problem::Broken("a deadline is later than there is time"));
                }
                let names = fields.iter().map(|field| &field.name);
                (fields.len(), distinct(names))
            }
        };
        match len {
            0 => Err(Problem::Empty),
            _ if distinct < len => Err(Problem::Broken("something is in it twice")),
            _ => Ok(()),
        }
    }
}

/// How many of the names differ.
fn distinct<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> usize {
    names.collect::<HashSet<&Vec<u8>>>().len()
}

/// Takes a count and as many elements. Each takes at least a byte, so a claim ends with the bytes.
fn many<T>(
    cursor: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = cursor.length()?;
    let mut all = Vec::with_capacity(count.min(ROOM_MAX) as usize);
    for _ in 0..count {
        all.push(one(cursor)?);
    }
    Ok(all)
}

fn text(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Error> {
    Ok(cursor.string()?.into_owned())
}

/// Takes a string, and what is packed in it.
fn packed<T>(
    cursor: &mut Cursor<'_>,
    unpack: impl FnOnce(&[u8]) -> Result<T, Broken>,
) -> Result<T, Error> {
    let begins = cursor.clone();
    let pack = cursor.string()?;
    unpack(&pack).map_err(|Broken(what)| begins.broken(what))
}

/// Takes a node of a list.
fn node(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let begins = cursor.clone();
    match cursor.length()? {
        NODE_PLAIN => Ok(vec![text(cursor)?]),
        NODE_PACKED => packed(cursor, listpack::elements),
        _ => Err(begins.broken("no node of a list begins like this")),
    }
}

/// Takes a score that is decimal text after a byte with its length.
fn score_of_text(cursor: &mut Cursor<'_>) -> Result<f64, Error> {
    let begins = cursor.clone();
    match cursor.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        length => score(cursor.take(length.into())?).map_err(|Broken(what)| begins.broken(what)),
    }
}

fn score(text: &[u8]) -> Result<f64, Broken> {
    let text = str::from_utf8(text).ok();
    let score = text.and_then(|text| text.parse().ok());
    score.ok_or(Broken("a score is not a number"))
}

/// Members and scores that take turns.
fn scores(elements: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, f64)>, Broken> {
    let turns = groups::<2>(elements)?;
    let members = turns.map(|[name, text]| Ok((name, score(&text)?)));
    members.collect()
}

/// Elements in groups of so many.
fn groups<const N: usize>(
    elements: Vec<Vec<u8>>,
) -> Result<impl Iterator<Item = [Vec<u8>; N]>, Broken> {
    if !elements.len().is_multiple_of(N) {
        return Err(Broken("something in it lacks its other part"));
    }
    let mut rest = elements.into_iter();
    let count = rest.len() / N;
    let next = move |_| std::array::from_fn(|_| rest.next().expect("the groups are whole"));
    Ok((0..count).map(next))
}

/// Names and values that take turns.
fn pairs(elements: Vec<Vec<u8>>) -> Result<Vec<Field>, Broken> {
    let pairs = groups(elements)?.map(|[name, value]| field(name, value));
    Ok(pairs.collect())
}

/// Names, values and deadlines that take turns, in a listpack.
fn triples(pack: &[u8]) -> Result<Vec<Field>, Broken> {
    let triples = groups(listpack::elements(pack)?)?;
    triples.map(field_with_deadline).collect()
}

/// A field without a deadline.
pub(super) const fn field(name: Vec<u8>, value: Vec<u8>) -> Field {
    Field {
        name,
        value,
        ends_at_ms: None,
    }
}

fn field_with_deadline([name, value, ends]: [Vec<u8>; 3]) -> Result<Field, Broken> {
    let ends = str::from_utf8(&ends)
        .ok()
        .and_then(|ends| ends.parse().ok());
    let ends: u64 = ends.ok_or(Broken("a deadline is not a number"))?;
    Ok(Field {
        ends_at_ms: (ends != 0).then_some(ends),
        ..field(name, value)
    })
}

fn field_after_deadline(
    cursor: &mut Cursor<'_>,
    ends: impl Fn(u64) -> Option<u64>,
) -> Result<Field, Error> {
    let ends_at_ms = ends(cursor.length()?);
    let (name, value) = (text(cursor)?, text(cursor)?);
    Ok(Field {
        ends_at_ms,
        ..field(name, value)
    })
}
