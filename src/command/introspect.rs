//! `COMMAND`: what the table says. It knows no command by name.

use super::since::since;
use super::subcommand::{Subcommand, dispatch};
use super::syntax::{arguments, syntax};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, glob, table};
use crate::proxy::Call;

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "COMMAND",
    arity: -1,
    keys: Keys::None,
    flags: Flags::CONTAINER.and(Flags::LOCKLESS).and(Flags::LOADING),
    group: "server",
    summary: "Which commands there are.",
    conflict: "",
    run: Run::Node(command),
}];

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    sub(
        "COUNT",
        2,
        "",
        "Returns how many commands there are.",
        count,
    ),
    sub(
        "INFO",
        -2,
        "[command-name [command-name ...]]",
        "Describes commands.",
        info,
    ),
    sub(
        "DOCS",
        -2,
        "[command-name [command-name ...]]",
        "Says what commands do.",
        docs,
    ),
    sub(
        "LIST",
        -2,
        "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        "Returns the names of commands.",
        list,
    ),
    sub(
        "GETKEYS",
        -3,
        "command [arg [arg ...]]",
        "Returns the keys of a command.",
        get_keys,
    ),
    sub(
        "GETKEYSANDFLAGS",
        -3,
        "command [arg [arg ...]]",
        "Returns the keys of a command, and what it does to them.",
        get_keys_and_flags,
    ),
];

const fn sub(
    name: &'static str,
    arity: i32,
    syntax: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Subcommand {
    let flags = Flags::LOADING;
    Subcommand {
        name,
        arity,
        flags,
        syntax,
        summary,
        run,
    }
}

fn command(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.is_empty() {
        return info(call, args, reply);
    }
    dispatch("COMMAND", SUBCOMMANDS, call, args, reply)
}

fn count(_: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(table::COMMANDS.len());
    Ok(())
}

/// A command or a subcommand: what `COMMAND` tells of both.
struct Entry {
    name: String,
    arity: i32,
    flags: Flags,
    keys: Keys,
    group: &'static str,
    summary: &'static str,
    syntax: &'static str,
    subcommands: Vec<Self>,
}

impl Entry {
    fn of(command: &Command) -> Self {
        let subcommands = table::subcommands(command.name);
        Self {
            name: command.name.to_ascii_lowercase(),
            arity: command.arity,
            flags: command.flags,
            keys: command.keys,
            group: command.group,
            summary: command.summary,
            syntax: syntax(command.name),
            subcommands: subcommands
                .iter()
                .map(|sub| Self::of_sub(command, sub))
                .collect(),
        }
    }

    fn of_sub(container: &Command, sub: &Subcommand) -> Self {
        Self {
            name: format!("{}|{}", container.name, sub.name).to_ascii_lowercase(),
            arity: sub.arity,
            flags: sub.flags,
            keys: Keys::None,
            group: container.group,
            summary: sub.summary,
            syntax: sub.syntax,
            subcommands: Vec::new(),
        }
    }

    /// The one of this name: `get`, `config` or `config|get`.
    fn find(name: &[u8]) -> Option<Self> {
        let Some(bar) = name.iter().position(|&b| b == b'|') else {
            return table::find(name).map(Self::of);
        };
        let container = Self::of(table::find(&name[..bar])?);
        let is_it = |sub: &Self| sub.name.as_bytes().eq_ignore_ascii_case(name);
        container.subcommands.into_iter().find(is_it)
    }

    /// Flags, as Redis names them.
    fn flag_names(&self) -> Vec<&'static str> {
        let outside = self.flags.has(Flags::NO_AUTH) || self.group == "transactions";
        let names = [
            (self.flags.has(Flags::WRITE), "write"),
            (self.flags.has(Flags::READ), "readonly"),
            (self.flags.has(Flags::DENY_OOM), "denyoom"),
            (self.flags.has(Flags::ADMIN), "admin"),
            (outside, "noscript"),
            (self.flags.has(Flags::BLOCKING), "blocking"),
            (self.flags.has(Flags::LOADING), "loading"),
            (self.flags.has(Flags::LOADING), "stale"),
            (self.flags.has(Flags::FAST), "fast"),
            (self.flags.has(Flags::NO_AUTH), "no_auth"),
            (outside && self.flags.has(Flags::FAST), "allow_busy"),
            (
                matches!(self.keys, Keys::Counted { .. } | Keys::Sort),
                "movablekeys",
            ),
        ];
        names
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| name)
            .collect()
    }

    /// ACL categories, in the order of Redis.
    fn categories(&self) -> Vec<&'static str> {
        let of_group = match self.group {
            "generic" => "@keyspace",
            "set" => "@set",
            "sorted-set" => "@sortedset",
            "list" => "@list",
            "hash" => "@hash",
            "string" => "@string",
            "bitmap" => "@bitmap",
            "connection" => "@connection",
            "transactions" => "@transaction",
            _ => "",
        };
        let fast = self.flags.has(Flags::FAST);
        let admin = self.flags.has(Flags::ADMIN);
        let categories = [
            (of_group == "@keyspace", "@keyspace"),
            (self.flags.has(Flags::READ), "@read"),
            (self.flags.has(Flags::WRITE), "@write"),
            (
                !matches!(of_group, "" | "@keyspace" | "@connection" | "@transaction"),
                of_group,
            ),
            (admin, "@admin"),
            (fast, "@fast"),
            (!fast, "@slow"),
            (self.flags.has(Flags::BLOCKING), "@blocking"),
            (admin, "@dangerous"),
            (matches!(of_group, "@connection" | "@transaction"), of_group),
        ];
        categories
            .into_iter()
            .filter(|(is_in, _)| *is_in)
            .map(|(_, name)| name)
            .collect()
    }

    /// What is done to keys, as Redis names it.
    const fn access(&self) -> &'static [&'static str] {
        if self.flags.has(Flags::WRITE) {
            &["RW", "access", "update"]
        } else {
            &["RO", "access"]
        }
    }
}

