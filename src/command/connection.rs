//! The connection itself: greeting, authentication, `CLIENT`.

use super::{Args, Command, CommandError, Flags, Outcome, Reply, node_row};
use crate::proxy::Call;
use crate::resp::Protocol;

/// May be sent at any time.
const OPEN: Flags = Flags::FAST.and(Flags::NO_AUTH).and(Flags::LOADING);

pub(super) const COMMANDS: &[Command] = &[
    row("PING", -1, Flags::FAST, "Answers.", ping),
    row(
        "ECHO",
        2,
        Flags::FAST.and(Flags::LOADING),
        "Answers with its argument.",
        echo,
    ),
    row(
        "SELECT",
        2,
        Flags::FAST.and(Flags::LOADING),
        "Picks a database: there is only 0.",
        select,
    ),
    row(
        "QUIT",
        -1,
        OPEN.and(Flags::NO_MULTI),
        "Ends the connection.",
        quit,
    ),
    row("HELLO", -1, OPEN, "Greets, and picks a protocol.", hello),
    row("AUTH", -2, OPEN, "Authenticates.", auth),
    row("RESET", 1, OPEN.and(Flags::NO_MULTI), "Starts over.", reset),
];

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Command {
    Command {
        group: "connection",
        ..node_row(name, arity, flags.and(Flags::LOCKLESS), summary, run)
    }
}

fn ping(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if 1 < args.remaining() {
        return Err(CommandError::WrongArity("ping".into()));
    }
    match args.peek() {
        Some(text) => reply.bulk(text),
        None => reply.simple("PONG"),
    }
    Ok(())
}

fn echo(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(args.next()?);
    Ok(())
}

fn select(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.int()? != 0 {
        return Err(CommandError::NoSuchDatabase);
    }
    reply.ok();
    Ok(())
}

fn quit(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.session.closing = true;
    reply.ok();
    Ok(())
}

fn reset(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    super::transaction::unwatch(call.server, call.session);
    call.session.queue = None;
    call.session.queue_broken = false;
    call.session.protocol = Protocol::Resp2;
    call.session.authenticated = call.server.settings.read().password.is_none();
    call.session.replies = crate::session::Replies::On;
    call.session.monitor = None;
    call.session.client.facts.lock().monitors = false;
    call.session.client.facts.lock().name.clear();
    reply.set_protocol(Protocol::Resp2);
    reply.simple("RESET");
    Ok(())
}

/// Checks a password and, if it is right, opens the session.
fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Outcome {
    let right = match &call.server.settings.read().password {
        Some(wanted) => user == b"default" && same(wanted, password),
        None => user == b"default",
    };
    if !right {
        return Err(CommandError::WrongPass);
    }
    call.session.authenticated = true;
    Ok(())
}

/// Compares in a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && difference == 0
}

fn auth(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.rest() {
        [password] => {
            if call.server.settings.read().password.is_none() {
                return Err(CommandError::text(
                    "ERR AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?",
                ));
            }
            authenticate(call, b"default", password)?;
        }
        [user, password] => authenticate(call, user, password)?,
        _ => return Err(CommandError::Syntax),
    }
    reply.ok();
    Ok(())
}

fn hello(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut protocol = call.session.protocol;
    if !args.is_empty() {
        protocol = match args.int() {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(CommandError::text("NOPROTO unsupported protocol version")),
            Err(_) => {
                return Err(CommandError::text(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut name = None;
    while !args.is_empty() {
        if 3 <= args.remaining() && args.token_is("AUTH") {
            let (user, password) = (args.next()?, args.next()?);
            authenticate(call, user, password)?;
        } else if 2 <= args.remaining() && args.token_is("SETNAME") {
            name = Some(check_name(args.next()?)?);
        } else {
            let option = String::from_utf8_lossy(args.next()?);
            return Err(CommandError::line(format!(
                "ERR Syntax error in HELLO option '{option}'"
            )));
        }
    }
    if !call.session.authenticated {
        return Err(CommandError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.facts.lock().name = name.to_vec();
    }
    call.session.protocol = protocol;
    call.session.client.facts.lock().protocol = protocol.number();
    reply.set_protocol(protocol);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk_text(super::server::REDIS_VERSION);
    reply.bulk(b"proto");
    reply.int(protocol.number());
    reply.bulk(b"id");
    reply.int(call.session.client.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// A name that a client gives itself: printable, without blanks.
pub(super) fn check_name(name: &[u8]) -> Result<&[u8], CommandError> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(name);
    }
    Err(CommandError::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}
