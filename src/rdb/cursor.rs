//! A cursor over bytes of the format: lengths, strings, numbers.
//!
//! Whatever is taken is held against what is left first, so a claimed length costs nothing.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::borrow::Cow;

use super::{Broken, Error, Problem, STRING_BYTES_MAX, lzf};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Where `rest` begins in the file or payload.
    at: u64,
}

/// What stands where a length does.
enum Length {
    Plain(u64),
    /// A string in an encoding of its own.
    Encoded(u8),
}

impl<'a> Cursor<'a> {
    /// At the first of `bytes`, which is the byte `at` of the whole.
    pub(super) const fn new(bytes: &'a [u8], at: u64) -> Self {
        Self { rest: bytes, at }
    }

    /// Where it is.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// What is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What is wrong here.
    pub(super) const fn broken(&self, what: &'static str) -> Error {
        let problem = Problem::Broken(what);
        Error {
            at: self.at,
            problem,
        }
    }

    /// The next bytes, so many.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(count)
            .ok()
            .and_then(|count| self.rest.split_at_checked(count));
        let Some((taken, rest)) = split else {
            let problem = Problem::Truncated;
            let at = self.at + self.rest.len() as u64;
            return Err(Error { at, problem });
        };
        self.rest = rest;
        self.at += count;
        Ok(taken)
    }

    /// The next bytes, as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many were taken"))
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A number of 64 bits, the lowest byte first.
    pub(super) fn u64_le(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length_or_encoding(&mut self) -> Result<Length, Error> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(first.into()),
            (1, _) => {
                let low = self.byte()?;
                Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(low))
            }
            (3, _) => Length::Encoded(first & 0x3f),
            (_, 0x80) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            _ => return Err(self.broken("no length begins like this")),
        })
    }

    /// A length or count.
    pub(super) fn length(&mut self) -> Result<u64, Error> {
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(self.broken("an encoded string where a length has to be")),
        }
    }

    /// A string, in whichever encoding.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Error> {
        let begins = self.clone();
        let number = |number: i32| Cow::Owned(itoa::Buffer::new().format(number).into());
        Ok(match self.length_or_encoding()? {
            Length::Plain(length) => Cow::Borrowed(self.take(length)?),
            Length::Encoded(0) => number(i8::from_le_bytes(self.array()?).into()),
            Length::Encoded(1) => number(i16::from_le_bytes(self.array()?).into()),
            Length::Encoded(2) => number(i32::from_le_bytes(self.array()?)),
            Length::Encoded(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                let packed = self.take(packed)?;
                if STRING_BYTES_MAX < length {
                    return Err(begins.broken("a string is longer than a string can be"));
                }
                let expanded = lzf::expand(packed, length as usize);
                Cow::Owned(expanded.map_err(|Broken(what)| begins.broken(what))?)
            }
            Length::Encoded(_) => return Err(begins.broken("no string begins like this")),
        })
    }

    /// Moves past a string without expanding it.
    pub(super) fn skip_string(&mut self) -> Result<(), Error> {
        let begins = self.clone();
        let length = match self.length_or_encoding()? {
            Length::Plain(length) => length,
            Length::Encoded(0) => 1,
            Length::Encoded(1) => 2,
            Length::Encoded(2) => 4,
            Length::Encoded(3) => {
                let packed = self.length()?;
                self.length()?;
                packed
            }
            Length::Encoded(_) => return Err(begins.broken("no string begins like this")),
        };
        self.take(length).map(|_| ())
    }
}
