//! The errors that clients match on.
//!
//! Their texts are API, those of Redis 7 byte for byte: drivers look at the first word, programs
//! and test suites at all of it. A variant exists for each line that more than one command gives or
//! that code reacts to; the rest is [`CommandError::Other`]. Making one is free of allocation
//! unless it names something of the request.

use crate::durability::NotKept;
use std::borrow::Cow;

use crate::resp::ProtocolError;

/// Why a command was refused: the reply is `-`, this text, and a line break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The arguments do not have the form that the command takes.
    #[error("ERR syntax error")]
    Syntax,
    /// The key holds another type than the command is for.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// An argument or a value is not a 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument or a value is not a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// A count is negative.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A count is outside what the command takes.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A key that has to exist does not.
    #[error("ERR no such key")]
    NoSuchKey,
    /// The list has no element of that rank.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// An offset is negative or too large.
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    /// An integer sum would leave 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A sum would not be a finite number.
    #[error("ERR increment would produce NaN or Infinity")]
    NanOrInfinity,
    /// A score would be infinity minus infinity.
    #[error("ERR resulting score is not a number (NaN)")]
    ScoreIsNan,
    /// `HINCRBY` of a field that is not an integer.
    #[error("ERR hash value is not an integer")]
    HashNotAnInteger,
    /// `HINCRBYFLOAT` of a field that is not a number.
    #[error("ERR hash value is not a float")]
    HashNotAFloat,
    /// An end of a range of scores.
    #[error("ERR min or max is not a float")]
    MinOrMaxNotAFloat,
    /// An end of a range of members.
    #[error("ERR min or max not valid string range item")]
    MinOrMaxNotAString,
    /// The bit offset of `SETBIT` and its kin.
    #[error("ERR bit offset is not an integer or out of range")]
    BitOffset,
    /// The bit of `SETBIT`.
    #[error("ERR bit is not an integer or out of range")]
    BitValue,
    /// A string would become longer than an argument can be.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// A cursor that no scan has given out.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// The timeout of a blocking command is no number of seconds.
    #[error("ERR timeout is not a float or out of range")]
    TimeoutNotAFloat,
    /// The timeout of a command is no whole number.
    #[error("ERR timeout is not an integer or out of range")]
    TimeoutNotAnInteger,
    /// The timeout of a blocking command is negative.
    #[error("ERR timeout is negative")]
    TimeoutNegative,
    /// A database other than 0.
    #[error("ERR DB index is out of range")]
    NoSuchDatabase,
    /// A deadline that no time can be, given to the command of this name.
    #[error("ERR invalid expire time in '{}' command", .0.to_ascii_lowercase())]
    InvalidExpire(&'static str),
    /// Too few or too many arguments for the command of this name (`config|get` if it is one of a
    /// container).
    #[error("ERR wrong number of arguments for '{}' command", .0.to_ascii_lowercase())]
    WrongArity(Cow<'static, str>),
    /// The keys are in several slots, and have to be in one.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    /// Another node has this slot.
    #[error("MOVED {slot} {address}")]
    Moved {
        /// The slot of the keys.
        slot: u16,
        /// `host:port` of the node that has it.
        address: Box<str>,
    },
    /// Nobody serves the slot at present.
    #[error("CLUSTERDOWN Hash slot not served")]
    SlotNotServed,
    /// Our clock is ahead of those of all regions that we hear.
    #[error(
        "CLOCKSKEW the clock of this node is ahead of every other region's: set it right, or run \
         REGION ACCEPT-CLOCK with the name of this region in all of them"
    )]
    ClockSkew,
    /// A key is being taken over from another region.
    #[error("TRYAGAIN this key comes from another region just now: write to it in a moment")]
    TryAgain,
    /// The memory limit is reached.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The node is still reading its data.
    #[error("LOADING Redis is loading the dataset in memory")]
    Loading,
    /// The other regions have forgotten this one.
    #[error("FORGOTTEN this region takes no writes: it {why}")]
    Forgotten {
        /// What has happened, and what to do.
        why: Box<str>,
    },
    /// The other regions do without this one.
    #[error("EXCLUDED this region takes no writes: it {why}")]
    Excluded {
        /// What has happened, and what to do.
        why: Box<str>,
    },
    /// The region is yet to be let in.
    #[error(
        "JOINING this region takes no writes yet: {waits}; write in another region until `meridian \
         admin region list` shows this one as a member"
    )]
    Joining {
        /// What it waits for.
        waits: Box<str>,
    },
    /// The client has to authenticate first.
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    /// `AUTH` did not convince.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPass,
    /// A command of this transaction was refused when it was queued.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAbort,
    /// The target of a copy or restore exists.
    #[error("BUSYKEY Target key name already exists.")]
    BusyKey,
    /// Any other line, its first word included.
    #[error("{0}")]
    Other(Cow<'static, str>),
}