fn info(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.is_empty() {
        reply.array(table::COMMANDS.len());
        table::COMMANDS
            .iter()
            .for_each(|command| describe(&Entry::of(command), reply));
        return Ok(());
    }
    let names = args.rest();
    reply.array(names.len());
    for name in names {
        match Entry::find(name) {
            Some(entry) => describe(&entry, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

fn describe(entry: &Entry, reply: &mut Reply<'_>) {
    let (first, last, step) = match entry.keys {
        Keys::None | Keys::Counted { target: None, .. } => (0, 0, 0),
        Keys::Range { first, last, step } => (first, i64::from(last), step),
        Keys::Counted { .. } | Keys::Sort => (1, 1, 1),
    };
    reply.array(10);
    reply.bulk_text(&entry.name);
    reply.int(entry.arity.into());
    simple_set(&entry.flag_names(), reply);
    reply.count(first);
    reply.int(last);
    reply.count(step);
    simple_set(&entry.categories(), reply);
    reply.array(0);
    key_specs(entry, reply);
    reply.array(entry.subcommands.len());
    entry
        .subcommands
        .iter()
        .for_each(|sub| describe(sub, reply));
}

fn simple_set(words: &[&str], reply: &mut Reply<'_>) {
    reply.set(words.len());
    for word in words {
        reply.simple(word);
    }
}

/// Where the keys are, in the terms of Redis 7.
///
/// Source: <https://redis.io/docs/latest/develop/reference/key-specs/>.
fn key_specs(entry: &Entry, reply: &mut Reply<'_>) {
    let access = entry.access();
    match entry.keys {
        Keys::None => reply.set(0),
        Keys::Range { first, last, step } => {
            reply.set(1);
            let last = if last < 0 {
                i64::from(last)
            } else {
                i64::from(last) - first as i64
            };
            key_spec(access, first, ("range", &range(last, step)), reply);
        }
        Keys::Counted { count, target } => {
            reply.set(1 + usize::from(target.is_some()));
            if let Some(target) = target {
                key_spec(&["OW", "update"], target, ("range", &range(0, 1)), reply);
            }
            let access = if target.is_some() {
                &["RO", "access"][..]
            } else {
                access
            };
            let found = [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)];
            key_spec(access, count, ("keynum", &found), reply);
        }
        Keys::Sort => {
            reply.set(2);
            key_spec(&["RO", "access"], 1, ("range", &range(0, 1)), reply);
            reply.map(3);
            reply.bulk(b"flags");
            simple_set(&["OW", "update"], reply);
            for name in ["begin_search", "find_keys"] {
                reply.bulk_text(name);
                typed("unknown", &[], reply);
            }
        }
    }
}

const fn range(last: i64, step: usize) -> [(&'static str, i64); 3] {
    [("lastkey", last), ("keystep", step as i64), ("limit", 0)]
}

fn key_spec(
    access: &[&str],
    first: usize,
    (kind, found): (&str, &[(&str, i64)]),
    reply: &mut Reply<'_>,
) {
    reply.map(3);
    reply.bulk(b"flags");
    simple_set(access, reply);
    reply.bulk(b"begin_search");
    typed("index", &[("index", first as i64)], reply);
    reply.bulk(b"find_keys");
    typed(kind, found, reply);
}

fn typed(kind: &str, numbers: &[(&str, i64)], reply: &mut Reply<'_>) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk_text(kind);
    reply.bulk(b"spec");
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk_text(name);
        reply.int(*number);
    }
}

fn docs(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let entries: Vec<Entry> = if args.is_empty() {
        table::COMMANDS
            .iter()
            .map(|command| Entry::of(command))
            .collect()
    } else {
        args.rest()
            .iter()
            .filter_map(|name| Entry::find(name))
            .collect()
    };
    reply.map(entries.len());
    for entry in &entries {
        document(entry, reply);
    }
    Ok(())
}

fn document(entry: &Entry, reply: &mut Reply<'_>) {
    reply.bulk_text(&entry.name);
    let since = since(&entry.name);
    let arguments = arguments(entry.syntax);
    let optional = [
        since.is_some(),
        !arguments.is_empty(),
        !entry.subcommands.is_empty(),
    ];
    reply.map(2 + optional.into_iter().filter(|is_there| *is_there).count());
    reply.bulk(b"summary");
    reply.bulk_text(entry.summary);
    if let Some(version) = since {
        reply.bulk(b"since");
        reply.bulk_text(version);
    }
    reply.bulk(b"group");
    reply.bulk_text(entry.group);
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        reply.array(arguments.len());
        for argument in arguments {
            self::argument(argument, reply);
        }
    }
    if !entry.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        entry
            .subcommands
            .iter()
            .for_each(|sub| document(sub, reply));
    }
}

/// One argument: a group in brackets is one, whose name is what it consists of.
fn argument(text: &str, reply: &mut Reply<'_>) {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let (name, is_optional) = (inner.unwrap_or(text), inner.is_some());
    let is_token = name.bytes().all(|b| b.is_ascii_uppercase());
    reply.map(2 + usize::from(is_optional) + usize::from(is_token));
    reply.bulk(b"name");
    reply.bulk_text(name);
    reply.bulk(b"type");
    reply.bulk_text(if is_token { "pure-token" } else { "string" });
    if is_token {
        reply.bulk(b"token");
        reply.bulk_text(name);
    }
    if is_optional {
        reply.bulk(b"flags");
        simple_set(&["optional"], reply);
    }
}

fn list(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut entries: Vec<Entry> = table::COMMANDS
        .iter()
        .map(|command| Entry::of(command))
        .collect();
    if !args.is_empty() {
        if !args.token_is("FILTERBY") || args.remaining() != 2 {
            return Err(CommandError::Syntax);
        }
        if args.token_is("MODULE") {
            entries.clear();
        } else if args.token_is("ACLCAT") {
            let category = args.next()?;
            let is_it = |c: &&str| c.as_bytes()[1..].eq_ignore_ascii_case(category);
            entries.retain(|entry| entry.categories().iter().any(&is_it));
        } else if args.token_is("PATTERN") {
            let pattern = args.next()?.to_ascii_lowercase();
            entries.retain(|entry| glob::matches(&pattern, entry.name.as_bytes()));
        } else {
            return Err(CommandError::Syntax);
        }
    }
    reply.array(entries.len());
    for entry in &entries {
        reply.bulk_text(&entry.name);
    }
    Ok(())
}

/// The command that follows, and the places of its keys among its arguments.
fn keys_of<'a>(args: &mut Args<'a>) -> Result<(Entry, Vec<&'a [u8]>), CommandError> {
    let arguments = args.rest();
    let command = arguments.first().and_then(|name| table::find(name));
    let command = command.ok_or(CommandError::text("ERR Invalid command specified"))?;
    if matches!(command.keys, Keys::None) {
        return Err(CommandError::text("ERR The command has no key arguments"));
    }
    if !command.takes(arguments.len()) {
        return Err(CommandError::text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut keys = Vec::new();
    command
        .keys
        .places(arguments, |place| keys.push(arguments[place]));
    let counted = match command.keys {
        Keys::Counted { count, target } => crdt::parse_integer(arguments[count])
            .is_some_and(|n| 0 < n && usize::from(target.is_some()) + n as usize == keys.len()),
        Keys::None | Keys::Range { .. } | Keys::Sort => true,
    };
    if keys.is_empty() || !counted {
        return Err(CommandError::text(
            "ERR Invalid arguments specified for command",
        ));
    }
    Ok((Entry::of(command), keys))
}

fn get_keys(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (_, keys) = keys_of(args)?;
    reply.array(keys.len());
    for key in keys {
        reply.bulk(key);
    }
    Ok(())
}

fn get_keys_and_flags(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (entry, keys) = keys_of(args)?;
    reply.array(keys.len());
    for key in keys {
        reply.array(2);
        reply.bulk(key);
        simple_set(entry.access(), reply);
    }
    Ok(())
}
