//! One side of the conversation with a peer node, over as many connections as it takes.
//!
//! After a hello each way a link sends what the peer lacks: ops of its own region, and of others
//! those that the peer asks for because it cannot get them directly. It says several times a second
//! how far its own shards are, and soon after it has taken a frame that it has.
//!
//! Frames may wait at the receiver for each other across links, so no frame may hold up one that it
//! waits for. Therefore bytes under way are bounded by windows a shard, one for our own ops and one
//! for those of others; each kind goes out in the order of the log; and frames of others have a
//! lane of their own. An inbox takes more than a window, so a lane is only ever held up by a clock
//! that is ahead, or by a peer that does not keep to this.
//!
//! A shard whose log no longer reaches back to what the peer lacks sends nothing and says so
//! ([`Event::Behind`]) rather than skip. The peer then catches up by state: `take`, `give`.

mod ahead;
mod facts;
mod figures;
mod give;
mod refusal;
mod say;
mod send;
mod take;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use crdt::{Frame, Origin, Region, Time};

use super::delivery::{Offer, Refusal};
use super::error::LinkError;
use super::message::{Answer, CATCH_UP_LEVEL, Heartbeat, Hello, Message, Want};
use super::outbox::{Outbox, Which};
use super::roster::Roster;
use super::shards::Shards;
use super::{Instant, Span};
pub use facts::{Accept, CatchingUp, Config, Event, LinkState, Stats, Transmit, Why};

/// Between heartbeats.
const BEAT: Span = Span::from_ms(200);
/// Between a frame taken and the word that it has been: many frames share one.
const ACK_DELAY: Span = Span::from_ms(4);
/// A peer that says nothing for so long is down.
const SILENCE: Span = Span::from_ms(3_000);

/// Beats after which a peer that is refused has been told why.
const TOLD_AFTER: u32 = 3;

/// Events that wait to be polled; beyond that no frame is taken.
const EVENTS_MAX: usize = 256;
/// While so many control messages wait to be sent, nothing is added to them.
const CONTROL_MAX: usize = 8;

/// How long to wait before a frame that was answered with [`Accept::Later`] is offered again.
pub const RETRY_AFTER: Span = Span::from_ms(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Connected; the peer's hello has not come.
    Greeting,
    Up,
}

/// What begins anew with every connection.
#[derive(Debug, Default)]
struct Conversation {
    /// Whether our hello has been sent.
    has_greeted: bool,
    /// Messages that wait to be sent.
    control: VecDeque<Message>,
    /// By shard; filled by the peer's hello.
    outboxes: Vec<Outbox>,
    /// What we have last said, by shard.
    said: Vec<Heartbeat>,
    /// What we have last relayed, by shard and region.
    relayed: BTreeMap<(u16, Region), Heartbeat>,
    wants: Vec<Want>,
    /// What the peer has said of its shards in its hello. It counts from its first beat on, for
    /// the record of regions comes before that: what is announced of ended origins is to be held
    /// against all who must have announced.
    greeting: Vec<Heartbeat>,
    /// Shards that have taken frames since we last spoke of them.
    dirty: BTreeSet<u16>,
    ack_at: Option<Instant>,
    /// Frames that were taken and wait for others, by shard and origin: the time of the one to
    /// look for next, and of the newest.
    waiting: BTreeMap<(u16, Origin), (Time, Time)>,
    /// How many links of this node had come up when we last spoke.
    ups: u64,

