//! When a reply may leave: what a write has put into the log is as safe by then as
//! `appendfsync` asks.
//!
//! A connection that has written asks for that before it writes its replies
//! ([`Durability::receipt`]), and so do all others that are ready with it: one write, and under
//! `always` one sync, serves all that wait. `everysec` writes in the connection's own thread and
//! leaves the sync to ours, within a second; `no` leaves it to the system, but for a sync now and
//! then, without which nothing would ever count as kept.
//!
//! A write that fails is tried again every second, and until it succeeds clients' writes are
//! refused; what was written before is synced meanwhile as ever. A sync that fails is not tried
//! again: what it was about may be lost though a second one succeeds, so this node takes no writes
//! until it is started again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crdt::{Time, Version};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::clock::Moment;
use crate::oplog::Entry;
use crate::oplog::journal::Journal;
use crate::oplog::record::Stretch;
use crate::shard::Shard;
use crate::shards::Shards;

/// Between two syncs under `everysec`, and between two tries to write.
const EVERY: Duration = Duration::from_secs(1);
/// Between two syncs under `no`.
const SELDOM_NS: u64 = 30_000_000_000;
/// How far ahead of now the mark of the clock is set: past the next sync, and not so far that other
/// regions would hold back for long what a life writes that follows a crash at once.
const MARK_AHEAD_MS: u64 = 1_500;
/// How far the mark is set ahead of the last stamp where that is ahead of now, as it is after a
/// crash: such stamps do not follow the clock but count up, 65,536 a millisecond. Little, for what
/// a life does not use of it the next begins with: the clock would run away from a node that
/// crashes again and again.
const MARK_BEYOND_MS: u64 = 50;

/// The mark of the clock for what follows `now_ms`, if the last stamp so far was `latest`.
pub fn mark_after(now_ms: u64, latest: Time) -> Time {
    Time::from_ms((now_ms + MARK_AHEAD_MS).max(latest.ms() + MARK_BEYOND_MS))
}

/// How safe a write is before its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fsync {
    /// Synced.
    Always,
    /// Handed to the system; synced within a second.
    EverySecond,
    /// Handed to the system.
    No,
}

impl Fsync {
    /// By the name that `appendfsync` has for it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Always, Self::EverySecond, Self::No]
            .into_iter()
            .find(|fsync| fsync.name() == text)
    }

    /// The name that `appendfsync` has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Always,
            1 => Self::EverySecond,
            _ => Self::No,
        }
    }
}

/// The log cannot be written, so a write is not what its reply would say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub Arc<str>);

/// What is wrong with the disk.
#[derive(Clone, Debug)]
struct Trouble {
    why: Arc<str>,
    /// Whether it lasts until the node is started again.
    lasts: bool,
}

/// The journal, and what goes with it under one lock.
#[derive(Debug)]
struct Writing {
    journal: Journal,
    /// Shards of which something was written and is not synced.
    unsynced: Vec<bool>,
    /// The latest time in what was written.
    latest: Time,
    last_sync_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Durability {
    writing: Mutex<Writing>,
    /// Held by whoever syncs: one at a time, in order.
    syncing: Mutex<()>,
    fsync: AtomicU8,
    /// Receipts asked for, up to which of them somebody waits for a sync, and up to which all is
    /// written, and synced.
    asked: AtomicU64,
    wanted: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// The synced mark, and the latest time in what was written.
    mark_ms: AtomicU64,
    latest_ms: AtomicU64,
    is_in_trouble: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// Bytes that wait in memory because they could not be written.
    unwritten: AtomicU64,
    /// Wakes who waits for a sync.
    settled: Notify,
    /// What the thread is to do.
    errand: Mutex<Errand>,
    wake: Condvar,
}

/// What was written and is to be synced.
#[derive(Debug)]
pub struct Passing {
    sync: crate::oplog::journal::Sync,
    /// Of each shard that has changed, the ops that are kept then.
    kept: Vec<(usize, Version)>,
    /// The last receipt that was asked for before it was gathered.
    asked: u64,
}

/// What the thread that syncs is to do.
#[derive(Clone, Copy, Debug, Default)]
struct Errand {
    at_once: bool,
    stop: bool,
}

impl Durability {
    /// Durability by a journal that begins now. No stamp of an earlier life is later than `latest`.
    pub fn new(journal: Journal, latest: Time, shards: usize, fsync: Fsync, now: Moment) -> Self {
        Self {
            mark_ms: AtomicU64::new(journal.synced_mark().ms()),
            latest_ms: AtomicU64::new(latest.ms()),
            writing: Mutex::new(Writing {
                journal,
                unsynced: vec![false; shards],
                latest,
                last_sync_ns: now.monotonic_ns,
            }),
            syncing: Mutex::new(()),
            fsync: AtomicU8::new(fsync as u8),
            asked: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            is_in_trouble: AtomicBool::new(false),
            trouble: Mutex::new(None),
            unwritten: AtomicU64::new(0),
            settled: Notify::new(),
            errand: Mutex::new(Errand::default()),
            wake: Condvar::new(),
        }
    }

