//! A peer whose region takes part no more: it is told so, and sent away.
//!
//! Nothing that it sends is taken and nothing of what it says is listened to, but that it comes
//! back, where it may do so by itself. Once it takes part again the conversation begins anew: what
//! was said in the one before was for nobody.

use super::{Link, Phase, Why};
use crate::proto::message::WITHOUT_LEVEL;
use crate::proto::roster::Roster;
use crate::proto::shards::Shards;

impl Link {
    /// Whether the peer's region takes part no more.
    pub fn refuse(&mut self, is_refused: bool) {
        self.is_back |= self.is_refused && !is_refused && self.phase != Phase::Down;
        self.is_refused = is_refused;
    }

    /// Whether it does.
    pub const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether a peer that is refused is listened to when it says that it comes back.
    pub const fn let_return(&mut self, may_return: bool) {
        self.may_return = may_return;
    }

    /// Whether it is.
    pub const fn may_return(&self) -> bool {
        self.may_return
    }

    /// Why the last connection came to its end.
    pub const fn went_down(&self) -> Option<Why> {
        self.went_down
    }

    /// Whether the record of such a build says without whom its region does.
    pub(super) fn note_build(&self, shards: &mut dyn Shards) {
        let says_without = WITHOUT_LEVEL <= self.talk.level;
        for shard in 0..shards.count() {
            shards.delivery(shard, &mut |delivery| {
                delivery.note_build(self.peer, says_without);
            });
        }
    }

    /// Takes the peer's record of regions, or what of it counts.
    pub(super) fn heard_record(&self, roster: &Roster, shards: &mut dyn Shards) {
        if !self.is_refused {
            shards.heard_roster(roster.clone());
        } else if self.may_return {
            shards.heard_roster(roster.return_of(self.peer));
        }
    }
}
