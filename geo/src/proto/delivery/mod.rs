//! Of one shard: what has been applied, what waits, and what every region has acknowledged.
//!
//! Frames and heartbeats of other regions go in through [`Delivery::offer`] and
//! [`Delivery::heard`]; [`Delivery::next_ready`] hands out what may be applied: an origin's ops in
//! order, each once, without a gap, after its deps (docs/semantics.md, "Delivery"). What waits is
//! bounded, and a frame that finds no room, or whose time is too far ahead of the clock, is not
//! taken: its sender keeps it.
//!
//! A heartbeat counts once all ops that it names are applied, so it never jumps a gap. Until it
//! does it waits, and so does the latest one after it.
//!
//! What is applied counts as kept, unless [`Delivery::kept`] says what is.

mod catch_up;
mod ended;
mod exclusion;
mod late;
mod word;

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Frame, Origin, Region, Time, Version};

use super::closing::Closing;
use super::inbox::{Inbox, is_ready};
use super::message::Heartbeat;
pub use word::Lack;

/// What a delivery is set up with.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Who issues ops here.
    pub own: Origin,
    /// All regions of the database, ours included.
    pub members: BTreeSet<Region>,
    /// Bytes of one origin's frames that may wait.
    pub inbox_bytes_max: usize,
    /// How far ahead of our clock, in milliseconds, a time may be.
    pub max_clock_drift_ms: u64,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Offer {
    /// Taken, and [`Delivery::next_ready`] returns it.
    Ready,
    /// Taken: it waits for the ops that it depends on.
    Waiting,
    /// Dropped: all of it is held.
    Duplicate,
    /// Dropped: ops before it are missing. Ask again from what has been applied.
    Gap,
    /// Not taken: it is too far ahead of our clock. Offer it again later.
    Ahead,
    /// Not taken: too much waits. Offer it again later.
    Full,
    /// Dropped: this shard takes nothing any more. It is not acknowledged, so its sender keeps it.
    OutOfService,
    /// Kept apart: its origin is closed, and these ops were not known then ([`Delivery::late`]).
    Late(Frame),
    /// Not taken, and never will be.
    Refused(Refusal),
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its origin has ended: it is taken from other regions than its own alone.
    Ended,
    /// It pretends to be ours, but we have not issued it.
    Ours,
    /// Its region is no member.
    Stranger,
}

/// Origins of a region that ended and are not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The region.
    pub region: Region,
    /// Those of epochs below this.
    pub below: Epoch,
    /// Whether all regions have said what they hold of them. Then the region itself may be
    /// believed up to that.
    pub is_final: bool,
}

/// What an origin has said of itself.
#[derive(Debug, Default)]
struct Heard {
    /// The latest heartbeat whose ops we have all applied.
    taken: Option<Heartbeat>,
    /// One that names ops that we lack, and when it came in milliseconds of our clock. It is not
    /// replaced by a later one, or under steady writes none would ever be taken.
    waiting: Option<(Heartbeat, u64)>,
    /// The latest one after that.
    next: Option<(Heartbeat, u64)>,
}

impl Heard {
    fn latest(&self) -> Option<&Heartbeat> {
        let waiting = self.next.as_ref().or(self.waiting.as_ref());
        waiting
            .map(|(heartbeat, _)| heartbeat)
            .or(self.taken.as_ref())
    }

    /// Takes what has waited for ops up to `applied`. Returns the time that it names, if any.
    fn take(&mut self, applied: Time) -> Option<Time> {
        let mut time = None;
        while let Some((heartbeat, _)) = self
            .waiting
            .take_if(|(heartbeat, _)| heartbeat.last_op <= applied)
        {
            time = Some(heartbeat.time);
            self.taken = Some(heartbeat);
            self.waiting = self.next.take();
        }
        time
    }
}

/// See the module.
#[derive(Debug)]
pub struct Delivery {
    config: DeliveryConfig,
    /// The last op issued here.
    written: Time,
    version: Version,
    /// The last op applied of each other origin.
    deps: Version,
    /// Changes whenever `deps` does.
    generation: u64,
    inbox: Inbox,
    heard: BTreeMap<Origin, Heard>,
    closing: Closing,
    /// What we hold of ended origins may have changed since it was last announced.
    announced_is_old: bool,
    late: late::Late,
    catch_up: catch_up::CatchUp,
    words: word::Words,
    /// Regions that take part no more, and who has said that it does without each. What others
    /// hold of them is taken from these.
    excluded: BTreeMap<Region, BTreeSet<Region>>,
    /// Regions whose builds do not say so.
    silent_builds: BTreeSet<Region>,
    /// Below which epochs all is that ops of earlier lives have seen of each region.
    seen_before: BTreeMap<Region, Epoch>,
    /// How often each region has given a sign of life.
    signs: BTreeMap<Region, u64>,
    /// Regions whose times are taken however far ahead they are.
    trusted_clocks: BTreeSet<Region>,
    /// The ops that are kept here; `None` where these are all that are applied.
    kept: Option<Version>,
    stable: Version,
    stable_is_old: bool,
}