    /// Ops of closed origins of the peer's region, for it to issue again, and such as wait here.
    late: VecDeque<Frame>,
    /// Those that have been sent, by shard.
    late_sent: BTreeSet<(u16, Origin, Time)>,
    /// Shards whose frames must be sent again.
    asks: BTreeSet<u16>,
    /// Whose turn it is to send.
    turn: u16,
    ahead: ahead::Ahead,
    is_relays_turn: bool,
    /// The level of features that both sides know.
    level: u32,
    /// The revision of our record of regions that the peer has been told.
    roster: u64,
    /// Shards whose log does not reach back far enough, to be told the peer.
    behind: Vec<u16>,
    /// Beats that have been sent.
    beats: u32,
    /// Shards of which the peer's log does not reach back far enough.
    unreachable: BTreeSet<u16>,
    taking: Option<take::Taking>,
    /// When the next shard may be caught up.
    take_at: Instant,
    /// Pieces that did not come in time, since one did.
    late_pieces: u32,
    asks_sent: u32,
    /// Bytes of answers that were taken, and those that have been told.
    answers_taken: u64,
    answers_told: u64,
    giving: give::Giving,
    /// Whether the peer has been silent for so long that others are asked for its ops.
    is_quiet: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    config: Config,
    peer: Region,
    phase: Phase,
    talk: Conversation,
    went_down: Option<Why>,
    /// When anything last came from the peer.
    heard_at: Option<Instant>,
    /// The same, while the link was up.
    live_at: Option<Instant>,
    beat_at: Instant,
    /// Beats differ a little in length from link to link, so that they do not all fall together.
    beat: Span,
    beats: u64,
    /// Whether the peer's region takes part no more.
    is_refused: bool,
    /// Whether it may come back by itself.
    may_return: bool,
    /// Whether it has come back since this conversation began, in which it was not listened to.
    is_back: bool,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Link {
    /// A link to a node of region `peer`. Needs a connection.
    pub fn new(config: Config, peer: Region, seed: u64) -> Self {
        let jitter = Span(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % Span::from_ms(20).0);
        Self {
            config,
            peer,
            phase: Phase::Down,
            talk: Conversation::default(),
            went_down: None,
            heard_at: None,
            live_at: None,
            beat_at: Instant::default(),
            beat: Span(BEAT.0 + jitter.0),
            beats: 0,
            is_refused: false,
            may_return: false,
            is_back: false,
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// The region at the other end.
    pub const fn peer(&self) -> Region {
        self.peer
    }

    /// Whether both sides have said hello on the current connection.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether there is no connection, or none that is of use.
    pub fn is_down(&self) -> bool {
        self.phase == Phase::Down
    }

    /// There is a connection, and nothing has been said on it.
    pub fn connected(&mut self, now: Instant) {
        self.phase = Phase::Greeting;
        self.is_back = false;
        self.talk = Conversation::default();
        self.heard_at = Some(now);
    }

    /// The connection has ended. Harmless if there was none.
    pub fn disconnected(&mut self, now: Instant, shards: &mut dyn Shards) {
        self.go_down(now, Why::Disconnected, shards);
    }

    fn go_down(&mut self, now: Instant, why: Why, shards: &mut dyn Shards) {
        if self.phase == Phase::Down {
            return;
        }
        self.phase = Phase::Down;
        self.went_down = Some(why);
        self.stop_taking(now, shards);
        self.stop_giving(shards);
        self.talk = Conversation::default();
        self.events.push_back(Event::Down(why));
        shards.reach(&mut |reach| reach.down(self.peer, now));
    }

    /// Takes one message from the control stream. After an error the connection must be closed.
    pub fn handle_control(
        &mut self,
        now: Instant,
        bytes: &[u8],
        shards: &mut dyn Shards,
    ) -> Result<(), LinkError> {
        let message = Message::decode(bytes)?;
        self.heard_at = Some(now);
        if self.phase == Phase::Up {
            self.live_at = Some(now);
        }
        if std::mem::take(&mut self.talk.is_quiet) {
            shards.reach(&mut |reach| reach.up(self.peer));
        }
        match (self.phase, message) {
            (Phase::Down, _) => Err(LinkError::OutOfTurn("there is no connection")),
            (Phase::Greeting, Message::Hello(hello)) => self.greeted(now, hello, shards),
            (Phase::Greeting, _) => Err(LinkError::OutOfTurn("the first must be a hello")),
            (Phase::Up, Message::Hello(_)) => Err(LinkError::OutOfTurn("a second hello")),
            (
                Phase::Up,
                Message::Beat {
                    time,
                    all,
                    shards: news,
                },
            ) => self.heard_beat(time, all, news, shards),
            (Phase::Up, Message::Relayed(_)) if self.is_refused => Ok(()),
            (Phase::Up, Message::Relayed(heartbeats)) => {
                for (shard, heartbeat) in heartbeats {
                    self.check_shard(shard)?;
                    let origin = heartbeat.origin;
                    if origin.region == self.peer {
                        return Err(LinkError::Forged {
                            peer: self.peer,
                            origin,
                        });
                    }
                    shards.heard(shard, heartbeat, self.peer);
                }
                Ok(())
            }
            (Phase::Up, Message::Wants(wants)) => {
                for (shard, outbox) in (0..).zip(&mut self.talk.outboxes) {
                    let of_shard = wants.iter().filter(|want| want.shard == shard);
                    outbox.wants(of_shard.map(|want| (want.region, want.below)));
                }
                Ok(())
            }
            (Phase::Up, Message::Again { shard, applied }) => {
                self.check_shard(shard)?;
                self.talk.outboxes[usize::from(shard)].again(applied);
                self.talk.late_sent.retain(|&(of, ..)| of != shard);
                Ok(())
            }
            (Phase::Up, Message::Roster(bytes)) => {
                self.heard_record(&Roster::decode(&bytes)?, shards);
                Ok(())
            }
            (Phase::Up, Message::Behind(behind)) => {
                self.heard_behind(behind, shards);
                Ok(())
            }
            (Phase::Up, Message::Ask(ask)) => self.asked(ask),
            (Phase::Up, Message::Done(shard)) => {
                self.check_shard(shard)?;
                self.asked_enough(shard, shards);
                Ok(())
            }
            (Phase::Up, Message::Taken(bytes)) => {
                self.answers_taken(bytes);
                Ok(())
            }
        }
    }

    /// Takes one frame from a lane. After an error the connection must be closed.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        bytes: Bytes,
        shards: &mut dyn Shards,
    ) -> Result<Accept, LinkError> {
        if self.phase != Phase::Up || self.is_refused || EVENTS_MAX <= self.events.len() {
            return Ok(Accept::Later); // Lanes and the hello come in any order.
        }
        if Answer::is_one(&bytes) {
            self.heard_at = Some(now);
            self.live_at = Some(now);
            return self.answered(now, &bytes, shards);
        }
        let frame = Frame::parse(bytes)?;
        let (shard, origin, last) = (frame.shard(), frame.origin(), frame.last());
        self.check_shard(shard)?;
        self.heard_at = Some(now);
        self.live_at = Some(now);
        if self.has_ended(shard, shards) {
            // The others have heard by now what it had handed on. It is dead, and will not mind.
            self.stats.frames_refused += 1;
            return Ok(Accept::Taken);
        }
        match shards.offer(frame, self.peer) {
            Offer::Ahead | Offer::Full => return Ok(Accept::Later),
            Offer::Ready | Offer::Duplicate | Offer::OutOfService => {}
            Offer::Waiting => {
                let waiting = self.talk.waiting.entry((shard, origin));
                waiting.or_insert((last, last)).1 = last;
            }
            Offer::Gap => {
                self.talk.asks.insert(shard);
            }
            Offer::Late(frame) => self.events.push_back(Event::Late(frame)),
            Offer::Refused(Refusal::Ours | Refusal::Stranger) => {
                return Err(LinkError::Forged {
                    peer: self.peer,
                    origin,
                });
            }
            Offer::Refused(refusal @ Refusal::Ended) => {
                self.talk.asks.insert(shard); // What is refused now may be final soon.
                self.stats.frames_refused += 1;
                self.events.push_back(Event::Refused { origin, refusal });
            }
        }
        self.stats.frames_received += 1;
        self.talk.dirty.insert(shard);
        self.talk.ack_at.get_or_insert(now + ACK_DELAY);
        Ok(Accept::Taken)
    }

    /// Does what is due. To be called when [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant, shards: &mut dyn Shards) {
        if self.phase == Phase::Down {
            return;
        }
        if self.heard_at.is_some_and(|heard| heard + SILENCE <= now) {
            self.go_down(now, Why::Silent, shards);
            return;
        }
        if self.is_back {
            self.go_down(now, Why::Disconnected, shards);
            return;
        }
        if self.phase != Phase::Up {
            return;
        }
        self.take_on(now, shards);
        let has_room = self.talk.control.len() < CONTROL_MAX;
        if self.is_refused && TOLD_AFTER <= self.talk.beats {
            self.go_down(now, Why::Forgotten, shards);
            return;
        }
        if self.beat_at <= now {
            self.beat_at = now + self.beat;
            if has_room {
                self.say_beat(now, shards);
            }
        } else if self.talk.ack_at.is_some_and(|at| at <= now) {
            if has_room {
                self.say_applied(shards);
            } else {
                self.talk.ack_at = Some(now + ACK_DELAY);
            }
        }
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.heard_at.map(|heard| heard + SILENCE);
        match self.phase {
            Phase::Down => None,
            _ if self.is_back => Some(Instant::default()),
            Phase::Greeting => silence,
            Phase::Up => {
                let of_state = [self.takes_at(), self.answers_at()];
                let usual = [silence, Some(self.beat_at), self.talk.ack_at];
                usual.into_iter().chain(of_state).flatten().min()
            }
        }
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing to send. Looks into the logs, so ask again whenever one has grown.
    pub fn poll_transmit(&mut self, now: Instant, shards: &mut dyn Shards) -> Option<Transmit> {
        if self.phase == Phase::Down {
            return None;
        }
        if !self.talk.has_greeted {
            self.talk.has_greeted = true;
            let hello = self.hello(shards);
            return Some(self.control(&hello));
        }
        if self.phase == Phase::Up {
            self.take_on(now, shards);
        }
        if let Some(message) = self.talk.control.pop_front() {
            return Some(self.control(&message));
        }
        if self.is_refused {
            return None;
        }
        if self.talk.answers_told < self.talk.answers_taken {
            self.talk.answers_told = self.talk.answers_taken;
            return Some(self.control(&Message::Taken(self.talk.answers_taken)));
        }
        if let Some(frame) = self.talk.late.pop_front() {
            return Some(self.sent(Which::Relayed, frame.shard(), frame.bytes().clone()));
        }
        let giving = &mut self.talk.giving;
        giving.is_first = !giving.is_first;
        if giving.is_first
            && let Some(answer) = self.next_answer(now, shards)
        {
            return Some(answer);
        }
        let frame = self.next_frame(shards);
        if frame.is_some() {
            return frame;
        }
        let answer = self.next_answer(now, shards);
        if answer.is_none() && self.phase == Phase::Up {
            self.hurry(now, shards);
        }
        answer
    }

    fn control(&mut self, message: &Message) -> Transmit {
        let bytes = message.encode();
        self.stats.messages_sent += 1;
        self.stats.message_bytes_sent += bytes.len() as u64;
        if matches!(message, Message::Ask(_)) {
            self.stats.state_bytes_sent += bytes.len() as u64;
        }
        Transmit::Control(bytes)
    }

    /// Whether what the peer's log no longer has can be had of it as state.
    pub const fn catches_up(&self) -> bool {
        CATCH_UP_LEVEL <= self.talk.level
    }

    /// Whether there has been no link for so long that its state is [`LinkState::Down`].
    pub fn is_lost(&self, now: Instant) -> bool {
        self.phase != Phase::Up && self.live_at.is_none_or(|live| live + SILENCE <= now)
    }

    /// How many milliseconds our clock is ahead of the peer's, if we have heard it for long enough
    /// to tell; that includes the time that its heartbeats take at least.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.talk.ahead.least()
    }

    fn check_shard(&self, shard: u16) -> Result<(), LinkError> {
        let count = self.talk.outboxes.len() as u16;
        if shard < count {
            Ok(())
        } else {
            Err(LinkError::NoSuchShard { shard, count })
        }
    }

    /// Whether the life of the peer that this connection is with is known to have ended.
    fn has_ended(&self, shard: u16, shards: &mut dyn Shards) -> bool {
        let life = self.talk.outboxes[usize::from(shard)].peer.origin.epoch;
        let mut newest = None;
        shards.delivery(shard, &mut |delivery| {
            newest = delivery.newest_epoch(self.peer);
        });
        newest.is_some_and(|newest| life < newest)
    }

    fn check_origin(&self, origin: Origin) -> Result<(), LinkError> {
        let is_theirs = origin.region == self.peer;
        if is_theirs {
            Ok(())
        } else {
            Err(LinkError::Impostor {
                peer: self.peer,
                origin,
            })
        }
    }

    // --- What the peer says ---

    fn greeted(
        &mut self,
        now: Instant,
        hello: Hello,
        shards: &mut dyn Shards,
    ) -> Result<(), LinkError> {
        if hello.database != self.config.database {
            let ours = self.config.database.clone();
            return Err(LinkError::OtherDatabase {
                ours,
                theirs: hello.database,
            });
        }
        if hello.shards.len() != usize::from(shards.count()) {
            let theirs = hello.shards.len() as u16;
            return Err(LinkError::OtherShards {
                ours: shards.count(),
                theirs,
            });
        }
        for heartbeat in &hello.shards {
            self.check_origin(heartbeat.origin)?;
        }
        let mut outboxes = Vec::new();
        for (shard, heartbeat) in (0..).zip(&hello.shards) {
            let (mut own, mut newest) = (None, None);
            shards.delivery(shard, &mut |delivery| {
                own = Some(delivery.own());
                newest = delivery.newest_epoch(self.peer);
            });
            let origin = heartbeat.origin;
            let newest = newest.filter(|_| !self.is_refused);
            if let Some(newest) = newest.filter(|&newest| origin.epoch < newest) {
                return Err(LinkError::Ended { origin, newest });
            }
            let bare = Heartbeat {
                announced: Vec::new(),
                ..heartbeat.clone()
            };
            outboxes.extend(own.map(|own| Outbox::new(shard, own, bare)));
        }
        self.talk.outboxes = outboxes;
        self.talk.level = hello.level.min(self.config.level);
        self.note_build(shards);
        self.phase = Phase::Up;
        self.live_at = Some(now);
        self.beat_at = now;
        self.events.push_back(Event::Up);
        shards.reach(&mut |reach| {
            reach.up(self.peer);
            self.talk.ups = reach.ups();
        });
        self.talk.greeting = hello.shards;
        Ok(())
    }

    fn heard_beat(
        &mut self,
        time: Time,
        all: bool,
        news: Vec<(u16, Heartbeat)>,
        shards: &mut dyn Shards,
    ) -> Result<(), LinkError> {
        for (shard, heartbeat) in &news {
            self.check_shard(*shard)?;
            self.check_origin(heartbeat.origin)?;
        }
        self.stats.clock_ahead_ms = shards.now_ms() as i64 - time.ms() as i64;
        if let Some(now) = self.heard_at {
            self.talk.ahead.note(now, self.stats.clock_ahead_ms);
        }
        self.take_greeting(shards);
        let mut listed = BTreeSet::new();
        for (shard, heartbeat) in news {
            listed.insert(shard);
            let bare = Heartbeat {
                announced: Vec::new(),
                ..heartbeat.clone()
            };
            self.talk.outboxes[usize::from(shard)].heard(bare);
            shards.heard(shard, heartbeat, self.peer);
        }
        if all {
            for (shard, outbox) in (0..).zip(&mut self.talk.outboxes) {
                if !listed.contains(&shard) {
                    outbox.peer.time = time;
                    shards.heard(shard, outbox.peer.clone(), self.peer);
                }
            }
        }
        Ok(())
    }
}
