//! The sums of counters: an integer and a decimal, both exact.
//!
//! `INCRBY` adds to the integer, `INCRBYFLOAT` to the decimal, which counts in units of 10⁻¹⁷.
//! Both are 128 bits wide, so concurrent increments never wrap, and adding is associative, which
//! floating point is not.

use std::ops::{Add, Sub};

/// Digits after the point in a decimal sum.
pub const DECIMAL_DIGITS: u32 = 17;

/// One, in units of a decimal sum.
pub const DECIMAL_ONE: i128 = 10_i128.pow(DECIMAL_DIGITS);

/// An exact number: `int + dec · 10⁻¹⁷`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    /// What integer increments added.
    pub int: i128,
    /// What decimal increments added, in units of 10⁻¹⁷.
    pub dec: i128,
}

impl Number {
    /// Nothing.
    pub const ZERO: Self = Self { int: 0, dec: 0 };

    /// A whole number.
    pub const fn int(int: i128) -> Self {
        Self { int, dec: 0 }
    }

    /// A decimal, in units of 10⁻¹⁷.
    pub const fn dec(dec: i128) -> Self {
        Self { int: 0, dec }
    }

    /// The whole of it in units of 10⁻¹⁷, if that fits.
    pub fn in_units(self) -> Option<i128> {
        self.int.checked_mul(DECIMAL_ONE)?.checked_add(self.dec)
    }

    /// The whole of it as an integer, if it is one.
    pub const fn as_integer(self) -> Option<i128> {
        if self.dec % DECIMAL_ONE == 0 {
            Some(self.int.saturating_add(self.dec / DECIMAL_ONE))
        } else {
            None
        }
    }
}

/// Texts, as Redis reads and writes them.
impl Number {
    /// The number that a value stands for, if it is an integer as `INCR` takes it or a decimal as
    /// `INCRBYFLOAT` does and both are exact in [`DECIMAL_DIGITS`].
    pub fn parse(text: &[u8]) -> Option<Self> {
        if let Some(int) = parse_integer(text) {
            return Some(Self::int(int.into()));
        }
        parse_decimal(text).map(Self::dec)
    }

    /// The text of a total: an integer that saturates at 64 bits, or a decimal without trailing
    /// zeros.
    pub fn to_text(self) -> Vec<u8> {
        if let Some(int) = self.as_integer() {
            let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
            return int.clamp(bounds.0, bounds.1).to_string().into_bytes();
        }
        let Some(units) = self.in_units() else {
            return self.int.to_string().into_bytes();
        };
        let (whole, fraction) = (
            (units / DECIMAL_ONE).unsigned_abs(),
            (units % DECIMAL_ONE).abs(),
        );
        let sign = if units < 0 { "-" } else { "" };
        let text = format!("{sign}{whole}.{fraction:017}");
        text.trim_end_matches('0').as_bytes().to_vec()
    }
}

/// An integer in the one form that Redis takes: no sign but `-`, no leading zeros, 64 bits.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == text.len(),
        [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
    };
    // 19 digits and a sign are the longest that fit.
    if !canonical || 20 < text.len() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A decimal, with or without an exponent, in units of 10⁻¹⁷, if it is exact there.
pub fn parse_decimal(text: &[u8]) -> Option<i128> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let (mantissa, exponent) = match rest.iter().position(|b| b.eq_ignore_ascii_case(&b'e')) {
        Some(at) => {
            let exponent = std::str::from_utf8(&rest[at + 1..])
                .ok()?
                .parse::<i32>()
                .ok()?;
            (&rest[..at], exponent)
        }
        None => (rest, 0),
    };
    let point = mantissa
        .iter()
        .position(|&b| b == b'.')
        .unwrap_or(mantissa.len());
    let (whole, fraction) = (
        &mantissa[..point],
        mantissa.get(point + 1..).unwrap_or_default(),
    );
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut digits: i128 = 0;
    let mut scale = i64::from(DECIMAL_DIGITS) + i64::from(exponent) - fraction.len() as i64;
    for &b in whole.iter().chain(fraction) {
        if !b.is_ascii_digit() {
            return None;
        }
        digits = digits.checked_mul(10)?.checked_add(i128::from(b - b'0'))?;
    }
    while scale < 0 && digits % 10 == 0 && digits != 0 {
        digits /= 10;
        scale += 1;
    }
    let units = match (digits, u32::try_from(scale)) {
        (0, _) => 0,
        (_, Ok(scale)) => digits.checked_mul(10_i128.checked_pow(scale)?)?,
        (_, Err(_)) => return None,
    };
    Some(if negative { -units } else { units })
}

impl Add for Number {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            int: self.int.wrapping_add(other.int),
            dec: self.dec.wrapping_add(other.dec),
        }
    }
}

impl Sub for Number {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            int: self.int.wrapping_sub(other.int),
            dec: self.dec.wrapping_sub(other.dec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            ("", None),
            ("-", None),
            (" 1", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn decimals_are_exact_or_nothing() {
        for (text, expected) in [
            ("10.5", Some("10.5")),
            ("5.0e3", Some("5000")),
            ("-.1", Some("-0.1")),
            ("3.0", Some("3")),
            ("1e-17", Some("0.00000000000000001")),
            ("1e-18", None),
            ("10e-18", Some("0.00000000000000001")),
            ("1e40", None),
            ("x", None),
            (".", None),
            ("1e", None),
        ] {
            let number = parse_decimal(text.as_bytes()).map(|units| Number::dec(units).to_text());
            assert_eq!(number.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn totals_saturate() {
        assert_eq!(Number::int(1 << 70).to_text(), b"9223372036854775807");
        assert_eq!(
            (Number::int(1) + Number::dec(DECIMAL_ONE / 4)).to_text(),
            b"1.25"
        );
    }
}
