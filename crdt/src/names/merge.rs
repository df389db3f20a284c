//! Merging what another replica holds of a named thing.

use super::{Context, Full, Names, Thing, Updated};
use crate::entry::{self, Entry};
use crate::kept::{Kept, Summary};
use crate::merge::Sides;
use crate::piece::Facts;

impl<F: Full> Names<F> {
    /// Merges the facts of a thing's register.
    pub(crate) fn merge(
        &mut self,
        thing: Thing<'_>,
        theirs: Facts<'_, F::Sum>,
        sides: &Sides<'_>,
        cx: &Context<'_>,
    ) -> Updated {
        let found = self.table.find(thing.hash, thing.name);
        let mine = found.map(|id| entry::read(self.table.get(id).expect("found")));
        let unchanged = |kept: Kept<'_, F>| {
            let summary = kept.summary(thing.digest, cx.origins);
            Updated {
                id: found.unwrap_or(u32::MAX),
                before: summary,
                after: summary,
                queue: false,
            }
        };
        match (&theirs, mine) {
            (Facts::Nothing, None) => return Updated::nothing(),
            (Facts::Base(base), None) => {
                if sides.mine.covers(base.id) {
                    return Updated::nothing();
                }
                let after = Kept::<F>::Compact(*base).summary(thing.digest, cx.origins);
                return self.adopt(thing, entry::compact(thing.name, *base), after, cx);
            }
            (Facts::Counter(counter), None) => {
                if sides.mine.covers(counter.latest()) {
                    return Updated::nothing();
                }
                let after = Kept::<F>::Counter(*counter).summary(thing.digest, cx.origins);
                return self.adopt(thing, entry::counter(thing.name, *counter), after, cx);
            }
            (Facts::Base(base), Some(Entry::Compact(mine)))
                if (base.id, base.attached) == (mine.id, mine.attached) =>
            {
                return unchanged(Kept::Compact(mine));
            }
            (Facts::Counter(counter), Some(Entry::Counter(mine))) if *counter == mine => {
                return unchanged(Kept::Counter(mine));
            }
            _ => {}
        }
        let theirs = theirs.into_register();
        self.change_register(thing, cx, |register| {
            register.merge(theirs, sides, cx.origins);
        })
    }

    /// Adds a thing that is not there.
    fn adopt(
        &mut self,
        thing: Thing<'_>,
        entry: crate::thin::ThinBytes,
        after: Summary,
        cx: &Context<'_>,
    ) -> Updated {
        self.live += 1;
        Updated {
            id: self.table.insert(thing.hash, thing.name, entry, cx.seed),
            before: Summary::default(),
            after,
            queue: false,
        }
    }
}
