//! Sizes and durations as people write them: a whole number and a unit.

use std::time::Duration;

/// Reads a size in bytes: `1048576`, `1mb`, `1MiB`, `10GiB`.
///
/// As in Redis, `kb`, `mb` and `gb` are powers of 1024, like `KiB`, `MiB` and `GiB`; `k`, `m` and
/// `g` alone are powers of 1000. Case does not matter. `None` when it is no size, or too large.
pub fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "m" => 1000 * 1000,
        "g" => 1000 * 1000 * 1000,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    usize::try_from(number).ok()?.checked_mul(bytes)
}

/// Reads a duration: `250us`, `500ms`, `10s`, `5m`, `24h`. The unit is needed, save for `0`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(60 * 60)?)),
        "" if number == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

/// A duration as [`duration`] reads it, in whole units.
pub fn duration_text(duration: Duration) -> String {
    let us = duration.as_micros();
    let units = [
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    if us == 0 {
        return "0".to_owned();
    }
    let whole = units.iter().find(|(unit, _)| us.is_multiple_of(*unit));
    whole.map_or_else(
        || format!("{us}us"),
        |(unit, name)| format!("{}{name}", us / unit),
    )
}

/// The number that a text begins with, and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("17"), Some(17));
        assert_eq!(size("1k"), Some(1000));
        assert_eq!(size("512mb"), Some(512 << 20));
        assert_eq!(size("10GiB"), Some(10 << 30));
        assert_eq!(size("10 GiB"), Some(10 << 30));
        for wrong in [
            "",
            "mb",
            "-1",
            "1.5gb",
            "1 parsec",
            "99999999999999999999",
            "99999999tb",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("250us"), Some(Duration::from_micros(250)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("24h"), Some(Duration::from_hours(24)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for text in ["0", "250us", "500ms", "90s", "5m", "24h"] {
            let read = duration(text).expect("it is one");
            assert_eq!(duration_text(read), text);
        }
        assert_eq!(duration_text(Duration::from_mins(2)), "2m");
        for wrong in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 lightyears",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
