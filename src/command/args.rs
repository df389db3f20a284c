//! A cursor over the arguments of a command.
//!
//! The arity check comes before any handler, so running out of arguments is a matter of syntax:
//! an option without its value. Every method that takes an argument moves past it.

use super::CommandError;
use super::number::{parse_f64, parse_i64};

/// The arguments of one command that are still to be read.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    /// All of them, the command's name first.
    all: &'a [&'a [u8]],
    rest: &'a [&'a [u8]],
}

impl<'a> Args<'a> {
    /// The arguments `all`, whose first is the command's name; the cursor stands behind it.
    pub fn new(all: &'a [&'a [u8]]) -> Self {
        let rest = all.get(1..).unwrap_or_default();
        Self { all, rest }
    }

    /// The command's name, as the client wrote it.
    pub fn name(&self) -> &'a [u8] {
        self.all.first().copied().unwrap_or_default()
    }

    /// All arguments, the command's name first, wherever the cursor is.
    pub fn all(&self) -> &'a [&'a [u8]] {
        self.all
    }

    /// The next argument; a syntax error if there is none.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator has no error to return when an option lacks its value"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<&'a [u8], CommandError> {
        let (first, rest) = self.rest.split_first().ok_or(CommandError::Syntax)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next argument, if there is one, without moving past it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.rest.first().copied()
    }

    /// The next argument as a 64-bit integer.
    pub fn int(&mut self) -> Result<i64, CommandError> {
        parse_i64(self.next()?).ok_or(CommandError::NotAnInteger)
    }

    /// The next argument as a number: finite or infinite, never NaN.
    pub fn float(&mut self) -> Result<f64, CommandError> {
        parse_f64(self.next()?).ok_or(CommandError::NotAFloat)
    }

    /// The next argument as a count: an integer that is not negative.
    pub fn count(&mut self) -> Result<usize, CommandError> {
        let value = parse_i64(self.next()?).ok_or(CommandError::NotPositive)?;
        usize::try_from(value).map_err(|_| CommandError::NotPositive)
    }

    /// The next argument as an integer that is not below `least`; the error `line` otherwise.
    pub fn at_least(&mut self, least: i64, line: &'static str) -> Result<usize, CommandError> {
        parse_i64(self.next()?)
            .filter(|&value| least <= value)
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| CommandError::text(line))
    }

    /// Takes a number of keys, then as many keys; a syntax error if there are fewer.
    pub fn counted_keys(&mut self) -> Result<&'a [&'a [u8]], CommandError> {
        let count = self.at_least(1, "ERR numkeys should be greater than 0")?;
        self.take(count)
    }

    /// Whether the next argument is `token`, in upper or lower case; moves past it if so.
    #[inline]
    pub fn token_is(&mut self, token: &str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case(token.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes the next `count` arguments; a syntax error if there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [&'a [u8]], CommandError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(CommandError::Syntax)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes all arguments that are left.
    pub fn rest(&mut self) -> &'a [&'a [u8]] {
        std::mem::take(&mut self.rest)
    }

    /// How many arguments are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether no argument is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that no argument is left; a syntax error otherwise.
    #[inline]
    pub fn done(&self) -> Result<(), CommandError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Syntax)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_what_it_is_asked_for() {
        let all: [&[u8]; 8] = [b"cmd", b"key", b"-5", b"nX", b"1.5", b"3", b"a", b"b"];
        let mut args = Args::new(&all);
        assert_eq!(args.name(), b"cmd");
        assert_eq!(args.next(), Ok(b"key".as_slice()));
        assert_eq!(args.int(), Ok(-5));
        assert!(!args.token_is("XX"));
        assert!(args.token_is("NX"));
        assert_eq!(args.float(), Ok(1.5));
        assert_eq!(args.count(), Ok(3));
        assert_eq!(args.remaining(), 2);
        assert_eq!(args.done(), Err(CommandError::Syntax));
        assert_eq!(args.take(3), Err(CommandError::Syntax));
        assert_eq!(args.peek(), Some(b"a".as_slice()));
        assert_eq!(args.take(1), Ok([b"a".as_slice()].as_slice()));
        assert_eq!(args.rest(), [b"b".as_slice()]);
        assert_eq!(args.done(), Ok(()));
        assert!(args.is_empty());
        assert_eq!(args.next(), Err(CommandError::Syntax));
        assert!(!args.token_is("NX"));
        assert_eq!(args.all().len(), 8);
    }

    #[test]
    fn a_wrong_argument_is_named_as_redis_names_it() {
        let all: [&[u8]; 2] = [b"cmd", b"-1x"];
        let args = Args::new(&all);
        assert_eq!(args.clone().int(), Err(CommandError::NotAnInteger));
        assert_eq!(args.clone().float(), Err(CommandError::NotAFloat));
        assert_eq!(args.clone().count(), Err(CommandError::NotPositive));
        let all: [&[u8]; 2] = [b"cmd", b"-1"];
        assert_eq!(Args::new(&all).count(), Err(CommandError::NotPositive));
        assert!(Args::new(&[]).is_empty());
    }
}
