//! What `SSCAN`, `HSCAN` and `ZSCAN` have in common: a cursor and its options.
//!
//! A cursor is a place in the table of the value. What is there throughout a walk is returned at
//! least once; small values are returned in one step, whatever `COUNT` says, as Redis does.

use super::{Args, CommandError, Reply, glob};
use crate::limits;

/// Values with at most so many elements are walked in one step: Redis's listpack limit.
const SMALL: usize = 128;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    /// Where to go on.
    pub(super) cursor: u64,
    /// Whether `NOVALUES` was given.
    pub(super) names_only: bool,
    count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> Walk<'a> {
    /// Takes the cursor; the options come after the key has been looked at, as in Redis.
    pub(super) fn start(args: &mut Args<'a>) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(args.next()?).ok();
        let cursor = text
            .and_then(|text| text.parse().ok())
            .ok_or(CommandError::InvalidCursor)?;
        Ok(Self {
            cursor,
            names_only: false,
            count: 10,
            pattern: None,
        })
    }

    /// Takes the options.
    pub(super) fn options(
        &mut self,
        args: &mut Args<'a>,
        of_hash: bool,
    ) -> Result<(), CommandError> {
        while !args.is_empty() {
            if args.token_is("MATCH") {
                self.pattern = Some(args.next()?);
            } else if args.token_is("COUNT") {
                let count = args.int()?;
                if count < 1 {
                    return Err(CommandError::Syntax);
                }
                self.count = (count as usize).min(limits::SCAN_STEP_MAX);
            } else if args.token_is("NOVALUES") {
                if !of_hash {
                    return Err(CommandError::text(
                        "ERR NOVALUES option can only be used in HSCAN",
                    ));
                }
                self.names_only = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(())
    }

    /// How many places to look at in a value of `length` elements.
    pub(super) const fn step(&self, length: usize) -> usize {
        if length <= SMALL {
            usize::MAX
        } else {
            self.count
        }
    }

    /// Whether a name is asked for.
    pub(super) fn wants(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// Opens the reply: the cursor to go on from, and `length` elements.
pub(super) fn open(reply: &mut Reply<'_>, cursor: u64, length: usize) {
    reply.array(2);
    reply.bulk_text(&cursor.to_string());
    reply.array(length);
}