    /// Whether all is on the disk that this region had acknowledged before this life.
    pub fn is_filled(&self) -> bool {
        self.journal().is_filled()
    }

    /// Notes that it is, for the lives to come: before anybody is served who could write.
    pub fn fill(&self, shards: &Shards, now: Moment) -> Result<(), NotKept> {
        // A batch says it before what it brings, which may be torn off: first that is synced.
        self.sync_now(shards, now)?;
        self.journal().fill();
        self.sync_now(shards, now)
    }

    /// How safe a write is before its reply.
    pub fn fsync(&self) -> Fsync {
        Fsync::of(self.fsync.load(Ordering::Relaxed))
    }

    /// Sets how safe a write is before its reply, from the next one on.
    pub fn set_fsync(&self, fsync: Fsync) {
        self.fsync.store(fsync as u8, Ordering::Relaxed);
    }

    /// Why writes are refused, if they are. Costs a load while all is well.
    pub fn refusal(&self) -> Option<NotKept> {
        if !self.is_in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let trouble = self.trouble.lock();
        trouble
            .as_ref()
            .map(|trouble| NotKept(Arc::clone(&trouble.why)))
    }

    /// Bytes that wait in memory, beside the logs of the shards, because they could not be written.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Waits until all that has been written to the shards so far is as safe as is asked for.
    pub async fn receipt(&self, shards: &Shards) -> Result<(), NotKept> {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        if self.fsync() != Fsync::Always {
            self.write(shards, number)?;
            let latest_ms = self.latest_ms.load(Ordering::Acquire);
            let mark_ms = self.mark_ms.load(Ordering::Acquire);
            if self.fsync() == Fsync::No || latest_ms < mark_ms {
                return Ok(());
            }
            // A write that follows a crash might get an earlier stamp: first the mark is raised.
        }
        self.wait_for(number).await
    }

    /// Something was applied that came from elsewhere: under `always` it is synced soon, for
    /// somebody may wait until it is kept here.
    pub fn nudge(&self) {
        if self.fsync() == Fsync::Always {
            self.want_sync();
        }
    }

    /// Has all that was written so far be synced soon, whatever `appendfsync` says. Returns a
    /// number for [`Self::is_synced`].
    pub fn want_sync(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.want(number);
        number
    }

    /// Whether what was written before [`Self::want_sync`] gave this number is synced.
    pub fn is_synced(&self, number: u64) -> bool {
        number <= self.synced.load(Ordering::Acquire)
    }

    fn want(&self, number: u64) {
        self.wanted.fetch_max(number, Ordering::AcqRel);
        self.rouse(|errand| errand.at_once = true);
    }

    async fn wait_for(&self, number: u64) -> Result<(), NotKept> {
        self.want(number);
        loop {
            let settled = self.settled.notified();
            if number <= self.synced.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            settled.await;
        }
    }

    fn rouse(&self, change: impl FnOnce(&mut Errand)) {
        change(&mut self.errand.lock());
        self.wake.notify_one();
    }

    /// Writes what has gathered in the shards, unless somebody has since `number` was asked for.
    fn write(&self, shards: &Shards, number: u64) -> Result<(), NotKept> {
        if number <= self.written.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut writing = self.writing.lock();
        if number <= self.written.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let asked = self.asked.load(Ordering::Acquire);
        for index in 0..shards.count() {
            if shards.take_dirty(index) {
                writing.gather(shards, index, |_| ());
            }
        }
        self.put(&mut writing, shards)?;
        self.latest_ms.store(writing.latest.ms(), Ordering::Release);
        self.written.fetch_max(asked, Ordering::AcqRel);
        Ok(())
    }

    fn put(&self, writing: &mut Writing, shards: &Shards) -> Result<(), NotKept> {
        match writing.journal.write() {
            Ok(None) => Ok(()),
            Ok(Some(stretches)) => {
                begin_segment(shards, stretches);
                Ok(())
            }
            Err(error) => Err(self.cannot_write(&writing.journal, &error)),
        }
    }

    fn cannot_write(&self, journal: &Journal, error: &io::Error) -> NotKept {
        let waiting = journal.waiting() as u64;
        self.unwritten.store(waiting, Ordering::Relaxed);
        self.fail("Errors writing to the op log", error, false)
    }

