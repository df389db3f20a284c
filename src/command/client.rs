//! `CLIENT`: who is connected, and what they want of their connections.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connection::check_name;
use super::subcommand::{Subcommand, dispatch};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::proxy::Call;
use crate::session::{Client, Replies, Unblock};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "CLIENT",
    arity: -2,
    keys: Keys::None,
    flags: Flags::CONTAINER.and(Flags::LOCKLESS),
    group: "connection",
    summary: "Clients: who they are, and what they want.",
    conflict: "",
    run: Run::Node(client),
}];

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    sub("ID", 2, "", "Returns this connection's id.", id),
    sub("INFO", 2, "", "Describes this connection.", info),
    sub(
        "LIST",
        -2,
        "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
        "Describes connections.",
        list,
    ),
    sub(
        "GETNAME",
        2,
        "",
        "Returns this connection's name.",
        get_name,
    ),
    sub(
        "SETNAME",
        3,
        "connection-name",
        "Names this connection.",
        set_name,
    ),
    sub(
        "SETINFO",
        4,
        "<LIB-NAME libname | LIB-VER libver>",
        "Says which library this client uses.",
        set_info,
    ),
    sub(
        "KILL",
        -3,
        "<ip:port | [ID client-id] [TYPE type] [USER username] [ADDR ip:port] [LADDR ip:port] \
         [SKIPME <YES | NO>] [MAXAGE seconds]>",
        "Ends connections.",
        kill,
    ),
    sub(
        "PAUSE",
        -3,
        "timeout [WRITE | ALL]",
        "Lets clients wait for so many milliseconds.",
        pause,
    ),
    sub("UNPAUSE", 2, "", "Ends a pause.", unpause),
    sub(
        "UNBLOCK",
        -3,
        "client-id [TIMEOUT | ERROR]",
        "Ends the waiting of a blocked client.",
        unblock,
    ),
    sub(
        "REPLY",
        3,
        "<ON | OFF | SKIP>",
        "Says which replies are wanted.",
        replies,
    ),
    sub(
        "NO-EVICT",
        3,
        "<ON | OFF>",
        "Protects this connection from eviction.",
        no_evict,
    ),
    sub(
        "NO-TOUCH",
        3,
        "<ON | OFF>",
        "Keeps reads from making keys look used.",
        no_touch,
    ),
];