/// Bytes of a name or of arguments that an error quotes at most, as Redis.
const QUOTED_BYTES_MAX: usize = 128;

impl CommandError {
    /// A line that only one command gives; it has to begin with its first word, such as `ERR`.
    pub const fn text(line: &'static str) -> Self {
        Self::Other(Cow::Borrowed(line))
    }

    /// What was written cannot be made as safe as is asked for: it may be lost or not.
    pub fn not_kept(why: &NotKept) -> Self {
        Self::line(format!("MISCONF {why}"))
    }

    /// A line made up from what was asked; it has to begin with its first word, such as `ERR`.
    pub fn line(line: impl Into<Cow<'static, str>>) -> Self {
        Self::Other(line.into())
    }

    /// There is no command `arguments[0]`. Quotes up to 128 bytes of it and of the arguments.
    pub fn unknown_command(arguments: &[&[u8]]) -> Self {
        let name = arguments.first().copied().unwrap_or_default();
        let others = arguments.get(1..).unwrap_or_default();
        let mut quoted = Vec::new();
        for argument in others {
            let Some(room) = QUOTED_BYTES_MAX
                .checked_sub(quoted.len())
                .filter(|&room| 0 < room)
            else {
                break;
            };
            quoted.push(b'\'');
            quoted.extend_from_slice(&argument[..argument.len().min(room)]);
            quoted.extend_from_slice(b"' ");
        }
        let (name, quoted) = (quotable(name), String::from_utf8_lossy(&quoted));
        Self::line(format!(
            "ERR unknown command '{name}', with args beginning with: {quoted}"
        ))
    }

    /// The command `container` has no subcommand `name`.
    pub fn unknown_subcommand(container: &str, name: &[u8]) -> Self {
        let (name, container) = (quotable(name), container.to_ascii_uppercase());
        Self::line(format!(
            "ERR unknown subcommand '{name}'. Try {container} HELP."
        ))
    }
}

fn quotable(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&name[..name.len().min(QUOTED_BYTES_MAX)])
}

impl From<ProtocolError> for CommandError {
    fn from(error: ProtocolError) -> Self {
        Self::line(format!("ERR {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_redis() {
        let cases = [
            (CommandError::Syntax, "ERR syntax error"),
            (
                CommandError::WrongArity("CONFIG|GET".into()),
                "ERR wrong number of arguments for 'config|get' command",
            ),
            (
                CommandError::InvalidExpire("SET"),
                "ERR invalid expire time in 'set' command",
            ),
            (
                CommandError::unknown_subcommand("config", b"bar"),
                "ERR unknown subcommand 'bar'. Try CONFIG HELP.",
            ),
            (
                CommandError::unknown_command(&[b"foo", b"a b", b"c"]),
                "ERR unknown command 'foo', with args beginning with: 'a b' 'c' ",
            ),
            (
                CommandError::Moved {
                    slot: 3999,
                    address: "127.0.0.1:6381".into(),
                },
                "MOVED 3999 127.0.0.1:6381",
            ),
            (
                ProtocolError::ExpectedBulk(b'x').into(),
                "ERR Protocol error: expected '$', got 'x'",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    /// Redis 7.0.15 prints exactly this many, then the closing quote and a space.
    #[test]
    fn an_unknown_command_quotes_128_bytes() {
        let long = [b'x'; 300];
        let text = CommandError::unknown_command(&[b"foo", &long]).to_string();
        assert_eq!(
            text,
            format!(
                "ERR unknown command 'foo', with args beginning with: '{}' ",
                "x".repeat(128)
            )
        );
        let text = CommandError::unknown_command(&[&long, &long, b"b"]).to_string();
        assert!(!text.contains("'b'"));
        assert_eq!(text.matches('x').count(), 256);
        assert!(
            CommandError::unknown_command(&[])
                .to_string()
                .starts_with("ERR unknown")
        );
    }

    /// Handlers return it in every `Result`.
    #[test]
    fn an_error_is_small() {
        assert!(size_of::<CommandError>() <= 32);
    }
}
