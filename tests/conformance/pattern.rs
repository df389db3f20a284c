//! What a reply must look like, and whether one does.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only two patterns speak of all regions"
)]

use std::collections::BTreeMap;

use testing::Value;
use toml::Value as Toml;

use crate::case::{Arg, integer};

/// Replies saved under a name.
pub(crate) type Vars = BTreeMap<String, Value>;

/// A pattern of `cases/README.md`.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Int(i64),
    Text(Arg),
    Array(Vec<Self>),
    Nil,
    /// An error whose text starts so.
    Error(String),
    /// These elements in any order.
    Set(Vec<Self>),
    /// Exactly these pairs, in any order.
    Map(Vec<(String, Self)>),
    /// At least these pairs.
    Has(Vec<(String, Self)>),
    Between(f64, f64),
    Prefix(String),
    Len(usize),
    /// An array whose elements are all equal.
    Equal,
    OneOf(Vec<Self>),
    /// The same in every region: element by element, or in any order.
    Same {
        ordered: bool,
    },
    Any,
}

impl Pattern {
    pub(crate) fn read(value: &Toml) -> Result<Self, String> {
        if let Some(int) = value.as_integer() {
            return Ok(Self::Int(int));
        }
        if let Some(items) = value.as_array() {
            return Ok(Self::Array(read_all(items)?));
        }
        if let Some(text) = Arg::read_text(value)? {
            return Ok(Self::Text(text));
        }
        let table = value
            .as_table()
            .ok_or_else(|| format!("not a pattern: {value}"))?;
        let mut entries = table.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            return Err(format!("not one pattern: {value}"));
        };
        let text = || {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("{name} wants a text"))
        };
        let items = || {
            value
                .as_array()
                .ok_or_else(|| format!("{name} wants a list"))
        };
        Ok(match name.as_str() {
            "nil" => Self::Nil,
            "equal" => Self::Equal,
            "any" => Self::Any,
            "error" => Self::Error(text()?),
            "prefix" => Self::Prefix(text()?),
            "len" => Self::Len(integer(value)? as usize),
            "set" => Self::Set(read_all(items()?)?),
            "one_of" => Self::OneOf(read_all(items()?)?),
            "map" => Self::Map(read_pairs(value)?),
            "has" => Self::Has(read_pairs(value)?),
            "between" => match items()?.as_slice() {
                [low, high] => Self::Between(integer(low)? as f64, integer(high)? as f64),
                _ => return Err(format!("not two bounds: {value}")),
            },
            "same" => match value.as_str() {
                Some("unordered") => Self::Same { ordered: false },
                None if value.as_bool() == Some(true) => Self::Same { ordered: true },
                _ => return Err(format!("same = {value}")),
            },
            other => return Err(format!("unknown pattern `{other}`")),
        })
    }

    /// Whether one reply fits. `Same` fits anything: see [`Pattern::fits_all`].
    pub(crate) fn fits(&self, reply: &Value, vars: &Vars) -> bool {
        match self {
            Self::Int(int) => reply.int() == Some(*int),
            Self::Text(Arg::Bytes(bytes)) => reply.bytes() == Some(bytes),
            Self::Text(Arg::Var(name)) => vars.get(name).is_some_and(|saved| same(saved, reply)),
            Self::Nil => *reply == Value::Nil,
            Self::Error(start) => reply.error().is_some_and(|text| text.starts_with(start)),
            Self::Prefix(start) => reply
                .bytes()
                .is_some_and(|bytes| bytes.starts_with(start.as_bytes())),
            Self::Between(low, high) => reply
                .number()
                .is_some_and(|number| (*low..=*high).contains(&number)),
            Self::OneOf(patterns) => patterns.iter().any(|pattern| pattern.fits(reply, vars)),
            Self::Any | Self::Same { .. } => true,
            Self::Len(len) => {
                let bytes = reply.bytes().map(<[u8]>::len);
                bytes.or_else(|| reply.items().map(|items| items.len())) == Some(*len)
            }
            Self::Equal => reply
                .items()
                .is_some_and(|items| items.windows(2).all(|pair| pair[0] == pair[1])),
            Self::Array(patterns) => reply.items().is_some_and(|items| {
                items.len() == patterns.len()
                    && patterns
                        .iter()
                        .zip(items)
                        .all(|(pattern, item)| pattern.fits(item, vars))
            }),
            Self::Set(patterns) => reply.items().is_some_and(|items| {
                let fits = |pattern: usize, item: usize| patterns[pattern].fits(items[item], vars);
                items.len() == patterns.len() && matches_up(patterns.len(), &fits)
            }),
            Self::Map(pairs) => {
                reply
                    .items()
                    .is_some_and(|items| items.len() == 2 * pairs.len())
                    && has(reply, pairs, vars)
            }
            Self::Has(pairs) => has(reply, pairs, vars),
        }
    }

    /// Whether the replies of all regions fit, those parts included that speak of them together.
    pub(crate) fn fits_all(&self, replies: &[Value], vars: &Vars) -> bool {
        match self {
            Self::Same { ordered } => {
                replies
                    .windows(2)
                    .all(|pair| match (pair[0].error(), pair[1].error()) {
                        (Some(a), Some(b)) => first_word(a) == first_word(b),
                        _ if *ordered => pair[0] == pair[1],
                        _ => sorted(&pair[0]) == sorted(&pair[1]),
                    })
            }
            Self::OneOf(patterns) => patterns
                .iter()
                .any(|pattern| pattern.fits_all(replies, vars)),
            _ => replies.iter().all(|reply| self.fits(reply, vars)),
        }
    }
}

/// Simple and bulk strings are one thing here.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.bytes().is_some() && a.bytes() == b.bytes())
}

