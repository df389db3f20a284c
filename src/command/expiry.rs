//! Deadlines of keys: setting, dropping and telling them.

use crdt::Deadline;

use super::keys::row;
use super::number::parse_i64;
use super::string::deadline_of;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const LONGEST: &str = "of concurrent deadlines the longest is kept";

pub(super) const COMMANDS: &[Command] = &[
    row(
        "EXPIRE",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end after so many seconds.",
        LONGEST,
        Run::Shard(expire),
    ),
    row(
        "PEXPIRE",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end after so many milliseconds.",
        LONGEST,
        Run::Shard(pexpire),
    ),
    row(
        "EXPIREAT",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end at a time in seconds.",
        LONGEST,
        Run::Shard(expireat),
    ),
    row(
        "PEXPIREAT",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end at a time in milliseconds.",
        LONGEST,
        Run::Shard(pexpireat),
    ),
    row(
        "PERSIST",
        2,
        Keys::FIRST,
        WRITE,
        "Makes a key stay.",
        LONGEST,
        Run::Shard(persist),
    ),
    row(
        "TTL",
        2,
        Keys::FIRST,
        READ,
        "The seconds until a key ends.",
        "",
        Run::Shard(ttl),
    ),
    row(
        "PTTL",
        2,
        Keys::FIRST,
        READ,
        "The milliseconds until a key ends.",
        "",
        Run::Shard(pttl),
    ),
    row(
        "EXPIRETIME",
        2,
        Keys::FIRST,
        READ,
        "When a key ends, in seconds.",
        "",
        Run::Shard(expiretime),
    ),
    row(
        "PEXPIRETIME",
        2,
        Keys::FIRST,
        READ,
        "When a key ends, in milliseconds.",
        "",
        Run::Shard(pexpiretime),
    ),
];

fn expire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (true, false), "expire")
}

fn pexpire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (false, false), "pexpire")
}

fn expireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (true, true), "expireat")
}

fn pexpireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (false, true), "pexpireat")
}

/// The conditions of `EXPIRE`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the command"
)]
pub(super) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    /// Takes a condition from the arguments, if one is next.
    pub(super) fn take(&mut self, args: &mut Args<'_>) -> bool {
        let tokens: [(&str, &mut bool); 4] = [
            ("NX", &mut self.nx),
            ("XX", &mut self.xx),
            ("GT", &mut self.gt),
            ("LT", &mut self.lt),
        ];
        for (token, set) in tokens {
            if args.token_is(token) {
                *set = true;
                return true;
            }
        }
        false
    }

    /// Refuses conditions that contradict each other.
    pub(super) fn check(self) -> Outcome {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(CommandError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.gt && self.lt {
            return Err(CommandError::text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(())
    }

    /// Whether a deadline may replace the one in force.
    pub(super) const fn allows(self, old: Option<u64>, new: u64) -> bool {
        match old {
            None => !(self.xx || self.gt),
            Some(old) => !(self.nx || (self.gt && new <= old) || (self.lt && old <= new)),
        }
    }
}

fn expire_with(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    how: (bool, bool),
    name: &'static str,
) -> Outcome {
    let (key, amount) = (txn.key(args.next()?), args.next()?);
    let mut condition = Condition::default();
    while !args.is_empty() {
        if !condition.take(args) {
            let option = String::from_utf8_lossy(args.next()?);
            return Err(CommandError::line(format!(
                "ERR Unsupported option {option}"
            )));
        }
    }
    condition.check()?;
    let amount = parse_i64(amount).ok_or(CommandError::NotAnInteger)?;
    let at = deadline_in_past_or(amount, how, txn.now_ms(), name)?;
    let allowed = txn.exists(&key) && condition.allows(txn.deadline(&key), at);
    if allowed {
        if at <= txn.now_ms() {
            txn.remove(&key);
        } else {
            txn.set_deadline(&key, Deadline::At(at));
        }
    }
    reply.int(allowed.into());
    Ok(())
}

/// As `deadline_of`, where a time that is past is allowed and ends the key at once.
pub(super) fn deadline_in_past_or(
    amount: i64,
    (seconds, absolute): (bool, bool),
    now_ms: u64,
    name: &'static str,
) -> Result<u64, CommandError> {
    let invalid = CommandError::InvalidExpire(name);
    let unit = if seconds { 1_000 } else { 1 };
    let base = if absolute { 0 } else { now_ms as i64 };
    let ms = amount
        .checked_mul(unit)
        .and_then(|ms| ms.checked_add(base))
        .ok_or(invalid)?;
    if 0 < ms && 0 < amount {
        return deadline_of(amount, (seconds, absolute), now_ms, name);
    }
    Ok(u64::try_from(ms).unwrap_or(0))
}

fn persist(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let had = txn.deadline(&key).is_some();
    if txn.exists(&key) {
        txn.set_deadline(&key, Deadline::Never);
    }
    reply.int(had.into());
    Ok(())
}

/// When a key ends, if it exists and does.
fn ends(
    txn: &Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Option<u64>, CommandError> {
    let key = txn.key(args.next()?);
    let deadline = txn.deadline(&key);
    if deadline.is_none() {
        reply.int(if txn.exists(&key) { -1 } else { -2 });
    }
    Ok(deadline)
}

fn ttl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(((ms.saturating_sub(txn.now_ms()) + 500) / 1_000) as i64);
    }
    Ok(())
}

fn pttl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(ms.saturating_sub(txn.now_ms()) as i64);
    }
    Ok(())
}

fn expiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(((ms + 500) / 1_000) as i64);
    }
    Ok(())
}

fn pexpiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(ms as i64);
    }
    Ok(())
}
