//! Deadlines of keys: setting, dropping and telling them.

use crdt::Deadline;

use super::keys::row;
use super::number::parse_i64;
use super::string::deadline_of;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST).and(Flags::NO_TOUCH);
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

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW_MS, check, check_at, shard};

    #[test]
    fn conditions_compare_with_the_deadline_in_force() {
        check(&[
            ("EXPIRE k 100", ":0"),
            ("SET k v", "OK"),
            ("EXPIRE k 100 XX", ":0"),
            ("EXPIRE k 100 GT", ":0"),
            ("EXPIRE k 100 LT", ":1"),
            ("EXPIRE k 50 NX", ":0"),
            ("EXPIRE k 50 GT", ":0"),
            ("EXPIRE k 100 GT", ":0"),
            ("EXPIRE k 200 LT", ":0"),
            ("EXPIRE k 200 GT XX", ":1"),
            ("EXPIRE k 100 XX LT", ":1"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("EXPIRE k 100 NX", ":1"),
            ("TTL k", ":100"),
            ("PTTL k", ":100000"),
            ("EXPIRETIME k", ":1800000100"),
            ("PEXPIRETIME k", ":1800000100000"),
            ("PEXPIREAT k 1800000000700", ":1"),
            ("TTL k", ":1"),
            ("EXPIREAT k 1 GT", ":0"),
            ("EXPIREAT k 1 LT", ":1"),
            ("EXISTS k", ":0"),
            ("TTL k", ":-2"),
            ("EXPIRETIME k", ":-2"),
        ]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let both = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        let range = "-ERR GT and LT options at the same time are not compatible";
        check(&[
            ("SET k v", "OK"),
            ("EXPIRE k 1 NX GT", both),
            ("EXPIRE k 1 XX NX", both),
            ("EXPIRE k 1 GT LT", range),
            ("EXPIRE k 1 AB", "-ERR Unsupported option AB"),
            ("EXPIRE k x", "-ERR value is not an integer or out of range"),
            (
                "EXPIRE k 9223372036854775807",
                "-ERR invalid expire time in 'expire' command",
            ),
            (
                "GETEX k EX 0",
                "-ERR invalid expire time in 'getex' command",
            ),
            ("TTL k", ":-1"),
        ]);
    }

    #[test]
    fn what_keeps_a_deadline_and_what_does_not() {
        check(&[
            ("SET k 1 EX 100", "OK"),
            ("INCR k", ":2"),
            ("APPEND k 0", ":2"),
            ("SETRANGE k 0 3", ":2"),
            ("SET k 5 KEEPTTL", "OK"),
            ("GETEX k", "5"),
            ("TTL k", ":100"),
            ("RENAME k l", "OK"),
            ("TTL l", ":100"),
            ("COPY l k", ":1"),
            ("TTL k", ":100"),
            ("GETEX k EX 50", "5"),
            ("TTL k", ":50"),
            ("GETEX k PERSIST", "5"),
            ("TTL k", ":-1"),
            ("GETSET l 1", "5"),
            ("TTL l", ":-1"),
            ("EXPIRE l 100", ":1"),
            ("SET l 2", "OK"),
            ("TTL l", ":-1"),
            ("EXPIRE l 100", ":1"),
            ("SET m v", "OK"),
            ("RENAME m l", "OK"),
            ("TTL l", ":-1"),
            ("GETEX l PXAT 1", "v"),
            ("EXISTS l", ":0"),
            ("RPUSH q a", ":1"),
            ("EXPIRE q 100", ":1"),
            ("RPUSH q b", ":2"),
            ("TTL q", ":100"),
            ("LPOP q 2", "[a b]"),
            ("RPUSH q c", ":1"),
            ("TTL q", ":-1"),
            ("HSET h a 1 b 1", ":2"),
            ("HEXPIRE h 100 FIELDS 2 a b", "[:1 :1]"),
            ("HINCRBY h a 1", ":2"),
            ("HINCRBYFLOAT h b 0.5", "1.5"),
            ("HTTL h FIELDS 2 a b", "[:100 :100]"),
            ("RENAME h i", "OK"),
            ("COPY i j", ":1"),
            ("HTTL j FIELDS 2 a b", "[:100 :100]"),
        ]);
    }

    #[test]
    fn nothing_finds_a_key_past_its_deadline() {
        let mut shard = shard();
        let set = [
            ("SET s v PX 10", "OK"),
            ("RPUSH l a", ":1"),
            ("PEXPIRE l 10", ":1"),
            ("HSET h f v", ":1"),
            ("HPEXPIRE h 10 FIELDS 1 f", "[:1]"),
            ("SADD t m", ":1"),
            ("PEXPIRE t 10", ":1"),
        ];
        check_at(&mut shard, NOW_MS, &set);
        check_at(
            &mut shard,
            NOW_MS + 9,
            &[("EXISTS s l h t", ":4"), ("PTTL s", ":1")],
        );
        let gone = [
            ("EXISTS s l h t", ":0"),
            ("TYPE h", "none"),
            ("TTL s", ":-2"),
            ("PERSIST s", ":0"),
            ("EXPIRE s 100", ":0"),
            ("GET s", "nil"),
            ("GETEX s PERSIST", "nil"),
            ("RENAME s x", "-ERR no such key"),
            ("COPY s x", ":0"),
            ("SET s w XX", "nil"),
            ("LPUSHX l b", ":0"),
            ("LLEN l", ":0"),
            ("HGETALL h", "[]"),
            ("HTTL h FIELDS 1 f", "[:-2]"),
            ("HLEN h", ":0"),
            ("SCARD t", ":0"),
            ("DEL s", ":0"),
            // Nothing is in the way of another type, and no deadline is inherited.
            ("SADD l m", ":1"),
            ("TTL l", ":-1"),
            ("INCR t", ":1"),
            ("TTL t", ":-1"),
            ("HSETNX h f w", ":1"),
            ("HTTL h FIELDS 1 f", "[:-1]"),
            ("SET s w NX", "OK"),
            ("TTL s", ":-1"),
        ];
        check_at(&mut shard, NOW_MS + 10, &gone);
    }
}