fn has(reply: &Value, pairs: &[(String, Pattern)], vars: &Vars) -> bool {
    pairs.iter().all(|(name, pattern)| {
        reply
            .field(name)
            .is_some_and(|value| pattern.fits(value, vars))
    })
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn sorted(reply: &Value) -> Vec<String> {
    let items = reply.items().unwrap_or_else(|| vec![reply]);
    let mut texts: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    texts.sort();
    texts
}

/// Whether patterns and items can be paired off: patterns overlap, so the first that fits will not
/// always do. Sizes are small; augmenting paths suffice.
fn matches_up(count: usize, fits: &dyn Fn(usize, usize) -> bool) -> bool {
    fn place(
        pattern: usize,
        fits: &dyn Fn(usize, usize) -> bool,
        seen: &mut [bool],
        owner: &mut [Option<usize>],
    ) -> bool {
        for item in 0..owner.len() {
            if seen[item] || !fits(pattern, item) {
                continue;
            }
            seen[item] = true;
            if owner[item].is_none_or(|other| place(other, fits, seen, owner)) {
                owner[item] = Some(pattern);
                return true;
            }
        }
        false
    }
    let mut owner = vec![None; count];
    (0..count).all(|pattern| place(pattern, fits, &mut vec![false; count], &mut owner))
}

fn read_all(items: &[Toml]) -> Result<Vec<Pattern>, String> {
    items.iter().map(Pattern::read).collect()
}

fn read_pairs(value: &Toml) -> Result<Vec<(String, Pattern)>, String> {
    let table = value
        .as_table()
        .ok_or_else(|| format!("not pairs: {value}"))?;
    table
        .iter()
        .map(|(name, value)| Ok((name.clone(), Pattern::read(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Vars};
    use testing::Value;

    fn pattern(text: &str) -> Pattern {
        let table: toml::Table = format!("p = {text}").parse().unwrap();
        Pattern::read(&table["p"]).unwrap()
    }

    fn reply(mut bytes: &[u8]) -> Value {
        Value::read(&mut bytes).unwrap()
    }

    #[track_caller]
    fn check(text: &str, fits: &[&[u8]], fits_not: &[&[u8]]) {
        let pattern = pattern(text);
        for bytes in fits {
            assert!(
                pattern.fits(&reply(bytes), &Vars::new()),
                "{}",
                bytes.escape_ascii()
            );
        }
        for bytes in fits_not {
            assert!(
                !pattern.fits(&reply(bytes), &Vars::new()),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn patterns_fit_what_the_format_says() {
        check("1", &[b":1\r\n"], &[b":2\r\n", b"$1\r\n1\r\n"]);
        check(
            "\"OK\"",
            &[b"+OK\r\n", b"$2\r\nOK\r\n"],
            &[b"-OK\r\n", b":0\r\n"],
        );
        check(
            "{ hex = \"00ff\" }",
            &[b"$2\r\n\x00\xff\r\n"],
            &[b"$2\r\nab\r\n"],
        );
        check("{ nil = true }", &[b"$-1\r\n", b"*-1\r\n"], &[b"*0\r\n"]);
        check(
            "{ error = \"WRONG\" }",
            &[b"-WRONGTYPE x\r\n"],
            &[b"-ERR\r\n", b"+WRONG\r\n"],
        );
        check(
            "{ between = [1, 5] }",
            &[b":5\r\n", b"$1\r\n1\r\n"],
            &[b":6\r\n", b"$1\r\nx\r\n"],
        );
        check(
            "{ len = 2 }",
            &[b"*2\r\n:1\r\n:2\r\n", b"+OK\r\n"],
            &[b"*0\r\n"],
        );
        check(
            "{ equal = true }",
            &[b"*2\r\n:1\r\n:1\r\n"],
            &[b"*2\r\n:1\r\n:2\r\n", b":1\r\n"],
        );
        check(
            "[1, { any = true }]",
            &[b"*2\r\n:1\r\n:9\r\n"],
            &[b"*1\r\n:1\r\n"],
        );
    }

    #[test]
    fn a_set_pairs_off_overlapping_patterns() {
        let two = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n";
        check(
            "{ set = [{ any = true }, \"a\"] }",
            &[two],
            &[b"*2\r\n:1\r\n:2\r\n"],
        );
        check(
            "{ map = { a = \"b\" } }",
            &[two],
            &[b"*4\r\n+a\r\n+b\r\n+c\r\n+d\r\n"],
        );
        check(
            "{ has = { a = \"b\" } }",
            &[two, b"*4\r\n+c\r\n+d\r\n+a\r\n+b\r\n"],
            &[b"*0\r\n"],
        );
    }

    #[test]
    fn regions_must_agree_on_the_alternative() {
        let (a, b) = (reply(b"$1\r\na\r\n"), reply(b"$1\r\nb\r\n"));
        let one_of = pattern("{ one_of = [\"a\", \"b\"] }");
        assert!(one_of.fits_all(&[a.clone(), a.clone()], &Vars::new()));
        assert!(!one_of.fits_all(&[a.clone(), b.clone()], &Vars::new()));
        let same = pattern("{ same = true }");
        assert!(!same.fits_all(&[a, b], &Vars::new()));
        let errors = [reply(b"-ERR one\r\n"), reply(b"-ERR two\r\n")];
        assert!(same.fits_all(&errors, &Vars::new()));
        let orders = [reply(b"*2\r\n:1\r\n:2\r\n"), reply(b"*2\r\n:2\r\n:1\r\n")];
        assert!(!same.fits_all(&orders, &Vars::new()));
        assert!(pattern("{ same = \"unordered\" }").fits_all(&orders, &Vars::new()));
    }
}