    fn fail(&self, what: &str, error: &io::Error, lasts: bool) -> NotKept {
        let mut trouble = self.trouble.lock();
        let why: Arc<str> = format!("{what}: {error}").into();
        let is_news = trouble.as_ref().is_none_or(|known| known.why != why);
        let lasts = lasts || trouble.as_ref().is_some_and(|known| known.lasts);
        if is_news {
            tracing::error!(%why, lasts, "writes are refused");
        }
        let refusal = NotKept(Arc::clone(&why));
        *trouble = Some(Trouble { why, lasts });
        self.is_in_trouble.store(true, Ordering::Relaxed);
        drop(trouble);
        self.settled.notify_waiters();
        refusal
    }

    /// Ends this life: who still writes gets no reply that says so.
    fn end(&self) {
        let _writing = self.writing.lock();
        *self.trouble.lock() = Some(Trouble {
            why: "the node has stopped".into(),
            lasts: true,
        });
        self.is_in_trouble.store(true, Ordering::Relaxed);
        self.settled.notify_waiters();
    }

    /// Whether nothing will ever be written again in this life.
    fn is_over(&self) -> bool {
        let trouble = self.trouble.lock();
        trouble.as_ref().is_some_and(|trouble| trouble.lasts)
    }

    fn recover(&self) {
        let mut trouble = self.trouble.lock();
        if trouble.take_if(|trouble| !trouble.lasts).is_some() {
            tracing::info!("the op log can be written again: writes are taken");
            self.unwritten.store(0, Ordering::Relaxed);
            self.is_in_trouble.store(false, Ordering::Relaxed);
        }
    }

    /// Starts the thread that syncs.
    pub fn start(self: &Arc<Self>, shards: Arc<Shards>) -> io::Result<Syncing> {
        let durability = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("op-log".to_owned())
            .spawn(move || durability.run(&shards))?;
        Ok(Syncing {
            durability: Arc::clone(self),
            thread: Some(thread),
        })
    }

    fn run(&self, shards: &Shards) {
        loop {
            let errand = self.wait();
            self.pass(shards, Moment::now(), errand.stop);
            if errand.stop {
                return;
            }
        }
    }

    /// Waits until there is something to do, or it is time.
    fn wait(&self) -> Errand {
        let mut errand = self.errand.lock();
        if !errand.at_once && !errand.stop {
            self.wake.wait_for(&mut errand, EVERY);
        }
        let taken = *errand;
        errand.at_once = false;
        taken
    }

    /// Waits until all that has been written so far is synced: for who may wait.
    pub fn sync_now(&self, shards: &Shards, now: Moment) -> Result<(), NotKept> {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wanted.fetch_max(number, Ordering::AcqRel);
        self.pass(shards, now, false);
        self.refusal().map_or(Ok(()), Err)
    }

    /// Begins a segment, for a snapshot that it goes on from. Returns its number.
    pub fn roll(&self, shards: &Shards) -> io::Result<u64> {
        let mut writing = self.writing.lock();
        if let Some(why) = self.refusal().filter(|_| self.is_over()) {
            return Err(io::Error::other(why));
        }
        for index in 0..shards.count() {
            writing.gather(shards, index, |_| ());
        }
        if 0 < writing.journal.waiting() {
            writing.journal.write_batch()?;
        }
        let stretches = writing.journal.roll()?;
        begin_segment(shards, stretches);
        Ok(writing.journal.number())
    }

    /// Removes segments that a snapshot has made superfluous for a start, as far as every region
    /// has all that is in them, and beyond that while they take more than `budget` bytes.
    pub fn cut(&self, shards: &Shards, budget: u64) -> io::Result<()> {
        loop {
            let mut writing = self.writing.lock();
            let Some(behind) = writing.journal.behind_oldest() else {
                return Ok(());
            };
            let is_needed = (0..)
                .zip(behind)
                .any(|(index, stretch)| shards.with(index, |shard| !shard.all_have(&stretch.ends)));
            if is_needed && writing.journal.bytes() <= budget {
                return Ok(());
            }
            writing.journal.cut_oldest()?;
            for index in 0..shards.count() {
                shards.with(index, Shard::cut_segment);
            }
        }
    }

    /// Writes what has gathered, and syncs it if it is time. What the thread that syncs does, at
    /// least once a second, and one last time at the end of a life.
    fn pass(&self, shards: &Shards, now: Moment, is_last: bool) {
        let _syncing = self.syncing.lock();
        if let Some(passing) = self.begin_pass(shards, now, is_last) {
            self.end_pass(shards, passing);
        }
    }

