//! Numbers in arguments and values, read and written as Redis does.
//!
//! What a stored value means as a number is the business of `crdt`, for all regions have to agree
//! on it; integers and decimals are therefore read there.

use crdt::DECIMAL_ONE;
pub use crdt::{parse_decimal, parse_integer as parse_i64};

pub use crate::resp::encode::{NumberText, format_double};

/// A double, as `getDoubleFromObject` of Redis takes it: decimal or hexadecimal digits, or infinity
/// by name, and nothing before or after.
///
/// `None` for what is not a number, for NaN, and for what is not zero but rounds to zero, or is
/// finite but rounds to infinity.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let unsigned = match text {
        [b'+' | b'-', unsigned @ ..] => unsigned,
        _ => text,
    };
    if let [b'0', b'x' | b'X', digits @ ..] = unsigned {
        let value = parse_hexadecimal(digits)?;
        return Some(if text.first() == Some(&b'-') {
            -value
        } else {
            value
        });
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let is_named = !unsigned.iter().any(u8::is_ascii_digit);
    let is_lost = if value == 0.0 {
        let mantissa = unsigned
            .iter()
            .take_while(|b| !b.eq_ignore_ascii_case(&b'e'));
        mantissa.into_iter().any(|b| matches!(b, b'1'..=b'9'))
    } else {
        value.is_infinite() && !is_named
    };
    (!value.is_nan() && !is_lost).then_some(value)
}

/// Whole hexadecimal numbers, as `strtod` takes them among others: `0x10` is 16.
fn parse_hexadecimal(digits: &[u8]) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0.0_f64;
    for &digit in digits {
        value = value.mul_add(16.0, f64::from(char::from(digit).to_digit(16)?));
    }
    value.is_finite().then_some(value)
}

/// The text of a decimal that counts in units of 10⁻¹⁷, as `INCRBYFLOAT` replies: without an
/// exponent, a sign of zero or trailing zeros.
///
/// Source: `ld2string` of Redis, `LD_STR_HUMAN`.
pub fn format_decimal(units: i128) -> NumberText {
    let mut text = NumberText::new();
    if units < 0 {
        text.push(b"-");
    }
    let one = DECIMAL_ONE.unsigned_abs();
    let (whole, fraction) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    text.push(itoa::Buffer::new().format(whole).as_bytes());
    if fraction != 0 {
        // One in front keeps the zeros after the point.
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(one + fraction).trim_end_matches('0');
        text.push(b".");
        text.push(&digits.as_bytes()[1..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_have_one_form() {
        let good = [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX)];
        for (text, value) in good {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "1e2",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_what_strtod_takes() {
        let good = [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1e3", -1000.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0e-999", 0.0),
            ("0x10", 16.0),
            ("-0XfF", -255.0),
        ];
        for (text, value) in good {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        let bad = [
            "", " 1", "1 ", "nan", "-nan", "1e400", "-1e400", "1e-400", "x", "1x", "--1", "+", ".",
            "0x", "0xg", "1_0", "e5", "infinit",
        ];
        for text in bad {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_f64(&[0xff]), None);
    }

    #[test]
    fn decimals_print_without_exponents_and_zeros() {
        let cases = [
            ("10.5", "10.5"),
            ("5.0e3", "5000"),
            ("-0.1", "-0.1"),
            ("-0", "0"),
            ("-0.00000000000000001", "-0.00000000000000001"),
            ("3.00", "3"),
            ("1e19", "10000000000000000000"),
            ("100", "100"),
            ("0.30", "0.3"),
        ];
        for (text, printed) in cases {
            let units = parse_decimal(text.as_bytes()).unwrap();
            assert_eq!(format_decimal(units).as_bytes(), printed.as_bytes());
        }
        assert_eq!(
            format_decimal(i128::MIN).as_bytes(),
            b"-1701411834604692317316.87303715884105728"
        );
    }

    #[test]
    fn a_decimal_that_is_not_exact_is_none() {
        for text in [
            "0.000000000000000001",
            "1e22",
            "inf",
            "nan",
            "",
            ".",
            "1e",
            "1e-18",
            " 1",
        ] {
            assert_eq!(parse_decimal(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_reads_back_as_it_was_written(units in any::<i128>()) {
            // The one number whose negation does not fit.
            prop_assume!(units != i128::MIN);
            let text = format_decimal(units);
            prop_assert_eq!(parse_decimal(&text), Some(units));
        }

        #[test]
        fn a_small_decimal_reads_back_as_it_was_written(units in -1_000_000_i128..1_000_000) {
            prop_assert_eq!(parse_decimal(&format_decimal(units)), Some(units));
        }

        #[test]
        fn an_integer_reads_back_as_it_was_written(value in any::<i64>()) {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn no_text_is_too_odd(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_i64(&text), parse_decimal(&text));
            if let Some(value) = parse_f64(&text) {
                prop_assert!(!value.is_nan());
            }
        }
    }
}