impl Delivery {
    /// Of a shard that holds nothing and has issued nothing.
    pub fn new(config: DeliveryConfig) -> Self {
        let own = config.own;
        let mut new = Self {
            inbox: Inbox::new(config.inbox_bytes_max),
            config,
            written: Time::ZERO,
            version: Version::new(),
            deps: Version::new(),
            generation: 0,
            heard: BTreeMap::new(),
            closing: Closing::default(),
            announced_is_old: true,
            late: late::Late::default(),
            catch_up: catch_up::CatchUp::default(),
            words: word::Words::default(),
            excluded: BTreeMap::new(),
            silent_builds: BTreeSet::new(),
            seen_before: BTreeMap::new(),
            signs: BTreeMap::new(),
            trusted_clocks: BTreeSet::new(),
            kept: None,
            stable: Version::new(),
            stable_is_old: true,
        };
        new.notice(own);
        new.close_what_can_be();
        new
    }

    /// Who issues ops here.
    pub const fn own(&self) -> Origin {
        self.config.own
    }

    /// Everything that is held, by time: of an idle origin as far as its heartbeats say.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The last op applied of each other origin, and a number that changes when these do.
    pub const fn deps(&self) -> (&Version, u64) {
        (&self.deps, self.generation)
    }

    /// The last op applied of each origin, ours included.
    pub fn applied_ops(&self) -> Version {
        let mut applied = self.deps.clone();
        applied.advance(self.config.own, self.written);
        applied
    }

    /// The time of the last op issued here.
    pub const fn written(&self) -> Time {
        self.written
    }

    /// How many bytes of frames wait.
    pub fn waiting_bytes(&self) -> usize {
        self.inbox.bytes()
    }

    /// Notes an op that was issued here. Times increase.
    pub fn issued(&mut self, time: Time) {
        debug_assert!(self.written < time, "a time is issued once");
        self.written = time;
        self.version.advance(self.config.own, time);
        self.stable_is_old = true;
    }

    /// Takes, drops or refuses a frame that came over the link to region `from`.
    pub fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer {
        let origin = frame.origin();
        match self.refusal(&frame, from) {
            Some(Offer::Late(_)) if !self.late.push(&frame, self.config.inbox_bytes_max) => {
                return Offer::Full;
            }
            Some(answer) => return answer,
            None => {}
        }
        if self.is_ahead(frame.last(), origin.region, now_ms) {
            return Offer::Ahead;
        }
        if self.notice(origin) {
            self.close_what_can_be();
        }
        let applied = self.version.get(origin);
        let held = self.inbox.tail(origin).unwrap_or_default().max(applied);
        if frame.last() <= held {
            return Offer::Duplicate;
        }
        if held < frame.prev() {
            return Offer::Gap;
        }
        let ready = is_ready(&frame, &self.version);
        self.announced_is_old |= self.closing.has_ended(origin);
        match (self.inbox.push(frame), ready) {
            (false, _) => Offer::Full,
            (true, true) => Offer::Ready,
            (true, false) => Offer::Waiting,
        }
    }

    /// The answer to a frame that is not for the inbox.
    fn refusal(&self, frame: &Frame, from: Region) -> Option<Offer> {
        let origin = frame.origin();
        if origin == self.config.own {
            let known = frame.last() <= self.written;
            return Some(if known {
                Offer::Duplicate
            } else {
                Offer::Refused(Refusal::Ours)
            });
        }
        if !self.config.members.contains(&origin.region) {
            if !self.excluded.contains_key(&origin.region) {
                return Some(Offer::Refused(Refusal::Stranger));
            }
            if from == origin.region || !self.closing.has_ended(origin) {
                return Some(Offer::Refused(Refusal::Ended));
            }
        }
        if origin.epoch < self.version.floor(origin.region) {
            let known = frame.last() <= self.closing.end(origin);
            return Some(if known {
                Offer::Duplicate
            } else {
                Offer::Late(frame.clone())
            });
        }
        let is_refused = from == origin.region
            && self.closing.has_ended(origin)
            && self.final_end(origin).is_none_or(|end| end < frame.last());
        is_refused.then_some(Offer::Refused(Refusal::Ended))
    }

