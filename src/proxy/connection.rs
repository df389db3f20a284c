//! One client's connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::Server;
use super::execute::{Blocking, Step, execute};
use crate::command::{Args, CommandError, Reply, Run, Wait};
use crate::limits;
use crate::resp::{Decoder, Protocol, Rules};
use crate::session::{Replies, Session, Unblock};

/// Serves a client until it leaves or is sent away.
pub(super) async fn serve(server: Arc<Server>, mut stream: TcpStream, mut session: Session) {
    let client = Arc::clone(&session.client);
    let mut connection = Connection {
        input: Vec::new(),
        output: Vec::new(),
        decoder: Decoder::new(),
    };
    tokio::select! {
        biased;
        () = killed(&client) => {}
        _ = connection.run(&server, &mut stream, &mut session) => {}
    }
    crate::command::transaction::unwatch(&server, &mut session);
    server.clients.remove(&client.id);
}

async fn killed(client: &crate::session::Client) {
    loop {
        let woken = client.wake.notified();
        if client.killed.load(Ordering::Acquire) {
            return;
        }
        woken.await;
    }
}

struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    decoder: Decoder,
}

impl Connection {
    async fn run(
        &mut self,
        server: &Arc<Server>,
        stream: &mut TcpStream,
        session: &mut Session,
    ) -> io::Result<()> {
        loop {
            if !self.read(stream).await? {
                return Ok(());
            }
            session
                .client
                .active_ms
                .store(crate::clock::now_ms(), Ordering::Relaxed);
            self.obey(server, stream, session).await?;
            // Every other connection that is ready runs before any reply is written.
            tokio::task::yield_now().await;
            self.flush(stream).await?;
            if session.closing {
                return Ok(());
            }
        }
    }

    /// Reads what is there; waits until something is. Returns whether the client is still there.
    async fn read(&mut self, stream: &TcpStream) -> io::Result<bool> {
        loop {
            stream.readable().await?;
            let wanted = self.decoder.wanted().saturating_sub(self.input.len());
            // No more than doubles: the client may announce what it never sends.
            let room = wanted.clamp(limits::READ_BYTES, limits::READ_BYTES.max(self.input.len()));
            self.input.reserve(room);
            match stream.try_read_buf(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.input.is_empty() {
                        self.input = Vec::new();
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Executes every complete request.
    async fn obey(
        &mut self,
        server: &Arc<Server>,
        stream: &mut TcpStream,
        session: &mut Session,
    ) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut done = 0;
        while !session.closing {
            let authenticated = session.authenticated;
            let rules = Rules {
                bulk_bytes_max: limits::BULK_BYTES_MAX,
                authenticated,
            };
            let request = match self.decoder.next(&mut input[done..], rules) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => {
                    Reply::new(&mut self.output, session.protocol).error(&error.into());
                    session.closing = true;
                    break;
                }
            };
            if !request.spans.is_empty() {
                let arguments = request.arguments(&input[done..]);
                let before = self.output.len();
                let step = execute(server, session, &arguments, &mut self.output);
                if session.replies != Replies::On {
                    self.hush(session, before);
                }
                if let Step::Block(blocking) = step {
                    drop(arguments);
                    self.flush(stream).await?;
                    self.block(server, stream, session, blocking).await?;
                }
            }
            done += request.consumed;
            if limits::REPLY_FLUSH_BYTES < self.output.len() {
                self.flush(stream).await?;
            }
        }
        input.drain(..done);
        if input.is_empty() && limits::IDLE_BUFFER_BYTES < input.capacity() {
            input = Vec::new();
        }
        self.input = input;
        Ok(())
    }

    /// Takes back replies that the client does not want.
    fn hush(&mut self, session: &mut Session, before: usize) {
        match session.replies {
            Replies::On => {}
            Replies::Off => self.output.truncate(before),
            Replies::SkipNext => {
                self.output.truncate(before);
                session.replies = Replies::Skip;
            }
            Replies::Skip => {
                self.output.truncate(before);
                session.replies = Replies::On;
            }
        }
    }

    async fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        stream.write_all(&self.output).await?;
        self.output.clear();
        if limits::IDLE_BUFFER_BYTES < self.output.capacity() {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Waits until a key gives what the command is for, its time is over, or the client leaves.
    async fn block(
        &mut self,
        server: &Arc<Server>,
        stream: &TcpStream,
        session: &mut Session,
        blocking: Blocking,
    ) -> io::Result<()> {
        let (shard, timeout_s) = (blocking.shard, blocking.timeout_s);
        let (sender, receiver) = oneshot::channel();
        let id = {
            let keys = blocking.keys.clone();
            let retry = retry(blocking, session.protocol, sender, server);
            server.shards.with(shard, |shard| shard.wait(keys, retry))
        };
        // Whatever ends the wait, nobody is served on behalf of a client that waits no longer.
        let _waiting = Waiting { server, shard, id };
        session.client.facts.lock().blocked = true;
        let served = tokio::select! {
            biased;
            served = receiver => served.ok(),
            () = timer(timeout_s) => None,
            unblock = unblocked(&session.client) => {
                let mut reply = Reply::new(&mut self.output, session.protocol);
                match unblock {
                    Unblock::Timeout => reply.null_array(),
                    Unblock::Error => reply.error(&CommandError::text(
                        "UNBLOCKED client unblocked via CLIENT UNBLOCK",
                    )),
                }
                session.client.facts.lock().blocked = false;
                return Ok(());
            }
            () = gone(stream) => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        session.client.facts.lock().blocked = false;
        match served {
            Some(bytes) => {
                session.note_write(shard);
                self.output.extend_from_slice(&bytes);
            }
            None => Reply::new(&mut self.output, session.protocol).null_array(),
        }
        Ok(())
    }
}

/// Ends a wait when it is dropped.
struct Waiting<'a> {
    server: &'a Server,
    shard: usize,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.server
            .shards
            .with(self.shard, |shard| shard.stop_waiting(self.id));
    }
}

/// What the shard does when a key is touched: tries the command, and sends the reply if it is done.
fn retry(
    blocking: Blocking,
    protocol: Protocol,
    sender: oneshot::Sender<Vec<u8>>,
    server: &Arc<Server>,
) -> crate::shard::Retry {
    let mut sender = Some(sender);
    let server = Arc::downgrade(server);
    Box::new(move |txn| {
        if sender.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return true;
        }
        let Run::Wait(handler) = blocking.command.run else {
            return true;
        };
        let arguments: Vec<&[u8]> = blocking.arguments.iter().map(AsRef::as_ref).collect();
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, protocol);
        match handler(txn, &mut Args::new(&arguments), &mut reply) {
            // A key of another type has come: it is not what is waited for.
            Ok(Wait::Block) | Err(CommandError::WrongType) => return false,
            Ok(Wait::Done) => {}
            Err(error) => reply.error(&error),
        }
        if let Some(server) = server.upgrade() {
            server.wrote();
        }
        sender.take().is_none_or(|sender| sender.send(out).is_ok())
    })
}

async fn timer(seconds: f64) {
    if seconds == 0.0 {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn unblocked(client: &crate::session::Client) -> Unblock {
    loop {
        let woken = client.wake.notified();
        if let Some(unblock) = client.facts.lock().unblocked.take() {
            return unblock;
        }
        woken.await;
    }
}

/// Waits until the client has closed its side.
async fn gone(stream: &TcpStream) {
    let mut byte = [0];
    loop {
        match stream.peek(&mut byte).await {
            Ok(0) | Err(_) => return,
            // It has sent more; it is not read before the wait is over.
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
