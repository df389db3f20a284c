//! In which version of Redis a command first was, for `COMMAND DOCS`.
//!
//! Source: `COMMAND DOCS` of Redis 7.0; for later ones <https://redis.io/docs/latest/commands/>.

/// Versions, and the commands and subcommands that came with them.
const VERSIONS: &[(&str, &[&str])] = &[
    (
        "1.0.0",
        &[
            "AUTH",
            "BGREWRITEAOF",
            "BGSAVE",
            "DBSIZE",
            "DEBUG",
            "DEBUG|PANIC",
            "DEBUG|SLEEP",
            "DECR",
            "DECRBY",
            "DEL",
            "ECHO",
            "EXISTS",
            "EXPIRE",
            "FLUSHALL",
            "FLUSHDB",
            "GET",
            "GETSET",
            "INCR",
            "INCRBY",
            "INFO",
            "KEYS",
            "LASTSAVE",
            "LINDEX",
            "LLEN",
            "LPOP",
            "LPUSH",
            "LRANGE",
            "LREM",
            "LSET",
            "LTRIM",
            "MGET",
            "MONITOR",
            "PING",
            "QUIT",
            "RANDOMKEY",
            "RENAME",
            "RENAMENX",
            "RPOP",
            "RPUSH",
            "SADD",
            "SAVE",
            "SCARD",
            "SDIFF",
            "SDIFFSTORE",
            "SELECT",
            "SET",
            "SETNX",
            "SHUTDOWN",
            "SINTER",
            "SINTERSTORE",
            "SISMEMBER",
            "SMEMBERS",
            "SMOVE",
            "SORT",
            "SPOP",
            "SRANDMEMBER",
            "SREM",
            "SUBSTR",
            "SUNION",
            "SUNIONSTORE",
            "TTL",
            "TYPE",
        ],
    ),
    ("1.0.1", &["MSET", "MSETNX"]),
    ("1.0.5", &["ZRANGEBYSCORE"]),
    (
        "1.2.0",
        &[
            "EXEC",
            "EXPIREAT",
            "MULTI",
            "RPOPLPUSH",
            "ZADD",
            "ZCARD",
            "ZINCRBY",
            "ZRANGE",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZREVRANGE",
            "ZSCORE",
        ],
    ),
    (
        "2.0.0",
        &[
            "APPEND",
            "BLPOP",
            "BRPOP",
            "CONFIG",
            "CONFIG|GET",
            "CONFIG|RESETSTAT",
            "CONFIG|SET",
            "DISCARD",
            "HDEL",
            "HEXISTS",
            "HGET",
            "HGETALL",
            "HINCRBY",
            "HKEYS",
            "HLEN",
            "HMGET",
            "HMSET",
            "HSET",
            "HSETNX",
            "HVALS",
            "SETEX",
            "ZCOUNT",
            "ZINTERSTORE",
            "ZRANK",
            "ZREMRANGEBYRANK",
            "ZREVRANK",
            "ZUNIONSTORE",
        ],
    ),
    (
        "2.2.0",
        &[
            "BRPOPLPUSH",
            "GETBIT",
            "LINSERT",
            "LPUSHX",
            "PERSIST",
            "RPUSHX",
            "SETBIT",
            "SETRANGE",
            "STRLEN",
            "UNWATCH",
            "WATCH",
            "ZREVRANGEBYSCORE",
        ],
    ),
    ("2.2.3", &["OBJECT"]),
    (
        "2.2.12",
        &["SLOWLOG", "SLOWLOG|GET", "SLOWLOG|LEN", "SLOWLOG|RESET"],
    ),
    (
        "2.4.0",
        &["CLIENT", "CLIENT|KILL", "CLIENT|LIST", "GETRANGE"],
    ),
    (
        "2.6.0",
        &[
            "BITCOUNT",
            "BITOP",
            "DUMP",
            "HINCRBYFLOAT",
            "INCRBYFLOAT",
            "PEXPIRE",
            "PEXPIREAT",
            "PSETEX",
            "PTTL",
            "RESTORE",
            "TIME",
        ],
    ),
    ("2.6.9", &["CLIENT|GETNAME", "CLIENT|SETNAME"]),
    ("2.8.0", &["HSCAN", "SCAN", "SSCAN", "ZSCAN"]),
    ("2.8.7", &["BITPOS"]),
    (
        "2.8.9",
        &[
            "ZLEXCOUNT",
            "ZRANGEBYLEX",
            "ZREMRANGEBYLEX",
            "ZREVRANGEBYLEX",
        ],
    ),
    (
        "2.8.13",
        &[
            "COMMAND",
            "COMMAND|COUNT",
            "COMMAND|GETKEYS",
            "COMMAND|INFO",
            "LATENCY",
            "LATENCY|DOCTOR",
            "LATENCY|HISTORY",
            "LATENCY|LATEST",
            "LATENCY|RESET",
        ],
    ),
    ("2.9.50", &["CLIENT|PAUSE"]),
    ("3.0.0", &["WAIT"]),
    ("3.2.0", &["BITFIELD", "CLIENT|REPLY", "HSTRLEN"]),
    ("3.2.1", &["TOUCH"]),
    (
        "4.0.0",
        &[
            "MEMORY",
            "MEMORY|DOCTOR",
            "MEMORY|MALLOC-STATS",
            "MEMORY|PURGE",
            "MEMORY|STATS",
            "MEMORY|USAGE",
            "UNLINK",
        ],
    ),
    (
        "5.0.0",
        &[
            "BZPOPMAX",
            "BZPOPMIN",
            "CLIENT|ID",
            "CLIENT|UNBLOCK",
            "LOLWUT",
            "ZPOPMAX",
            "ZPOPMIN",
        ],
    ),
    ("6.0.0", &["BITFIELD_RO", "HELLO"]),
    ("6.0.6", &["LPOS"]),
    (
        "6.2.0",
        &[
            "BLMOVE",
            "CLIENT|INFO",
            "CLIENT|UNPAUSE",
            "COPY",
            "GETDEL",
            "GETEX",
            "HRANDFIELD",
            "LMOVE",
            "RESET",
            "SMISMEMBER",
            "ZDIFF",
            "ZDIFFSTORE",
            "ZINTER",
            "ZMSCORE",
            "ZRANDMEMBER",
            "ZRANGESTORE",
            "ZUNION",
        ],
    ),
    (
        "7.0.0",
        &[
            "BLMPOP",
            "BZMPOP",
            "CLIENT|NO-EVICT",
            "COMMAND|DOCS",
            "COMMAND|GETKEYSANDFLAGS",
            "COMMAND|LIST",
            "EXPIRETIME",
            "LATENCY|HISTOGRAM",
            "LCS",
            "LMPOP",
            "PEXPIRETIME",
            "SINTERCARD",
            "SORT_RO",
            "ZINTERCARD",
            "ZMPOP",
        ],
    ),
    ("7.2.0", &["CLIENT|NO-TOUCH", "CLIENT|SETINFO", "WAITAOF"]),
    (
        "7.4.0",
        &[
            "HEXPIRE",
            "HEXPIREAT",
            "HEXPIRETIME",
            "HPERSIST",
            "HPEXPIRE",
            "HPEXPIREAT",
            "HPEXPIRETIME",
            "HPTTL",
            "HTTL",
        ],
    ),
];

/// Since when there is a command, `GET`, or a subcommand, `CONFIG|GET`, in upper or lower case;
/// `None` if it is none of Redis. Costs O(commands).
pub(super) fn since(name: &str) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let found = VERSIONS.iter().find(|(_, names)| has(names));
    found.map(|(version, _)| *version)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::command::{COMMANDS, table};

    #[test]
    fn every_command_of_redis_has_a_version_and_nothing_else_has() {
        let mut ours = BTreeSet::new();
        for command in COMMANDS.iter().filter(|command| command.group != "region") {
            let subcommands = table::subcommands(command.name).iter();
            ours.extend(subcommands.map(|sub| format!("{}|{}", command.name, sub.name)));
            ours.insert(command.name.to_owned());
        }
        let listed = VERSIONS.iter().flat_map(|(_, names)| *names);
        let listed: BTreeSet<String> = listed.map(|name| (*name).to_owned()).collect();
        assert_eq!(ours, listed);
        assert_eq!(since("get"), Some("1.0.0"));
        assert_eq!(since("client|setinfo"), Some("7.2.0"));
        assert_eq!(since("region"), None);
    }
}
