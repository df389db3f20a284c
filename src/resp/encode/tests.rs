//! Texts of doubles as Redis prints them, and headers of all lengths.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(value: f64, text: &str) {
    let printed = format_double(value);
    assert_eq!(str::from_utf8(&printed), Ok(text));
}

/// The forms are those of fpconv, which Redis prints doubles with since 7.2.
#[test]
fn doubles_print_as_redis_prints_them() {
    check(0.0, "0");
    check(-0.0, "-0");
    check(3.0, "3");
    check(-17.0, "-17");
    check(3.1, "3.1");
    check(-3.1, "-3.1");
    check(0.1, "0.1");
    check(0.1 + 0.2, "0.30000000000000004");
    check(0.001, "0.001");
    check(1e-5, "0.00001");
    check(1e-6, "0.000001");
    check(1e-7, "1e-7");
    check(1.5e-7, "1.5e-7");
    check(0.000_123, "0.000123");
    check(0.001_234_567_89, "0.00123456789");
    check(0.000_123_456_789, "1.23456789e-4");
    check(1_234_567.890_123_456_7, "1.2345678901234567e+6");
    check(123_456.789, "123456.789");
    check(1e15, "1000000000000000");
    check(4.611_686_018_427_388e18, "4611686018427387904");
    check(1e19, "1e+19");
    check(-1e21, "-1e+21");
    check(1.234_567_890_123_456_7e19, "12345678901234567000");
    check(1.5e300, "1.5e+300");
    check(f64::MAX, "1.7976931348623157e+308");
    check(f64::MIN_POSITIVE, "2.2250738585072014e-308");
    check(5e-324, "5e-324");
    check(f64::INFINITY, "inf");
    check(f64::NEG_INFINITY, "-inf");
    check(f64::NAN, "nan");
}

#[test]
fn lengths_of_all_sizes_have_headers() {
    for number in [0, 9, 10, 42, 99, 100, 12345, -1, i64::MAX, i64::MIN] {
        let mut out = b"x".to_vec();
        header(&mut out, b':', number);
        assert_eq!(String::from_utf8(out).unwrap(), format!("x:{number}\r\n"));
    }
}

proptest! {
    #[test]
    fn a_double_reads_back_as_it_was_written(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        let text = format_double(value);
        let read: f64 = str::from_utf8(&text).unwrap().parse().unwrap();
        prop_assert_eq!(read.to_bits(), bits, "{:?}", text);
    }

    /// Everyday scores: many magnitudes, few digits.
    #[test]
    fn a_short_double_reads_back_as_it_was_written(digits in -99_999_i64..99_999, scale in -30..30) {
        let value: f64 = format!("{digits}e{scale}").parse().unwrap();
        let text = format_double(value);
        let read: f64 = str::from_utf8(&text).unwrap().parse().unwrap();
        prop_assert_eq!(read.to_bits(), value.to_bits(), "{:?}", text);
    }

    #[test]
    fn a_bulk_holds_its_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        bulk(&mut out, &bytes);
        let head = format!("${}\r\n", bytes.len());
        prop_assert_eq!(&out[..head.len()], head.as_bytes());
        prop_assert_eq!(&out[head.len()..out.len() - 2], &bytes[..]);
        prop_assert!(out.ends_with(b"\r\n"));
    }
}