    /// The first half of a pass: writes what has gathered. Returns what is to be synced, if it is
    /// time. By itself it is for who has no thread that does it, and never two at once.
    pub fn begin_pass(&self, shards: &Shards, now: Moment, is_last: bool) -> Option<Passing> {
        if self.is_over() {
            return None;
        }
        let mut writing = self.writing.lock();
        let asked = self.asked.load(Ordering::Acquire);
        let kept = writing.gather_all(shards);
        let is_wanted = self.synced.load(Ordering::Acquire) < self.wanted.load(Ordering::Acquire);
        let is_idle = kept.is_empty() && writing.journal.waiting() == 0 && !is_wanted;
        if is_idle && !is_last {
            return None;
        }
        let written = writing.write_marked(self, shards, now.wall_ms, is_last);
        if written.is_ok() {
            self.latest_ms.store(writing.latest.ms(), Ordering::Release);
            self.written.fetch_max(asked, Ordering::AcqRel);
            self.recover();
        } else if writing.journal.is_synced() {
            return None;
        }
        let is_seldom =
            self.fsync() == Fsync::No && now.monotonic_ns < writing.last_sync_ns + SELDOM_NS;
        if is_seldom && !is_wanted && !is_last {
            return None;
        }
        writing.last_sync_ns = now.monotonic_ns;
        let sync = writing.journal.sync();
        if written.is_err() {
            // What has gathered is more than is safe then: it is told of once it is written.
            let (kept, asked) = (Vec::new(), self.written.load(Ordering::Acquire));
            return Some(Passing { sync, kept, asked });
        }
        writing.unsynced.fill(false);
        Some(Passing { sync, kept, asked })
    }

    /// The second half: syncs, and says so.
    pub fn end_pass(&self, shards: &Shards, passing: Passing) {
        let Passing { sync, kept, asked } = passing;
        if let Err(error) = sync.run() {
            self.fail("Errors syncing the op log", &error, true);
            return;
        }
        let mark = self.note(&sync);
        self.mark_ms.store(mark.ms(), Ordering::Release);
        for (index, version) in kept {
            shards.with(index, |shard| shard.kept(version));
        }
        self.synced.fetch_max(asked, Ordering::AcqRel);
        self.settled.notify_waiters();
    }

    fn note(&self, sync: &crate::oplog::journal::Sync) -> Time {
        let mut writing = self.writing.lock();
        writing.journal.synced(sync);
        writing.journal.synced_mark()
    }

    /// The journal, for who reads it.
    pub fn journal(&self) -> impl std::ops::DerefMut<Target = Journal> + '_ {
        parking_lot::MutexGuard::map(self.writing.lock(), |writing| &mut writing.journal)
    }
}

/// Tells the shards that a segment begins here.
fn begin_segment(shards: &Shards, stretches: Vec<Stretch>) {
    for (index, stretch) in stretches.into_iter().enumerate() {
        shards.with(index, |shard| shard.begin_segment(stretch));
    }
}

impl Writing {
    /// Takes what has gathered in a shard into the batch. Returns what it holds then.
    fn gather<R>(
        &mut self,
        shards: &Shards,
        index: usize,
        look: impl FnOnce(&mut Shard) -> R,
    ) -> R {
        self.unsynced[index] = true;
        shards.with(index, |shard| {
            shard.gather(|entry| {
                if let Entry::Frame(frame) = entry {
                    self.latest = self.latest.max(frame.last());
                }
                self.journal.push(index as u16, entry);
            });
            look(shard)
        })
    }

    /// Takes what has gathered in all shards into the batch. Returns, of each that has changed
    /// since it was synced, the ops that are safe when the batch is.
    fn gather_all(&mut self, shards: &Shards) -> Vec<(usize, Version)> {
        let mut kept = Vec::new();
        for index in 0..shards.count() {
            if shards.take_dirty(index) || self.unsynced[index] {
                let version = self.gather(shards, index, |shard| shard.delivery().applied_ops());
                kept.push((index, version));
            }
        }
        kept
    }

    /// Writes the batch with a mark ahead of now, or, at the end of a life, with what was used.
    fn write_marked(
        &mut self,
        durability: &Durability,
        shards: &Shards,
        now_ms: u64,
        is_last: bool,
    ) -> Result<(), NotKept> {
        self.journal.set_mark(if is_last {
            self.latest
        } else {
            mark_after(now_ms, self.latest)
        });
        if let Err(error) = self.journal.write_batch() {
            return Err(durability.cannot_write(&self.journal, &error));
        }
        durability.put(self, shards)
    }
}

/// The thread that syncs. When this is dropped, everything is written and synced, and it ends;
/// nothing is kept after that, so nothing is acknowledged.
#[derive(Debug)]
pub struct Syncing {
    durability: Arc<Durability>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.durability.rouse(|errand| errand.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the op log has panicked");
        }
        self.durability.end();
    }
}
