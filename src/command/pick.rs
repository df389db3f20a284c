//! Picking elements at random, for `SRANDMEMBER`, `HRANDFIELD` and `ZRANDMEMBER`.

use std::collections::HashSet;

use super::{Args, CommandError, Reply};

/// The most that a negative count may ask for: more would hold the lock for minutes.
const REPEATED_MAX: i64 = 1 << 31;

/// How many elements to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// So many different ones, or all that there are.
    Distinct(usize),
    /// So many, each independently of the others.
    Repeated(usize),
}

impl Amount {
    /// Takes a count: the same element may come several times if it is negative.
    pub(super) fn take(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let count = args.int()?;
        if count == i64::MIN {
            return Err(CommandError::text(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        if count < -REPEATED_MAX {
            return Err(CommandError::OutOfRange);
        }
        let amount = count.unsigned_abs() as usize;
        Ok(if count < 0 {
            Self::Repeated(amount)
        } else {
            Self::Distinct(amount)
        })
    }

    /// Refuses counts that cannot be doubled, which a reply with values would need.
    pub(super) const fn with_values(self) -> Result<Self, CommandError> {
        match self {
            Self::Distinct(count) if i64::MAX as usize / 2 < count => Err(CommandError::OutOfRange),
            Self::Distinct(_) | Self::Repeated(_) => Ok(self),
        }
    }

    /// Replies picks among `length` elements: from `all` of them, or each by `one`. `open` begins a
    /// reply of so many, and `write` adds one. Costs O(count), or O(length) if a large part is
    /// asked for.
    pub(super) fn reply<'a, T>(
        self,
        reply: &mut Reply<'_>,
        among: Among<'_, impl Iterator<Item = (&'a [u8], T)>>,
        mut one: impl FnMut(&mut fastrand::Rng) -> Option<(&'a [u8], T)>,
        open: impl FnOnce(&mut Reply<'_>, usize),
        mut write: impl FnMut(&mut Reply<'_>, &'a [u8], T),
    ) {
        match self {
            Self::Repeated(count) => {
                let count = if among.length == 0 { 0 } else { count };
                open(reply, count);
                // Never held as a whole: it may be far more than there is.
                for _ in 0..count {
                    let Some((name, value)) = one(among.chance) else {
                        break;
                    };
                    write(reply, name, value);
                    if reply.is_full() {
                        break;
                    }
                }
            }
            Self::Distinct(count) => {
                let picked = distinct(count, among, one);
                open(reply, picked.len());
                for (name, value) in picked {
                    write(reply, name, value);
                }
            }
        }
    }
}

/// What to pick from.
pub(super) struct Among<'c, I> {
    /// How many there are.
    pub(super) length: usize,
    /// All of them.
    pub(super) all: I,
    pub(super) chance: &'c mut fastrand::Rng,
}

/// Picks so many different elements, each by `one` where they are few.
pub(super) fn distinct<'a, T>(
    count: usize,
    among: Among<'_, impl Iterator<Item = (&'a [u8], T)>>,
    mut one: impl FnMut(&mut fastrand::Rng) -> Option<(&'a [u8], T)>,
) -> Vec<(&'a [u8], T)> {
    let Among {
        length,
        all,
        chance,
    } = among;
    if length <= count {
        return all.collect();
    }
    if length / 3 < count {
        return sample(count, length, chance, all);
    }
    let mut seen = HashSet::with_capacity(count);
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count {
        let Some((name, value)) = one(chance) else {
            break;
        };
        if seen.insert(name) {
            picked.push((name, value));
        }
    }
    picked
}

/// Takes `count` of `length` elements, each set of them as likely as every other.
///
/// Source: Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S.
fn sample<T>(
    count: usize,
    length: usize,
    chance: &mut fastrand::Rng,
    all: impl Iterator<Item = T>,
) -> Vec<T> {
    let mut picked = Vec::with_capacity(count);
    for (at, element) in all.enumerate() {
        let left = length.saturating_sub(at).max(1);
        if chance.usize(0..left) < count - picked.len() {
            picked.push(element);
        }
    }
    chance.shuffle(&mut picked);
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Protocol;

    const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];

    fn one(chance: &mut fastrand::Rng) -> Option<(&'static [u8], ())> {
        Some((NAMES[chance.usize(0..6)], ()))
    }

    fn among(
        chance: &mut fastrand::Rng,
    ) -> Among<'_, impl Iterator<Item = (&'static [u8], ())> + use<>> {
        Among {
            length: NAMES.len(),
            all: NAMES.iter().map(|&name| (name, ())),
            chance,
        }
    }

    fn pick(count: usize, seed: u64) -> Vec<&'static [u8]> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let picked = distinct(count, among(&mut chance), one);
        picked.into_iter().map(|(name, ())| name).collect()
    }

    fn reply(amount: Amount, bytes_max: usize) -> Vec<u8> {
        let (mut chance, mut out) = (fastrand::Rng::with_seed(1), Vec::new());
        let mut reply = Reply::within(&mut out, Protocol::Resp2, bytes_max);
        let open = |reply: &mut Reply<'_>, count| reply.array(count);
        let write = |reply: &mut Reply<'_>, name: &[u8], ()| reply.bulk(name);
        amount.reply(&mut reply, among(&mut chance), one, open, write);
        out
    }

    #[test]
    fn distinct_picks_are_distinct_and_reach_everything() {
        for count in 0..9 {
            let mut reached = HashSet::new();
            for seed in 0..100 {
                let picked = pick(count, seed);
                let distinct: HashSet<_> = picked.iter().copied().collect();
                assert_eq!(picked.len(), count.min(6));
                assert_eq!(distinct.len(), picked.len());
                reached.extend(distinct);
            }
            assert_eq!(reached.len(), if count == 0 { 0 } else { 6 });
        }
    }

    #[test]
    fn repeated_picks_are_as_many_as_asked_for() {
        let out = reply(Amount::Repeated(50), usize::MAX);
        assert!(out.starts_with(b"*50\r\n$1\r\n"));
        assert_eq!(out.len(), b"*50\r\n".len() + 50 * b"$1\r\na\r\n".len());
        let all = reply(Amount::Distinct(9), usize::MAX);
        assert!(all.starts_with(b"*6\r\n$1\r\na\r\n"));
    }

    #[test]
    fn far_more_than_there_is_memory_ends_at_the_limit() {
        let out = reply(Amount::Repeated(1 << 31), 1_000);
        assert!((1_000..1_020).contains(&out.len()), "{}", out.len());
    }
}
