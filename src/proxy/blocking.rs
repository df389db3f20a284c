//! Commands that wait for a key, and what is tried when one is touched.
//!
//! As in Redis a command is served by the key that was touched, whatever is at the others: with
//! `BLPOP a b` a push to `b` is taken, though something of another type is at `a` by now.

use std::sync::Arc;

use crdt::Kind;
use tokio::sync::oneshot;

use super::Server;
use crate::command::{Args, Command, CommandError, Keys, Reply, Run, Wait};
use crate::resp::Protocol;
use crate::shard::{Retry, Txn};

/// Tells a client that another has ended its waiting, as an error of its command.
pub(super) fn tell_unblocked(server: &Server, command: &str, reply: &mut Reply<'_>) {
    const UNBLOCKED: CommandError =
        CommandError::text("UNBLOCKED client unblocked via CLIENT UNBLOCK");
    server.stats.note_error(command, true);
    server.errors.tell(reply, &UNBLOCKED);
}

/// A command that waits.
#[derive(Debug)]
pub(super) struct Blocking {
    command: &'static Command,
    /// Its arguments, owned.
    arguments: Vec<Box<[u8]>>,
    /// The shard of its keys.
    pub(super) shard: usize,
    /// The keys that it waits for.
    pub(super) keys: Vec<Box<[u8]>>,
    /// Seconds, 0 for ever.
    pub(super) timeout_s: f64,
}

impl Blocking {
    pub(super) fn new(
        command: &'static Command,
        arguments: &[&[u8]],
        shard: usize,
        timeout_s: f64,
    ) -> Self {
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        command
            .keys
            .places(arguments, |place| keys.push(arguments[place].into()));
        if command.keys == Keys::TWO {
            // The other one is where an element is moved to.
            keys.truncate(1);
        }
        Self {
            command,
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
            shard,
            keys,
            timeout_s,
        }
    }

    /// The same command about one of its keys only.
    fn about<'a>(&'a self, key: &'a [u8]) -> Vec<&'a [u8]> {
        let all = || self.arguments.iter().map(AsRef::as_ref);
        match self.command.keys {
            Keys::TWO => all().collect(),
            Keys::Counted { count, .. } => {
                let head = all().take(count);
                let tail = all().skip(count + 1 + self.keys.len());
                head.chain([&b"1"[..], key]).chain(tail).collect()
            }
            Keys::None | Keys::Range { .. } | Keys::Sort => {
                let tail = all().skip(1 + self.keys.len());
                all().take(1).chain([key]).chain(tail).collect()
            }
        }
    }

    /// Tries it with the key that was touched. Returns whether there is a reply.
    fn attempt(&self, txn: &mut Txn<'_>, key: &[u8], reply: &mut Reply<'_>) -> bool {
        let Run::Wait(handler) = self.command.run else {
            return true;
        };
        let arguments = self.about(key);
        match handler(txn, &mut Args::new(&arguments), reply) {
            Ok(Wait::Done) => true,
            Ok(Wait::Block) => false,
            // It may be where an element is to be moved to that is of another type; else it is not
            // what is waited for.
            Err(CommandError::WrongType) if txn.kind(&txn.key(key)) != Some(Kind::List) => false,
            Err(error) => {
                reply.error(&error);
                true
            }
        }
    }

    /// What the shard does when a key is touched: tries the command, and sends the reply if it is
    /// done.
    pub(super) fn retry(
        self,
        protocol: Protocol,
        sender: oneshot::Sender<Vec<u8>>,
        server: &Arc<Server>,
    ) -> Retry {
        let mut sender = Some(sender);
        let server = Arc::downgrade(server);
        Box::new(move |txn, key| {
            if sender.as_ref().is_none_or(oneshot::Sender::is_closed) {
                return true;
            }
            let mut out = Vec::new();
            if !self.attempt(txn, key, &mut Reply::new(&mut out, protocol)) {
                return false;
            }
            if let Some(server) = server.upgrade() {
                server.wrote();
            }
            sender.take().is_none_or(|sender| sender.send(out).is_ok())
        })
    }
}
