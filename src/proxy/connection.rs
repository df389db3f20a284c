//! One client's connection.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::ahead::{Ahead, Batch};
use super::blocking::{Blocking, tell_unblocked};
use super::execute::{Step, execute};
use super::output::Patience;
use super::stats::Tally;
use super::stay::Stay;
use super::{Server, Space, buffers};
use crate::clock;
use crate::command::{CommandError, Reply};
use crate::limits;
use crate::resp::{Decoder, ProtocolError, Rules};
use crate::session::{Client, Pending, Replies, Session, Unblock};
use crate::shard::panic_text;

/// Serves a client until it leaves or is sent away.
pub(super) async fn serve(server: Arc<Server>, mut stream: TcpStream, mut session: Session) {
    let client = Arc::clone(&session.client);
    let mut connection = Connection {
        input: Vec::new(),
        output: Vec::new(),
        whole: 0,
        decoder: Decoder::new(),
    };
    {
        let mut run = pin!(connection.run_to_the_end(&server, &mut stream, &mut session));
        poll_fn(|context| {
            client.waker.get_or_init(|| context.waker().clone());
            if client.killed.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            run.as_mut().poll(context).map(|_| ())
        })
        .await;
    }
    crate::command::transaction::unwatch(&server, &mut session);
    server.clients.remove(&client.id);
}

/// What is counted while the requests of one wake-up run.
#[derive(Default)]
struct Turn {
    batch_ms: u64,
    batch_ns: u64,
    /// When the command that runs began.
    started_ns: u64,
    tally: Tally,
}

impl Turn {
    /// A batch begins to run: the one before it may have waited, and so has this one, for its keys.
    fn begin(&mut self, client: &Client) {
        (self.batch_ms, self.batch_ns) = (clock::now_ms(), clock::monotonic_ns());
        self.started_ns = self.batch_ns;
        client.active_ms.store(self.batch_ms, Ordering::Relaxed);
    }
}

/// What a client is told whose command has panicked.
const PANICKED: &str = "ERR internal error: the command panicked, see the log of the node";

struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is replies to commands before the one that runs.
    whole: usize,
    decoder: Decoder,
}