    fn is_ahead(&self, time: Time, region: Region, now_ms: u64) -> bool {
        self.latest_time(now_ms) < time && !self.trusted_clocks.contains(&region)
    }

    /// The latest time that may be admitted.
    const fn latest_time(&self, now_ms: u64) -> Time {
        Time::from_ms(now_ms + self.config.max_clock_drift_ms + 1)
    }

    /// Admits times of a region however far ahead they are.
    pub fn accept_clock(&mut self, region: Region) {
        self.trusted_clocks.insert(region);
    }

    /// A frame to apply now, and the time up to which its ops are held already. The caller applies
    /// the others and calls [`Self::applied`] before it asks again.
    pub fn next_ready(&mut self) -> Option<(Frame, Time)> {
        let frame = self.inbox.pop_ready(&self.version)?;
        let skip = self.version.get(frame.origin());
        Some((frame, skip))
    }

    /// Notes that a frame has been applied.
    pub fn applied(&mut self, frame: &Frame) {
        let origin = frame.origin();
        debug_assert!(
            is_ready(frame, &self.version),
            "no gap before {origin}, deps are covered"
        );
        self.version.advance(origin, frame.last());
        self.deps.advance(origin, frame.last());
        self.generation += 1;
        self.stable_is_old = true;
        self.take_waiting(origin);
        if self.closing.has_ended(origin) {
            self.announced_is_old = true;
            self.close_what_can_be();
        }
    }

    /// Notes a frame that an earlier life had applied. They come in the order in which it did.
    pub fn recovered(&mut self, frame: &Frame) {
        let origin = frame.origin();
        self.notice(origin);
        self.note_seen(frame.deps());
        self.version.advance(origin, frame.last());
        self.deps.advance(origin, frame.last());
        self.generation += 1;
        self.stable_is_old = true;
        self.announced_is_old = true;
    }

    /// The same of all ops up to these.
    pub fn recovered_up_to(&mut self, ops: &Version) {
        for (origin, time) in ops.iter() {
            self.notice(origin);
            self.version.advance(origin, time);
            self.deps.advance(origin, time);
        }
        self.generation += 1;
        self.stable_is_old = true;
        self.announced_is_old = true;
    }

    /// Whether every other region has said that it keeps all ops up to these.
    pub fn all_have(&self, ops: &Version) -> bool {
        self.others().all(|&region| self.has(region, ops, true))
    }

    /// Whether a region has said that it has applied, or kept, all ops up to these.
    pub fn has(&self, region: Region, ops: &Version, kept: bool) -> bool {
        let Some(latest) = self.latest_of(region) else {
            return false;
        };
        let said = if kept { latest.kept() } else { &latest.applied };
        let mut ops = ops.iter();
        ops.all(|(origin, time)| !self.is_without(said, origin) && time <= said.get(origin))
    }

    /// Notes what of the ops that are applied is kept. From then on no others count as kept.
    pub fn kept(&mut self, ops: Version) {
        self.kept = Some(ops);
        self.stable_is_old = true;
    }

    /// What to tell the others of our origin. The shard's clock has been raised to `time`.
    pub fn heartbeat(&mut self, time: Time) -> Heartbeat {
        self.version.advance(self.config.own, time);
        self.announce();
        Heartbeat {
            origin: self.config.own,
            last_op: self.written,
            time,
            applied: self.applied_ops(),
            kept: self.kept.clone(),
            announced: self.announced(),
        }
    }

    /// Takes a heartbeat that came over the link to region `from`, or notes that it must wait.
    /// Frames may have become ready by it.
    pub fn heard(&mut self, mut heartbeat: Heartbeat, from: Region, now_ms: u64) {
        let origin = heartbeat.origin;
        if origin.region == self.config.own.region || !self.config.members.contains(&origin.region)
        {
            return;
        }
        self.note_sign(&heartbeat, from);
        let mut news = self.notice(origin);
        if !self.closing.has_ended(origin) {
            for announcement in heartbeat.announced.drain(..) {
                news |= self.closing.take(origin.region, announcement);
            }
            news |= self.closing.take_applied(origin.region, &heartbeat.applied);
        }
        if news {
            self.close_what_can_be();
        }
        self.take_word(&heartbeat, from);
        let floor = self.version.floor(origin.region);
        if origin.epoch < floor || from == origin.region && self.closing.has_ended(origin) {
            return;
        }
        if !self.trusted_clocks.contains(&origin.region) {
            // An idle origin's time is true of every earlier time, too.
            heartbeat.time = heartbeat.time.min(self.latest_time(now_ms));
        }
        let heard = self.heard.entry(origin).or_default();
        if heard
            .latest()
            .is_some_and(|known| heartbeat.time < known.time)
        {
            return;
        }
        let place = match heard.waiting {
            None => &mut heard.waiting,
            Some(_) => &mut heard.next,
        };
        *place = Some((heartbeat, now_ms));
        self.take_waiting(origin);
    }

