//! What follows the name of a command, for `COMMAND DOCS` and the hints of `redis-cli`.
//!
//! Source: the arguments in `COMMAND DOCS` of Redis 7.0; for later ones
//! <https://redis.io/docs/latest/commands/>.

/// Commands that take arguments and have no subcommands, in Redis's notation.
const SYNTAX: &[(&str, &str)] = &[
    ("APPEND", "key value"),
    ("AUTH", "[username] password"),
    ("BGSAVE", "[SCHEDULE]"),
    ("BITCOUNT", "key [start end [BYTE | BIT]]"),
    (
        "BITFIELD",
        "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]]",
    ),
    (
        "BITFIELD_RO",
        "key [GET encoding offset [GET encoding offset ...]]",
    ),
    ("BITOP", "operation destkey key [key ...]"),
    ("BITPOS", "key bit [start [end [BYTE | BIT]]]"),
    (
        "BLMOVE",
        "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
    ),
    (
        "BLMPOP",
        "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    ),
    ("BLPOP", "key [key ...] timeout"),
    ("BRPOP", "key [key ...] timeout"),
    ("BRPOPLPUSH", "source destination timeout"),
    (
        "BZMPOP",
        "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
    ),
    ("BZPOPMAX", "key [key ...] timeout"),
    ("BZPOPMIN", "key [key ...] timeout"),
    ("COPY", "source destination [DB destination-db] [REPLACE]"),
    ("DECR", "key"),
    ("DECRBY", "key decrement"),
    ("DEL", "key [key ...]"),
    ("DUMP", "key"),
    ("ECHO", "message"),
    ("EXISTS", "key [key ...]"),
    ("EXPIRE", "key seconds [NX | XX | GT | LT]"),
    ("EXPIREAT", "key unix-time-seconds [NX | XX | GT | LT]"),
    ("EXPIRETIME", "key"),
    ("FLUSHALL", "[ASYNC | SYNC]"),
    ("FLUSHDB", "[ASYNC | SYNC]"),
    ("GET", "key"),
    ("GETBIT", "key offset"),
    ("GETDEL", "key"),
    (
        "GETEX",
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
    ),
    ("GETRANGE", "key start end"),
    ("GETSET", "key value"),
    ("HDEL", "key field [field ...]"),
    (
        "HELLO",
        "[protover [AUTH username password] [SETNAME clientname]]",
    ),
    ("HEXISTS", "key field"),
    (
        "HEXPIRE",
        "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    ),
    (
        "HEXPIREAT",
        "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    ),
    ("HEXPIRETIME", "key FIELDS numfields field [field ...]"),
    ("HGET", "key field"),
    ("HGETALL", "key"),
    ("HINCRBY", "key field increment"),
    ("HINCRBYFLOAT", "key field increment"),
    ("HKEYS", "key"),
    ("HLEN", "key"),
    ("HMGET", "key field [field ...]"),
    ("HMSET", "key field value [field value ...]"),
    ("HPERSIST", "key FIELDS numfields field [field ...]"),
    (
        "HPEXPIRE",
        "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    ),
    (
        "HPEXPIREAT",
        "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    ),
    ("HPEXPIRETIME", "key FIELDS numfields field [field ...]"),
    ("HPTTL", "key FIELDS numfields field [field ...]"),
    ("HRANDFIELD", "key [count [WITHVALUES]]"),
    ("HSCAN", "key cursor [MATCH pattern] [COUNT count]"),
    ("HSET", "key field value [field value ...]"),
    ("HSETNX", "key field value"),
    ("HSTRLEN", "key field"),
    ("HTTL", "key FIELDS numfields field [field ...]"),
    ("HVALS", "key"),
    ("INCR", "key"),
    ("INCRBY", "key increment"),
    ("INCRBYFLOAT", "key increment"),
    ("INFO", "[section [section ...]]"),
    ("KEYS", "pattern"),
    (
        "LCS",
        "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    ),
    ("LINDEX", "key index"),
    ("LINSERT", "key <BEFORE | AFTER> pivot element"),
    ("LLEN", "key"),
    ("LMOVE", "source destination <LEFT | RIGHT> <LEFT | RIGHT>"),
    (
        "LMPOP",
        "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    ),
    ("LOLWUT", "[VERSION version]"),
    ("LPOP", "key [count]"),
    (
        "LPOS",
        "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    ),
    ("LPUSH", "key element [element ...]"),
    ("LPUSHX", "key element [element ...]"),
    ("LRANGE", "key start stop"),
    ("LREM", "key count element"),
    ("LSET", "key index element"),
    ("LTRIM", "key start stop"),
    ("MGET", "key [key ...]"),
    ("MSET", "key value [key value ...]"),
    ("MSETNX", "key value [key value ...]"),
    (
        "OBJECT",
        "<ENCODING | FREQ | HELP | IDLETIME | REFCOUNT> [key]",
    ),
    ("PERSIST", "key"),
    ("PEXPIRE", "key milliseconds [NX | XX | GT | LT]"),
    (
        "PEXPIREAT",
        "key unix-time-milliseconds [NX | XX | GT | LT]",
    ),
    ("PEXPIRETIME", "key"),
    ("PING", "[message]"),
    ("PSETEX", "key milliseconds value"),
    ("PTTL", "key"),
    ("RENAME", "key newkey"),
    ("RENAMENX", "key newkey"),
    (
        "RESTORE",
        "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    ),
    ("RPOP", "key [count]"),
    ("RPOPLPUSH", "source destination"),
    ("RPUSH", "key element [element ...]"),
    ("RPUSHX", "key element [element ...]"),
    ("SADD", "key member [member ...]"),
    ("SCAN", "cursor [MATCH pattern] [COUNT count] [TYPE type]"),
    ("SCARD", "key"),
    ("SDIFF", "key [key ...]"),
    ("SDIFFSTORE", "destination key [key ...]"),
    ("SELECT", "index"),
    (
        "SET",
        "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    ),
    ("SETBIT", "key offset value"),
    ("SETEX", "key seconds value"),
    ("SETNX", "key value"),
    ("SETRANGE", "key offset value"),
    ("SHUTDOWN", "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"),
    ("SINTER", "key [key ...]"),
    ("SINTERCARD", "numkeys key [key ...] [LIMIT limit]"),
    ("SINTERSTORE", "destination key [key ...]"),
    ("SISMEMBER", "key member"),
    ("SMEMBERS", "key"),
    ("SMISMEMBER", "key member [member ...]"),
    ("SMOVE", "source destination member"),
    (
        "SORT",
        "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
    ),
    (
        "SORT_RO",
        "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
    ),
    ("SPOP", "key [count]"),
    ("SRANDMEMBER", "key [count]"),
    ("SREM", "key member [member ...]"),
    ("SSCAN", "key cursor [MATCH pattern] [COUNT count]"),
    ("STRLEN", "key"),
    ("SUBSTR", "key start end"),
    ("SUNION", "key [key ...]"),
    ("SUNIONSTORE", "destination key [key ...]"),
    ("TOUCH", "key [key ...]"),
    ("TTL", "key"),
    ("TYPE", "key"),
    ("UNLINK", "key [key ...]"),
    ("WAIT", "numreplicas timeout"),
    ("WAITAOF", "numlocal numreplicas timeout"),
    ("WATCH", "key [key ...]"),
    (
        "ZADD",
        "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
    ),
    ("ZCARD", "key"),
    ("ZCOUNT", "key min max"),
    ("ZDIFF", "numkeys key [key ...] [WITHSCORES]"),
    ("ZDIFFSTORE", "destination numkeys key [key ...]"),
    ("ZINCRBY", "key increment member"),
    (
        "ZINTER",
        "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    ),
    ("ZINTERCARD", "numkeys key [key ...] [LIMIT limit]"),
    (
        "ZINTERSTORE",
        "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    ),
    ("ZLEXCOUNT", "key min max"),
    ("ZMPOP", "numkeys key [key ...] <MIN | MAX> [COUNT count]"),
    ("ZMSCORE", "key member [member ...]"),
    ("ZPOPMAX", "key [count]"),
    ("ZPOPMIN", "key [count]"),
    ("ZRANDMEMBER", "key [count [WITHSCORES]]"),
    (
        "ZRANGE",
        "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    ),
    ("ZRANGEBYLEX", "key min max [LIMIT offset count]"),
    (
        "ZRANGEBYSCORE",
        "key min max [WITHSCORES] [LIMIT offset count]",
    ),
    (
        "ZRANGESTORE",
        "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    ),
    ("ZRANK", "key member [WITHSCORE]"),
    ("ZREM", "key member [member ...]"),
    ("ZREMRANGEBYLEX", "key min max"),
    ("ZREMRANGEBYRANK", "key start stop"),
    ("ZREMRANGEBYSCORE", "key min max"),
    ("ZREVRANGE", "key start stop [WITHSCORES]"),
    ("ZREVRANGEBYLEX", "key max min [LIMIT offset count]"),
    (
        "ZREVRANGEBYSCORE",
        "key max min [WITHSCORES] [LIMIT offset count]",
    ),
    ("ZREVRANK", "key member [WITHSCORE]"),
    ("ZSCAN", "key cursor [MATCH pattern] [COUNT count]"),
    ("ZSCORE", "key member"),
    (
        "ZUNION",
        "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    ),
    (
        "ZUNIONSTORE",
        "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    ),
];

/// What follows a command's name; nothing where nothing does, or subcommands. Costs O(commands).
pub(super) fn syntax(name: &str) -> &'static str {
    let is_it = |(known, _): &&(&str, &str)| known.eq_ignore_ascii_case(name);
    SYNTAX.iter().find(is_it).map_or("", |(_, syntax)| syntax)
}

/// The arguments of a syntax: words, and groups in brackets as a whole.
pub(super) fn arguments(syntax: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in syntax.bytes().enumerate() {
        match byte {
            b'[' | b'<' => depth += 1,
            b']' | b'>' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 => {
                found.push(&syntax[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&syntax[start..]);
    found.retain(|argument| !argument.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{COMMANDS, Flags};

    #[test]
    fn groups_in_brackets_are_one_argument() {
        let split = arguments("key <A | B> [x [y ...] | z] n");
        assert_eq!(split, ["key", "<A | B>", "[x [y ...] | z]", "n"]);
        assert!(arguments("").is_empty());
    }

    #[test]
    fn what_must_be_there_is_what_the_arity_says() {
        let plain = COMMANDS.iter();
        for command in plain.filter(|command| !command.flags.has(Flags::CONTAINER)) {
            let all = arguments(syntax(command.name));
            let is_optional = |argument: &&&str| argument.starts_with('[');
            let optional = all.iter().filter(is_optional).count();
            let needed = 1 + all.len() - optional;
            assert_eq!(
                needed,
                command.arity.unsigned_abs() as usize,
                "{}",
                command.name
            );
            assert!(optional == 0 || command.arity < 0, "{}", command.name);
        }
    }
}