impl Connection {
    /// A panic of a command is an error for its client, whose session may be half changed and ends.
    async fn run_to_the_end(
        &mut self,
        server: &Arc<Server>,
        stream: &mut TcpStream,
        session: &mut Session,
    ) -> io::Result<()> {
        let ended = {
            let mut run = pin!(self.run(server, stream, session));
            // Once a wake-up, not once a command.
            poll_fn(
                |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                },
            )
            .await
        };
        let panic = match ended {
            Ok(ended) => return ended,
            Err(panic) => panic,
        };
        let (client, command) = (session.client.id, session.command);
        let panic = panic_text(&*panic);
        tracing::error!(client, command, panic, "a command panicked");
        self.output.truncate(self.whole);
        let mut reply = Reply::new(&mut self.output, session.protocol);
        reply.error(&CommandError::text(PANICKED));
        self.flush(server, stream, session).await
    }

    async fn run(
        &mut self,
        server: &Arc<Server>,
        stream: &mut TcpStream,
        session: &mut Session,
    ) -> io::Result<()> {
        loop {
            let known = self.input.len(); // Of a request that has not come whole.
            let there = match &mut session.monitor {
                None => read(stream, &mut self.input, self.decoder.wanted()).await?,
                Some(monitor) => self.watch(server, &session.client, stream, monitor).await?,
            };
            if !there {
                return Ok(());
            }
            server.traffic.read(self.input.len() - known);
            self.obey(server, stream, session).await?;
            session.show();
            // Every other connection that is ready runs before any reply is written.
            tokio::task::yield_now().await;
            self.flush(server, stream, session).await?;
            if session.closing {
                return Ok(());
            }
        }
    }

    /// Shows a monitor what others do, until it says something. Returns whether it is still there.
    async fn watch(
        &mut self,
        server: &Server,
        client: &Client,
        stream: &mut TcpStream,
        monitor: &mut mpsc::Receiver<Arc<[u8]>>,
    ) -> io::Result<bool> {
        loop {
            let line = tokio::select! {
                biased;
                there = read(stream, &mut self.input, self.decoder.wanted()) => return there,
                line = monitor.recv() => line,
            };
            // The node cuts off a monitor that does not read.
            let Some(line) = line else { return Ok(false) };
            self.output.extend_from_slice(&line);
            while let Ok(line) = monitor.try_recv() {
                self.output.extend_from_slice(&line);
            }
            self.send(server, stream, client).await?;
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
        let mut turn = Turn::default();
        while !session.closing {
            let mut batch = Batch::take();
            let malformed = self.look_ahead(server, session, &mut input[done..], &mut batch);
            batch.approach(&input[done..], &server.shards).await;
            let mut rest = batch.requests();
            if !rest.is_empty() {
                turn.begin(&session.client);
            }
            while !rest.is_empty() && !session.closing {
                let (count, step) = self.run_some(server, session, &mut turn, rest, &input[done..]);
                rest = &rest[count..];
                self.after(server, stream, session, step).await?;
                if !rest.is_empty() {
                    turn.started_ns = clock::monotonic_ns();
                }
            }
            done += batch.consumed();
            if let Some(error) = malformed.filter(|_| !session.closing) {
                server.note_malformed(&session.client, error);
                if session.replies == Replies::On {
                    let mut reply = Reply::new(&mut self.output, session.protocol);
                    server.errors.tell(&mut reply, &error.into());
                }
                session.closing = true;
            }
            let is_last = batch.is_empty();
            batch.give_back();
            if is_last {
                break;
            }
        }
        turn.tally.add_up(&server.stats);
        input.drain(..done);
        buffers::shrink(&mut input);
        self.input = input;
        Ok(())
    }

    /// Finds the next requests, as far as they are all there. What is none is the last: it is to be
    /// answered after them.
    fn look_ahead(
        &mut self,
        server: &Server,
        session: &Session,
        input: &mut [u8],
        batch: &mut Batch,
    ) -> Option<ProtocolError> {
        let rules = Rules {
            bulk_bytes_max: server.bulk_bytes_max.load(Ordering::Relaxed),
            request_bytes_max: server.request_bytes_max.load(Ordering::Relaxed),
            authenticated: session.authenticated,
        };
        // Who has not authenticated may do so with the next request, and send more after it.
        let most = if session.authenticated {
            limits::REQUESTS_AHEAD
        } else {
            1
        };
        while batch.len() < most {
            let start = batch.consumed();
            match self.decoder.next(&mut input[start..], rules) {
                Ok(Some(request)) => batch.push(request, input, &server.shards),
                Ok(None) => break,
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Runs requests in turn, up to one that leaves something to wait for. Returns how many have
    /// run, and what is to be waited for.
    fn run_some(
        &mut self,
        server: &Arc<Server>,
        session: &mut Session,
        turn: &mut Turn,
        requests: &[Ahead],
        input: &[u8],
    ) -> (usize, Step) {
        let mut stay = Stay::default();
        for (at, ahead) in requests.iter().enumerate() {
            let arguments = ahead.arguments(input);
            if arguments.is_empty() {
                continue;
            }
            let asked = ahead.asked(&arguments);
            // One clock is read a command; the other is told from it.
            let now_ms = turn.batch_ms + (turn.started_ns - turn.batch_ns) / 1_000_000;
            session.is_short = server.room.is_short();
            if session.is_short {
                // No lock is held where keys are evicted.
                stay = Stay::default();
                session.is_short = server.make_room(now_ms) == Space::Full;
            }
            stay.go_to(&server.shards, ahead, requests.get(at + 1), turn.started_ns);
            if self.output.capacity() == 0 {
                self.output = buffers::take();
            }
            self.whole = self.output.len();
            let step = execute(
                server,
                session,
                now_ms,
                asked,
                stay.shard(),
                &mut self.output,
            );
            if let Step::Pause(_) = step {
                return (at, step);
            }
            let now_ns = clock::monotonic_ns();
            let took_ns = now_ns - turn.started_ns;
            server.slow.note(took_ns, &session.client, &arguments);
            turn.tally.count(&server.stats, session.command, took_ns);
            turn.started_ns = now_ns;
            let waits = session.pending.is_some() || !matches!(step, Step::Next);
            if session.replies != Replies::On && !waits {
                self.hush(session);
            }
            let is_full = limits::REPLY_FLUSH_BYTES < self.output.len();
            if session.closing || waits || is_full {
                return (at + 1, step);
            }
        }
        (requests.len(), Step::Next)
    }

    /// Waits for what a command has left to be waited for.
    async fn after(
        &mut self,
        server: &Arc<Server>,
        stream: &mut TcpStream,
        session: &mut Session,
        step: Step,
    ) -> io::Result<()> {
        match step {
            Step::Pause(ms) => {
                self.flush(server, stream, session).await?;
                pause(server, ms).await;
            }
            Step::Block(blocking) => {
                self.flush(server, stream, session).await?;
                self.whole = self.output.len();
                self.block(server, stream, session, *blocking).await?;
                self.hush(session);
            }
            Step::Next => {
                if let Some(pending) = session.pending.take() {
                    self.flush(server, stream, session).await?;
                    self.whole = self.output.len();
                    self.wait(server, stream, session, pending).await?;
                    self.hush(session);
                }
            }
        }
        if limits::REPLY_FLUSH_BYTES < self.output.len() {
            self.flush(server, stream, session).await?;
        }
        Ok(())
    }

    /// Takes back replies that the client does not want.
    fn hush(&mut self, session: &mut Session) {
        let before = self.whole;
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

    /// Writes the replies, once what was written before them is as safe as is asked for. If it
    /// cannot be, that is the reply, and the last one.
    async fn flush(
        &mut self,
        server: &Server,
        stream: &mut TcpStream,
        session: &mut Session,
    ) -> io::Result<()> {
        if std::mem::take(&mut session.unkept)
            && let Some(durability) = server.durability.get()
            && let Err(why) = durability.receipt(&server.shards).await
        {
            self.output.clear();
            Reply::new(&mut self.output, session.protocol).error(&CommandError::not_kept(&why));
            session.closing = true;
        }
        self.send(server, stream, &session.client).await
    }

    /// Writes the replies. Waits for a client that does not read, as long as it may.
    async fn send(
        &mut self,
        server: &Server,
        stream: &mut TcpStream,
        client: &Client,
    ) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = stream.write_all(&self.output);
        let written = match server.output.patience(self.output.len()) {
            Patience::Endless => Some(write.await),
            Patience::Until(time) => tokio::time::timeout(time, write).await.ok(),
            Patience::None => None,
        };
        let Some(written) = written else {
            server.note_unread(client, self.output.len());
            return Err(io::ErrorKind::TimedOut.into());
        };
        written?;
        server.traffic.wrote(self.output.len());
        self.output.clear();
        buffers::give_back(&mut self.output);
        Ok(())
    }

    /// Waits for a reply that depends on other regions, or on time.
    async fn wait(
        &mut self,
        server: &Arc<Server>,
        stream: &TcpStream,
        session: &Session,
        mut pending: Pending,
    ) -> io::Result<()> {
        loop {
            let progress = server.progress.notified();
            let left_ms = pending
                .until_ms
                .map(|ms| ms.saturating_sub(clock::now_ms()));
            let is_over = left_ms == Some(0);
            let mut reply = Reply::new(&mut self.output, session.protocol);
            if (pending.poll)(server, &mut reply, is_over) || is_over {
                return Ok(());
            }
            let next = left_ms.map_or(LOOK_AGAIN, |ms| LOOK_AGAIN.min(Duration::from_millis(ms)));
            tokio::select! {
                () = progress => {}
                () = tokio::time::sleep(next) => {}
                () = gone(stream) => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
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
        let (sender, mut receiver) = oneshot::channel();
        {
            let mut facts = session.client.facts.lock();
            (facts.blocked, facts.unblocked) = (true, None);
        }
        let keys = blocking.keys.clone();
        let mut retry = blocking.retry(session.protocol, sender, server);
        // What came since the command found nothing is not missed: one more try, under the lock
        // under which it begins to wait.
        let begun = server.shards.serve(shard).map(|mut shard| {
            let served = shard.transact(clock::now_ms(), None, |txn| {
                keys.iter().any(|key| retry(txn, key))
            });
            (!served).then(|| shard.wait(keys, retry))
        });
        let id = begun.unwrap_or_default();
        let waiting = id.map(|id| Waiting { server, shard, id });
        let (mut served, mut unblock, mut dismissed) = (None, None, false);
        tokio::select! {
            biased;
            bytes = &mut receiver => {
                served = bytes.ok();
                dismissed = served.is_none();
            }
            () = timer(timeout_s) => {}
            how = unblocked(&session.client) => unblock = Some(how),
            () = gone(stream) => return Err(io::ErrorKind::ConnectionReset.into()),
        }
        // From here on nobody is served on behalf of a client that waits no longer; who was served
        // just before gets it.
        drop(waiting);
        let served = served.or_else(|| receiver.try_recv().ok());
        session.client.facts.lock().blocked = false;
        let mut reply = Reply::new(&mut self.output, session.protocol);
        match (served, unblock) {
            (Some(bytes), _) => {
                session.note(shard, true);
                reply.raw(&bytes);
            }
            (None, _) if dismissed => {
                let refusal = server.shards.serve(shard).err();
                reply.error(&refusal.unwrap_or(CommandError::text(PANICKED)));
            }
            (None, None | Some(Unblock::Timeout)) => reply.null_array(),
            (None, Some(Unblock::Error)) => tell_unblocked(server, session.command, &mut reply),
        }
        Ok(())
    }
}

/// Reads what is there; waits until something is. Returns whether the client is still there.
/// `wanted` are the bytes that `input` has to hold for a whole request. What is waited for is not
/// lost when this is dropped.
async fn read(stream: &TcpStream, input: &mut Vec<u8>, wanted: usize) -> io::Result<bool> {
    loop {
        stream.readable().await?;
        if input.capacity() < limits::READ_BYTES {
            let mut large = buffers::take();
            large.extend_from_slice(input);
            *input = large;
        }
        // No more than doubles: the client may announce what it never sends.
        let wanted = wanted.saturating_sub(input.len());
        input.reserve(wanted.clamp(limits::READ_BYTES, limits::READ_BYTES.max(input.len())));
        let mut taken = None;
        let result = stream.try_io(Interest::READABLE, || {
            let room = input.capacity() - input.len();
            let count = rustix::io::read(stream, rustix::buffer::spare_capacity(input))?;
            taken = Some(count);
            if 0 < count && count < room {
                // All there was: this has tokio wait for more, instead of asking once again.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (taken, result) {
            (Some(count), _) => return Ok(0 < count),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                buffers::give_back(input);
            }
            (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            (None, Err(error)) => return Err(error),
            (None, Ok(())) => {}
        }
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

/// How often a pending reply is tried at least: what it waits for may be nothing but time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A client that is paused, which counts as blocked.
struct Paused<'a>(&'a Server);

impl<'a> Paused<'a> {
    fn new(server: &'a Server) -> Self {
        server.paused_clients.fetch_add(1, Ordering::Relaxed);
        Self(server)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.paused_clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for the end of a pause.
async fn pause(server: &Server, ms: u64) {
    let resumed = server.resumed.notified();
    if !server.is_paused() {
        return; // It has ended since the command was looked at.
    }
    let _paused = Paused::new(server);
    tokio::select! {
        () = resumed => {}
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
    }
}

async fn timer(seconds: f64) {
    if seconds == 0.0 {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn unblocked(client: &Client) -> Unblock {
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
