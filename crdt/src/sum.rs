//! What counter parts add up to: numbers in strings and hash fields, doubles in scores.

use crate::number::Number;

/// What counter parts add up to, and how they meet the base.
pub(crate) trait Sum: Copy + Default + PartialEq + std::fmt::Debug {
    /// `self - other`.
    fn minus(self, other: Self) -> Self;
    /// The integer that a reader gets of the sum alone, if it is one.
    fn integer(self) -> Option<i64>;
    /// The sum as a word, if it fits one.
    fn to_word(self) -> Option<u64>;
    /// The sum that a word stands for.
    fn from_word(word: u64) -> Self;
    /// The value of a text with what the live parts add, or `None` where the text hides them.
    fn total(text: Option<&[u8]>, added: impl Iterator<Item = Self>) -> Option<Vec<u8>>;
    /// The text that stands for `text` with what a part adds, whatever is added later, if there is
    /// one. Doubles do not add up alike in another order, so there is none.
    fn fold(text: Option<&[u8]>, part: Self) -> Option<Vec<u8>>;
}

/// No counter parts: set members.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NoSum;

impl Sum for NoSum {
    fn minus(self, _: Self) -> Self {
        self
    }

    fn integer(self) -> Option<i64> {
        None
    }

    fn to_word(self) -> Option<u64> {
        None
    }

    fn from_word(_: u64) -> Self {
        Self
    }

    fn total(_: Option<&[u8]>, _: impl Iterator<Item = Self>) -> Option<Vec<u8>> {
        None
    }

    fn fold(_: Option<&[u8]>, _: Self) -> Option<Vec<u8>> {
        None
    }
}

impl Sum for Number {
    fn minus(self, other: Self) -> Self {
        self - other
    }

    fn integer(self) -> Option<i64> {
        let int = self.as_integer()?;
        Some(int.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    fn to_word(self) -> Option<u64> {
        let int = i64::try_from(self.int).ok()?;
        (self.dec == 0).then_some(int.cast_unsigned())
    }

    fn from_word(word: u64) -> Self {
        Self::int(word.cast_signed().into())
    }

    fn total(text: Option<&[u8]>, added: impl Iterator<Item = Self>) -> Option<Vec<u8>> {
        let base = match text {
            Some(text) => Self::parse(text)?,
            None => Self::ZERO,
        };
        Some(added.fold(base, |total, part| total + part).to_text())
    }

    fn fold(text: Option<&[u8]>, part: Self) -> Option<Vec<u8>> {
        let base = match text.map(Self::parse) {
            Some(Some(base)) => base,
            // It hides its parts, and so do all that are written over it.
            Some(None) => return text.map(<[u8]>::to_vec),
            None => Self::ZERO,
        };
        let total = base + part;
        let text = total.to_text();
        let read = Self::parse(&text).and_then(Self::in_units);
        (read.is_some() && read == total.in_units()).then_some(text)
    }
}

impl Sum for f64 {
    fn minus(self, other: Self) -> Self {
        self - other
    }

    fn integer(self) -> Option<i64> {
        None
    }

    fn to_word(self) -> Option<u64> {
        Some(self.to_bits())
    }

    fn from_word(word: u64) -> Self {
        Self::from_bits(word)
    }

    fn total(text: Option<&[u8]>, added: impl Iterator<Item = Self>) -> Option<Vec<u8>> {
        let base = text
            .and_then(|text| text.try_into().ok())
            .map_or(0.0, Self::from_le_bytes);
        let total = added.fold(base, |total, part| total + part);
        let total = if total.is_nan() { 0.0 } else { total };
        Some(total.to_le_bytes().to_vec())
    }

    fn fold(_: Option<&[u8]>, _: Self) -> Option<Vec<u8>> {
        None
    }
}