const fn sub(
    name: &'static str,
    arity: i32,
    syntax: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Subcommand {
    let flags = match name.as_bytes() {
        b"KILL" | b"LIST" | b"NO-EVICT" | b"PAUSE" | b"UNBLOCK" | b"UNPAUSE" => Flags::ADMIN,
        _ => Flags::NONE,
    };
    let flags = flags.and(Flags::LOADING);
    Subcommand {
        name,
        arity,
        flags,
        syntax,
        summary,
        run,
    }
}

fn client(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("CLIENT", SUBCOMMANDS, call, args, reply)
}

fn id(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.int(call.session.client.id as i64);
    Ok(())
}

fn info(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.session.client.facts.lock().command = "CLIENT|INFO";
    let mut text = String::new();
    describe(&call.session.client, call.now_ms, &mut text);
    reply.verbatim(&text);
    Ok(())
}

fn list(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.session.client.facts.lock().command = "CLIENT|LIST";
    let (mut ids, mut any_type) = (None, true);
    while !args.is_empty() {
        if args.token_is("TYPE") {
            any_type = is_normal(args.next()?)?;
        } else if args.token_is("ID") && !args.is_empty() {
            ids = Some(
                args.rest()
                    .iter()
                    .map(|text| client_id(text))
                    .collect::<Result<Vec<_>, _>>()?,
            );
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let wanted =
        |client: &Client| any_type && ids.as_ref().is_none_or(|ids| ids.contains(&client.id));
    let mut text = String::new();
    for client in sorted(call).iter().filter(|client| wanted(client)) {
        describe(client, call.now_ms, &mut text);
    }
    reply.verbatim(&text);
    Ok(())
}

/// Whether clients of this type are what every client here is; an error for an unknown type.
fn is_normal(kind: &[u8]) -> Result<bool, CommandError> {
    let known = ["normal", "master", "slave", "replica", "pubsub"];
    let found = known
        .iter()
        .position(|name| kind.eq_ignore_ascii_case(name.as_bytes()));
    let unknown = || {
        let kind = String::from_utf8_lossy(kind);
        CommandError::line(format!("ERR Unknown client type '{kind}'"))
    };
    found.map(|at| at == 0).ok_or_else(unknown)
}

fn client_id(text: &[u8]) -> Result<u64, CommandError> {
    let id = crdt::parse_integer(text).and_then(|id| u64::try_from(id).ok());
    id.filter(|&id| 0 < id)
        .ok_or(CommandError::text("ERR Invalid client ID"))
}

/// All clients, the oldest first.
fn sorted(call: &Call<'_>) -> Vec<Arc<Client>> {
    let clients = call.server.clients.iter();
    let mut clients: Vec<Arc<Client>> = clients.map(|entry| Arc::clone(entry.value())).collect();
    clients.sort_by_key(|client| client.id);
    clients
}

/// One line, as `CLIENT LIST` has it.
fn describe(client: &Client, now_ms: u64, text: &mut String) {
    let facts = client.facts.lock();
    let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
    let mut flags = String::new();
    for (is_set, letter) in [
        (facts.monitors, 'O'),
        (facts.blocked, 'b'),
        (0 <= facts.queued, 'x'),
        (facts.no_evict, 'e'),
        (facts.no_touch, 'T'),
    ] {
        if is_set {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let lossy = String::from_utf8_lossy;
    let _ = writeln!(
        text,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 \
         ssub=0 multi={} watch={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
         oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} \
         lib-ver={}",
        client.id,
        client.address,
        client.local,
        lossy(&facts.name),
        seconds(client.since_ms),
        seconds(client.active_ms.load(Ordering::Relaxed)),
        facts.queued,
        facts.watched,
        facts.command.to_ascii_lowercase(),
        facts.protocol,
        lossy(&facts.library),
        lossy(&facts.library_version),
    );
}

fn get_name(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let facts = call.session.client.facts.lock();
    reply.bulk_or_null(Some(facts.name.as_slice()).filter(|name| !name.is_empty()));
    Ok(())
}

fn set_name(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = check_name(args.next()?)?;
    call.session.client.facts.lock().name = name.to_vec();
    reply.ok();
    Ok(())
}

fn set_info(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (attribute, value) = (args.next()?, args.next()?);
    let lower = String::from_utf8_lossy(attribute).to_ascii_lowercase();
    let mut facts = call.session.client.facts.lock();
    let slot = match lower.as_str() {
        "lib-name" => &mut facts.library,
        "lib-ver" => &mut facts.library_version,
        _ => {
            let attribute = String::from_utf8_lossy(attribute);
            return Err(CommandError::line(format!(
                "ERR Unrecognized option '{attribute}'"
            )));
        }
    };
    if check_name(value).is_err() {
        return Err(CommandError::line(format!(
            "ERR {lower} cannot contain spaces, newlines or special characters."
        )));
    }
    *slot = value.to_vec();
    reply.ok();
    Ok(())
}

/// Which connections `CLIENT KILL` ends.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    older_than_ms: Option<u64>,
    /// Whether no client can be meant: another type or user than any has.
    nobody: bool,
    spare_self: bool,
}

impl<'a> Filter<'a> {
    fn read(args: &mut Args<'a>) -> Result<Self, CommandError> {
        let mut filter = Self {
            spare_self: true,
            ..Self::default()
        };
        while !args.is_empty() {
            if args.remaining() < 2 {
                return Err(CommandError::Syntax);
            }
            if args.token_is("ID") {
                filter.id =
                    Some(client_id(args.next()?).map_err(|_| {
                        CommandError::text("ERR client-id should be greater than 0")
                    })?);
            } else if args.token_is("TYPE") {
                filter.nobody |= !is_normal(args.next()?)?;
            } else if args.token_is("USER") {
                let user = args.next()?;
                if user != b"default" {
                    let user = String::from_utf8_lossy(user);
                    return Err(CommandError::line(format!("ERR No such user '{user}'")));
                }
            } else if args.token_is("ADDR") {
                filter.address = Some(args.next()?);
            } else if args.token_is("LADDR") {
                filter.local = Some(args.next()?);
            } else if args.token_is("MAXAGE") {
                filter.older_than_ms = Some(args.count()? as u64 * 1000);
            } else if args.token_is("SKIPME") {
                filter.spare_self = yes_or_no(args, "YES", "NO")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(filter)
    }

    fn means(&self, client: &Client, now_ms: u64) -> bool {
        let is = |wanted: Option<&[u8]>, is: &str| wanted.is_none_or(|w| w == is.as_bytes());
        let age_ms = now_ms.saturating_sub(client.since_ms);
        !self.nobody
            && self.id.is_none_or(|id| id == client.id)
            && is(self.address, &client.address)
            && is(self.local, &client.local)
            && self.older_than_ms.is_none_or(|ms| ms <= age_ms)
    }
}

fn kill(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let old_form = args.remaining() == 1;
    let filter = if old_form {
        let address = Some(args.next()?);
        Filter {
            address,
            ..Filter::default()
        }
    } else {
        Filter::read(args)?
    };
    let mut killed = 0;
    for client in sorted(call) {
        let is_self = client.id == call.session.client.id;
        if (is_self && filter.spare_self) || !filter.means(&client, call.now_ms) {
            continue;
        }
        killed += 1;
        if is_self {
            call.session.closing = true;
        } else {
            client.kill();
        }
    }
    match (old_form, killed) {
        (true, 0) => return Err(CommandError::text("ERR No such client")),
        (true, _) => reply.ok(),
        (false, _) => reply.int(killed),
    }
    Ok(())
}

fn pause(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let ms = crdt::parse_integer(args.next()?).ok_or(CommandError::TimeoutNotAnInteger)?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::TimeoutNegative)?;
    let writes_only = if args.is_empty() || args.token_is("ALL") {
        false
    } else if args.token_is("WRITE") {
        true
    } else {
        return Err(CommandError::text(
            "ERR CLIENT PAUSE mode must be WRITE or ALL",
        ));
    };
    args.done()?;
    call.server
        .pause(call.now_ms.saturating_add(ms), writes_only);
    reply.ok();
    Ok(())
}

fn unpause(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.server.pause(0, false);
    reply.ok();
    Ok(())
}

fn unblock(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let id = args.int()?;
    let how = match args.is_empty() || args.token_is("TIMEOUT") {
        true => Unblock::Timeout,
        false if args.token_is("ERROR") => Unblock::Error,
        false => {
            return Err(CommandError::text(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
    };
    args.done()?;
    let client = u64::try_from(id)
        .ok()
        .and_then(|id| call.server.clients.get(&id));
    let blocked = client.is_some_and(|client| client.unblock(how));
    reply.int(blocked.into());
    Ok(())
}

fn replies(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.token_is("ON") {
        call.session.replies = Replies::On;
        reply.ok();
    } else if args.token_is("OFF") {
        call.session.replies = Replies::Off;
    } else if args.token_is("SKIP") {
        // Off stays off; a skip that is skipped counts from here.
        if call.session.replies != Replies::Off {
            call.session.replies = Replies::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

fn no_evict(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.session.client.facts.lock().no_evict = yes_or_no(args, "ON", "OFF")?;
    reply.ok();
    Ok(())
}

fn no_touch(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.session.no_touch = yes_or_no(args, "ON", "OFF")?;
    call.session.client.facts.lock().no_touch = call.session.no_touch;
    reply.ok();
    Ok(())
}

fn yes_or_no(args: &mut Args<'_>, yes: &str, no: &str) -> Result<bool, CommandError> {
    if args.token_is(yes) {
        Ok(true)
    } else if args.token_is(no) {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}
