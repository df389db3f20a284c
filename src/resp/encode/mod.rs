//! The elements of replies, written at the end of a buffer.
//!
//! These are the bytes only; `command::Reply` chooses between them by what the client speaks.
//! Nothing here fails. Cost: the bytes that are written; short lengths and integers, which most
//! replies are, take one store.

use std::fmt;
use std::ops::Deref;

#[cfg(test)]
mod tests;

/// Writes `<kind><number>\r\n`: an integer, or the header of whatever has a length.
#[inline]
pub fn header(out: &mut Vec<u8>, kind: u8, number: i64) {
    if let digit @ 0..=9 = number {
        out.extend_from_slice(&[kind, b'0' + digit as u8, b'\r', b'\n']);
    } else if let number @ 10..=99 = number {
        let (tens, ones) = (number as u8 / 10, number as u8 % 10);
        out.extend_from_slice(&[kind, b'0' + tens, b'0' + ones, b'\r', b'\n']);
    } else {
        out.push(kind);
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes a string with its length in front.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    header(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Writes `<kind><text>\r\n`; a line break in the text would end it, and becomes a space.
pub fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.push(kind);
    let from = out.len();
    out.extend_from_slice(text);
    for byte in out.iter_mut().skip(from) {
        if matches!(*byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A number as text, on the stack.
#[derive(Clone, Copy)]
pub struct NumberText {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl NumberText {
    /// The longest are decimals of 22 digits before the point and 17 behind it, and their sign.
    const BYTES_MAX: usize = 48;

    /// An empty text, to append to.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
        }
    }

    /// Appends what must fit: see [`Self::BYTES_MAX`].
    pub(crate) fn push(&mut self, text: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + text.len()].copy_from_slice(text);
        self.len += text.len() as u8;
    }

    fn push_zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.push(b"0");
        }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for NumberText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_bytes().escape_ascii(), f)
    }
}

/// The text of a double: the fewest digits that read back as the same number, in the form of
/// Redis 7.2 and later (`3`, `0.1`, `1e+21`, `1.5e-7`, `-0`, `inf`, `nan`).
///
/// Source: `d2string` of Redis, and the `emit_digits` of fpconv that it calls.
pub fn format_double(value: f64) -> NumberText {
    /// Up to here a double that is an integer is written as one.
    const INTEGER_MAX: f64 = (1_u64 << 62) as f64;

    let mut text = NumberText::new();
    if value.is_nan() {
        text.push(b"nan");
    } else if value.is_infinite() {
        text.push(if value < 0.0 { b"-inf" } else { b"inf" });
    } else if value == 0.0 {
        text.push(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    } else if value.abs() <= INTEGER_MAX && value.fract() == 0.0 {
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        if value < 0.0 {
            text.push(b"-");
        }
        Digits::of(value.abs()).write(&mut text);
    }
    text
}

/// The shortest digits of a positive double, which is `digits · 10^exponent`.
struct Digits {
    bytes: [u8; Self::MAX],
    len: usize,
    exponent: i32,
}

impl Digits {
    /// Digits that any double needs at most.
    const MAX: usize = 17;

    fn of(value: f64) -> Self {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut digits = Self {
            bytes: [0; Self::MAX],
            len: 0,
            exponent: exponent.parse().unwrap_or(0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // Without the zeros at both ends, which only hold the point in place.
        let trailing = whole.len() + fraction.len();
        let all = whole.bytes().chain(fraction.bytes());
        let significant = all.clone().rev().skip_while(|&b| b == b'0').count();
        digits.exponent += (trailing - significant) as i32 - fraction.len() as i32;
        for byte in all.take(significant).skip_while(|&b| b == b'0') {
            digits.bytes[digits.len] = byte;
            digits.len += 1;
        }
        digits
    }

    fn write(&self, text: &mut NumberText) {
        let (digits, count) = (&self.bytes[..self.len], self.len as i32);
        // Of the first digit.
        let magnitude = self.exponent + count - 1;
        if 0 <= self.exponent && self.exponent < 8 {
            text.push(digits);
            text.push_zeros(self.exponent as usize);
        } else if self.exponent < 0 && (-7 < self.exponent || magnitude.abs() < 4) {
            let point = count + self.exponent;
            if point <= 0 {
                text.push(b"0.");
                text.push_zeros(point.unsigned_abs() as usize);
                text.push(digits);
            } else {
                let (whole, fraction) = digits.split_at(point as usize);
                text.push(whole);
                text.push(b".");
                text.push(fraction);
            }
        } else {
            let (first, others) = digits.split_at(1);
            text.push(first);
            if !others.is_empty() {
                text.push(b".");
                text.push(others);
            }
            text.push(if magnitude < 0 { b"e-" } else { b"e+" });
            text.push(itoa::Buffer::new().format(magnitude.abs()).as_bytes());
        }
    }
}
