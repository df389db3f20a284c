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
            Some(self.int + self.dec / DECIMAL_ONE)
        } else {
            None
        }
    }
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
