//! Where random commands get their words from: few keys, fields and members, so that commands meet,
//! and the values at the edges.
//!
//! Keys carry a hash tag, and a command keeps to one tag where it must stay in one slot. The letter
//! after the tag says what a key normally holds, so that most commands find the type they want; now
//! and then a key of another kind is drawn.

use fastrand::Rng;

/// The words of a command.
pub(crate) type Words = Vec<Vec<u8>>;

/// A word from text, bytes or a number.
pub(crate) struct Word(pub(crate) Vec<u8>);

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Word {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<i64> for Word {
    fn from(number: i64) -> Self {
        Self(number.to_string().into_bytes())
    }
}

impl From<usize> for Word {
    fn from(number: usize) -> Self {
        Self(number.to_string().into_bytes())
    }
}

/// The words of a command, from texts, bytes and numbers.
macro_rules! words {
    ($($word:expr),* $(,)?) => {
        vec![$($crate::generator::Word::from($word).0),*]
    };
}
pub(crate) use words;

/// What a key normally holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string of text.
    Text,
    /// A string that is an integer.
    Number,
    /// A string that is a decimal.
    Decimal,
    /// A string of bits.
    Bits,
    Hash,
    /// A list of anything.
    List,
    /// A list of numbers.
    Numbers,
    /// A set of anything.
    Set,
    /// A set of integers.
    Ints,
    Sorted,
    /// A sorted set whose scores are all zero: only then has its order by name a meaning.
    Lex,
}

use Kind::{Bits, Decimal, Hash, Ints, Lex, List, Number, Numbers, Set, Sorted, Text};

/// Kinds that commands without a wish draw from. `Lex` keys are left alone, or their scores would
/// differ; `Decimal` keys too, or they would stop to sum exactly in Redis.
const KINDS: [Kind; 9] = [Text, Number, Bits, Hash, List, Numbers, Set, Ints, Sorted];

const TAGS: [&str; 3] = ["a", "b", "c"];
const KEYS_A_KIND: usize = 4;

/// Words that are easily taken for something else.
const TEXTS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"foo",
    b"bar",
    b"foobar",
    b"hello world",
    b"",
    b"0",
    b"1",
    b"2",
    b"10",
    b"-7",
    b"3.5",
    b"\xff\x00\r\n",
    "\u{dc}n\u{ef}".as_bytes(),
    b"a text that is longer than what a small string holds without an allocation of its own",
];
const INTS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775806",
    "4294967296",
    "-2147483648",
    "1000000000000",
    "0",
];
const NOT_INTS: &[&str] = &[
    "abc",
    "",
    " 1",
    "1 ",
    "+1",
    "01",
    "1.0",
    "1e3",
    "9223372036854775808",
    "-0",
    "0x10",
];
/// Sums of these are exact in binary and in decimal.
const DECIMALS: &[&str] = &[
    "0.5",
    "-0.25",
    "1.125",
    "3",
    "-7",
    "1e2",
    "5.0e1",
    "0",
    "100.75",
    "-1000000.5",
];
const NOT_DECIMALS: &[&str] = &["abc", "", " 1", "nan", "1.5x", "0x"];

/// Draws from a seed.
#[derive(Debug)]
pub(crate) struct Generator {
    rng: Rng,
    tag: &'static str,
    /// Seconds since 1970 when the run began.
    pub(crate) now_s: i64,
}