    /// Takes an origin's heartbeats whose ops are all applied.
    fn take_waiting(&mut self, origin: Origin) {
        let applied = self.version.get(origin);
        let heard = self.heard.get_mut(&origin);
        if let Some(time) = heard.and_then(|heard| heard.take(applied)) {
            self.version.advance(origin, time);
            self.stable_is_old = true;
        }
    }

    /// Notes an epoch. If it is a new one, nothing older is taken from its region any more. Returns
    /// whether it is.
    fn notice(&mut self, origin: Origin) -> bool {
        let is_new = self.closing.notice(origin);
        self.stable_is_old |= is_new;
        self.announced_is_old |= is_new;
        is_new
    }

    /// What every region has, and of which nothing can turn up any more: what we hold and every
    /// origin that is not closed has acknowledged. Costs something only after a change.
    pub fn stable(&mut self) -> &Version {
        if self.stable_is_old {
            self.stable = self.compute_stable();
            self.stable_is_old = false;
        }
        &self.stable
    }

    /// While an ending is open, nobody knows which origins there still are: nothing is added then.
    /// Nor is it where others have closed the life that we are.
    fn compute_stable(&self) -> Version {
        if self.closing.open(&self.version).next().is_some() {
            return self.stable.clone();
        }
        let mut stable = match &self.kept {
            Some(kept) => self.version.meet(kept),
            None => self.version.clone(),
        };
        for &member in self.others() {
            let newest = self
                .closing
                .newest(member)
                .map(|epoch| Origin::new(member, epoch));
            let heard = newest.and_then(|origin| self.heard.get(&origin));
            match heard.and_then(|heard| heard.taken.as_ref()) {
                Some(heartbeat) if self.is_without(&heartbeat.applied, self.config.own) => {
                    return self.stable.clone();
                }
                Some(heartbeat) => stable = stable.meet(heartbeat.kept()),
                None => return Version::new(),
            }
        }
        stable
    }

    /// The other regions.
    pub fn others(&self) -> impl Iterator<Item = &Region> {
        let own = self.config.own.region;
        self.config
            .members
            .iter()
            .filter(move |&&region| region != own)
    }

    /// How many other regions have applied, or kept, everything in `version`.
    pub fn acknowledged(&self, version: &Version, kept: bool) -> usize {
        self.others()
            .filter(|&&region| self.has(region, version, kept))
            .count()
    }

    /// The latest heartbeat of a region's current origin.
    pub fn latest_of(&self, region: Region) -> Option<&Heartbeat> {
        let origin = Origin::new(region, self.closing.newest(region)?);
        self.heard.get(&origin)?.latest()
    }

    /// The heartbeat of a region's current origin that counts, with all that the region has
    /// announced, and applied by then: what to relay. What it keeps counts with its ops alone.
    pub fn relay_of(&self, region: Region) -> Option<Heartbeat> {
        let origin = Origin::new(region, self.closing.newest(region)?);
        let taken = self.heard.get(&origin)?.taken.as_ref()?;
        let announced = self.closing.said_by(region).cloned().collect();
        Some(Heartbeat {
            origin,
            last_op: taken.last_op,
            time: taken.time,
            applied: self.closing.applied_by(region)?.clone(),
            kept: Some(taken.kept().clone()),
            announced,
        })
    }

    /// The newest epoch of a region that was heard of.
    pub fn newest_epoch(&self, region: Region) -> Option<Epoch> {
        self.closing.newest(region)
    }

    /// Up to which time everything of a region's current origin is held.
    pub fn heard_up_to(&self, region: Region) -> Time {
        let newest = self.closing.newest(region);
        newest.map_or(Time::ZERO, |epoch| {
            self.version.get(Origin::new(region, epoch))
        })
    }

    /// When, in milliseconds of our clock, a region told us of the earliest op that we lack.
    pub fn behind_since(&self, region: Region) -> Option<u64> {
        let of_region = self
            .heard
            .iter()
            .filter(|(origin, _)| origin.region == region);
        of_region
            .filter_map(|(_, heard)| Some(heard.waiting.as_ref()?.1))
            .min()
    }
}

#[cfg(test)]
mod tests;