impl Generator {
    pub(crate) fn new(seed: u64, now_s: i64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            tag: TAGS[0],
            now_s,
        }
    }

    /// Draws the tag of what follows.
    pub(crate) fn new_tag(&mut self) {
        self.tag = self.pick(&TAGS);
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.f64() < probability
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.usize(..bound)
    }

    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        self.rng.i64(low..=high)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    /// What `draw` gives, or no word.
    pub(crate) fn maybe(&mut self, probability: f64, draw: impl Fn(&mut Self) -> Words) -> Words {
        if self.chance(probability) {
            draw(self)
        } else {
            Words::new()
        }
    }

    /// Between one and `most` of what `draw` gives.
    pub(crate) fn some(&mut self, most: usize, mut draw: impl FnMut(&mut Self) -> Words) -> Words {
        let count = 1 + self.below(most);
        (0..count).flat_map(|_| draw(self)).collect()
    }

    /// A key of this kind; one time in twenty, of any, if that does no harm.
    pub(crate) fn key(&mut self, kind: Kind) -> Vec<u8> {
        let kind = if kind != Lex && kind != Decimal && self.chance(0.05) {
            self.pick(&KINDS)
        } else {
            kind
        };
        self.exact_key(kind)
    }

    /// A key of this kind and no other.
    pub(crate) fn exact_key(&mut self, kind: Kind) -> Vec<u8> {
        let number = self.below(KEYS_A_KIND);
        self.named(kind, number)
    }

    fn named(&self, kind: Kind, number: usize) -> Vec<u8> {
        let letter = match kind {
            Text => 's',
            Number => 'n',
            Decimal => 'd',
            Bits => 'b',
            Hash => 'h',
            List => 'l',
            Numbers => 'm',
            Set => 'e',
            Ints => 'i',
            Sorted => 'z',
            Lex => 'y',
        };
        format!("{{{}}}{letter}{number}", self.tag).into_bytes()
    }

    /// A key of any kind.
    pub(crate) fn any_key(&mut self) -> Vec<u8> {
        let kind = self.pick(&KINDS);
        self.exact_key(kind)
    }

    /// Two keys of one kind.
    pub(crate) fn two_keys(&mut self) -> [Vec<u8>; 2] {
        let kind = self.pick(&KINDS);
        [self.exact_key(kind), self.key(kind)]
    }

    /// A key of any kind and any tag, for commands that may cross slots.
    pub(crate) fn key_anywhere(&mut self) -> Vec<u8> {
        let tag = self.tag;
        self.new_tag();
        let key = self.any_key();
        self.tag = tag;
        key
    }

    /// A string key and a value that suits it.
    pub(crate) fn string_pair(&mut self) -> Words {
        match self.below(10) {
            0..=4 => words![self.key(Text), self.text()],
            5..=7 => words![self.key(Number), self.int()],
            // SORT reads these: as weights, Redis takes "" for 0 and skips blanks.
            8 => {
                let value = if self.chance(0.02) {
                    "abc"
                } else {
                    self.pick(DECIMALS)
                };
                words![self.key(Decimal), value]
            }
            _ => words![self.key(Bits), self.text()],
        }
    }

    /// Any string key.
    pub(crate) fn string_key(&mut self) -> Vec<u8> {
        let kind = self.pick(&[Text, Text, Number, Decimal, Bits]);
        self.key(kind)
    }

    pub(crate) fn text(&mut self) -> Vec<u8> {
        self.pick(TEXTS).to_vec()
    }

    /// An integer: small, at a limit, or none at all.
    pub(crate) fn int(&mut self) -> Vec<u8> {
        match self.below(100) {
            0..=1 => self.pick(NOT_INTS).into(),
            2..=5 => self.pick(INTS).into(),
            _ => self.between(-20, 20).to_string().into_bytes(),
        }
    }

    /// A decimal that sums exactly, or none at all.
    pub(crate) fn decimal(&mut self) -> Vec<u8> {
        if self.chance(0.03) {
            self.pick(NOT_DECIMALS).into()
        } else {
            self.pick(DECIMALS).into()
        }
    }

    /// A score: few, so that there are ties. None is infinite: a sum of opposite infinities
    /// depends on the order, and Redis's order on the sizes of the sets. Every one is a number: as
    /// a bound, Redis takes "" for 0 and skips blanks.
    pub(crate) fn score(&mut self) -> Vec<u8> {
        if self.chance(0.03) {
            return self.pick(DECIMALS).into();
        }
        format!("{}", self.between(-8, 24) as f64 / 4.0).into_bytes()
    }

    /// An index or a count that may lie outside.
    pub(crate) fn index(&mut self) -> Vec<u8> {
        match self.below(50) {
            0 => self
                .pick(&["9223372036854775807", "-9223372036854775808", "100000"])
                .into(),
            1 => self.pick(NOT_INTS).into(),
            _ => self.between(-12, 12).to_string().into_bytes(),
        }
    }

    /// A count; seldom negative or none at all.
    pub(crate) fn count(&mut self) -> Vec<u8> {
        match self.below(40) {
            0 => self.index(),
            _ => self.below(6).to_string().into_bytes(),
        }
    }

    pub(crate) fn field(&mut self) -> Vec<u8> {
        format!("f{}", self.below(8)).into_bytes()
    }

    /// A field that normally holds an integer.
    pub(crate) fn int_field(&mut self) -> Vec<u8> {
        format!("n{}", self.below(4)).into_bytes()
    }

    /// A field that normally holds a decimal.
    pub(crate) fn decimal_field(&mut self) -> Vec<u8> {
        format!("d{}", self.below(3)).into_bytes()
    }

    /// A field and a value that suits it.
    pub(crate) fn field_pair(&mut self) -> Words {
        match self.below(6) {
            0..=2 => words![self.field(), self.text()],
            3..=4 => words![self.int_field(), self.between(-50, 50)],
            _ => words![self.decimal_field(), self.decimal()],
        }
    }

    /// A member of a set or an element of a list.
    pub(crate) fn member(&mut self) -> Vec<u8> {
        match self.below(5) {
            0 => self.text(),
            1 => self.between(0, 9).to_string().into_bytes(),
            _ => format!("m{}", self.below(12)).into_bytes(),
        }
    }

    /// A list, and an element that suits it.
    pub(crate) fn list_pair(&mut self) -> Words {
        if self.chance(0.3) {
            words![self.key(Numbers), self.between(0, 9)]
        } else {
            words![self.key(List), self.member()]
        }
    }

    pub(crate) fn list_key(&mut self) -> Vec<u8> {
        let kind = self.pick(&[List, List, Numbers]);
        self.key(kind)
    }

    pub(crate) fn set_key(&mut self) -> Vec<u8> {
        let kind = self.pick(&[Set, Set, Ints]);
        self.key(kind)
    }

    /// Seconds to live that are never close to the deadline of another command, whenever it ran.
    pub(crate) fn ttl_s(&mut self) -> i64 {
        10_000 * self.between(1, 50)
    }

    /// The same, and unlike any other: for `GT` and `LT`.
    pub(crate) fn odd_ttl_s(&mut self) -> i64 {
        10_000 * self.between(1, 1_000_000) + 5_000
    }

    /// A point in time, in seconds since 1970; seldom past.
    pub(crate) fn time_s(&mut self) -> i64 {
        if self.chance(0.1) {
            self.between(1, 1000)
        } else {
            self.coming_time_s()
        }
    }

    /// A point in time that is not past: Redis 7.0 counts a key that was set with a past deadline
    /// until it comes across it.
    pub(crate) fn coming_time_s(&mut self) -> i64 {
        self.now_s + self.ttl_s() + 2_500
    }

    /// Spoils some commands: a word too few, too many, or out of place; the case of the name.
    pub(crate) fn spoil(&mut self, words: &mut Words) {
        let odd = format!("{{{}}}odd", self.tag).into_bytes();
        match self.below(300) {
            0 if 1 < words.len() => drop(words.pop()),
            1 => words.push(odd),
            2 if 1 < words.len() => {
                let at = 1 + self.below(words.len() - 1);
                words[at] = odd;
            }
            3..=10 => words[0].make_ascii_lowercase(),
            _ => {}
        }
    }
}
