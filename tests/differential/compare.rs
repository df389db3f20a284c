//! When two replies say the same.

use testing::Value;

/// Between the clocks and the turns of two servers.
const SECONDS_APART: f64 = 5.0;

/// How the replies of a command are compared; errors always by their whole text.
#[derive(Clone, Debug)]
pub(crate) enum Compare {
    /// All of it.
    Exact,
    /// The elements in any order.
    Unordered,
    /// Pairs in any order.
    Pairs,
    /// A time in seconds: nearly.
    Seconds,
    /// A time in milliseconds: nearly.
    Millis,
    /// Whether both are errors or neither.
    Ignore,
    /// The replies of a transaction, each of a command in its way.
    Transaction(Vec<(&'static str, Self)>),
}

impl Compare {
    /// Whether the two say the same.
    pub(crate) fn same(&self, redis: &Value, ours: &Value) -> bool {
        if redis.error().is_some() || ours.error().is_some() {
            return redis == ours;
        }
        match self {
            Self::Exact => redis == ours,
            Self::Unordered => sorted(redis, 1) == sorted(ours, 1),
            Self::Pairs => sorted(redis, 2) == sorted(ours, 2),
            Self::Seconds => near(redis, ours, SECONDS_APART),
            Self::Millis => near(redis, ours, SECONDS_APART * 1000.0),
            Self::Ignore => true,
            Self::Transaction(_) => self.first_difference(redis, ours).is_none(),
        }
    }

    /// Which command of a transaction differs, with its two replies; `None` if none does.
    pub(crate) fn first_difference(
        &self,
        redis: &Value,
        ours: &Value,
    ) -> Option<(&'static str, Value, Value)> {
        let Self::Transaction(commands) = self else {
            return None;
        };
        let whole = || Some(("EXEC", redis.clone(), ours.clone()));
        let (Value::Array(redis_replies), Value::Array(our_replies)) = (redis, ours) else {
            return if redis == ours { None } else { whole() };
        };
        if redis_replies.len() != our_replies.len() || redis_replies.len() != commands.len() {
            return whole();
        }
        let replies = redis_replies.iter().zip(our_replies);
        let differs = commands
            .iter()
            .zip(replies)
            .find(|((_, how), (a, b))| !how.same(a, b));
        differs.map(|((name, _), (a, b))| (*name, a.clone(), b.clone()))
    }
}

/// Groups of so many elements, in an order of their own.
fn sorted(reply: &Value, group: usize) -> Vec<String> {
    let items = reply.items().unwrap_or_else(|| vec![reply]);
    let mut groups: Vec<String> = items
        .chunks(group)
        .map(|group| format!("{group:?}"))
        .collect();
    groups.sort();
    groups
}

/// Negative numbers are not times but say that there is none.
fn near(redis: &Value, ours: &Value, apart: f64) -> bool {
    match (redis.number(), ours.number()) {
        (Some(a), Some(b)) if 0.0 <= a && 0.0 <= b => (a - b).abs() <= apart,
        _ => redis == ours,
    }
}

/// Whether two replies are equal but for how their numbers are written. Zero has no sign here.
pub(crate) fn same_numbers(redis: &Value, ours: &Value) -> bool {
    if redis == ours {
        return true;
    }
    match (redis.items(), ours.items()) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_numbers(a, b))
        }
        (None, None) => match (redis.number(), ours.number()) {
            (Some(a), Some(b)) => (a + 0.0).total_cmp(&(b + 0.0)).is_eq(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Compare, same_numbers};
    use testing::Value;

    fn reply(mut bytes: &[u8]) -> Value {
        Value::read(&mut bytes).unwrap()
    }

    #[test]
    fn order_counts_only_where_it_means_something() {
        let (ab, ba) = (reply(b"*2\r\n+a\r\n+b\r\n"), reply(b"*2\r\n+b\r\n+a\r\n"));
        assert!(!Compare::Exact.same(&ab, &ba));
        assert!(Compare::Unordered.same(&ab, &ba));
        assert!(!Compare::Pairs.same(&ab, &ba));
        assert!(!Compare::Unordered.same(&ab, &reply(b"*1\r\n+a\r\n")));
    }

    #[test]
    fn errors_differ_by_their_text() {
        for how in [
            Compare::Exact,
            Compare::Unordered,
            Compare::Ignore,
            Compare::Seconds,
        ] {
            assert!(!how.same(&reply(b"-ERR a\r\n"), &reply(b"-ERR b\r\n")));
            assert!(!how.same(&reply(b"-ERR a\r\n"), &reply(b":1\r\n")));
        }
    }

    #[test]
    fn times_are_near_but_no_time_is_no_time() {
        assert!(Compare::Seconds.same(&reply(b":100\r\n"), &reply(b":99\r\n")));
        assert!(!Compare::Seconds.same(&reply(b":100\r\n"), &reply(b":90\r\n")));
        assert!(!Compare::Seconds.same(&reply(b":-1\r\n"), &reply(b":-2\r\n")));
        assert!(!Compare::Millis.same(&reply(b":-1\r\n"), &reply(b":3\r\n")));
    }

    #[test]
    fn a_transaction_names_the_command_that_differs() {
        let how = Compare::Transaction(vec![("GET", Compare::Exact), ("TTL", Compare::Seconds)]);
        let (a, b) = (reply(b"*2\r\n+x\r\n:10\r\n"), reply(b"*2\r\n+x\r\n:99\r\n"));
        assert!(how.same(&a, &a));
        assert_eq!(
            how.first_difference(&a, &b).map(|(name, ..)| name),
            Some("TTL")
        );
        assert_eq!(
            how.first_difference(&a, &Value::Nil).map(|(name, ..)| name),
            Some("EXEC")
        );
    }

    #[test]
    fn numbers_may_be_written_differently() {
        let long = reply(b"*1\r\n$19\r\n0.10000000000000001\r\n");
        assert!(same_numbers(&long, &reply(b"*1\r\n$3\r\n0.1\r\n")));
        assert!(!same_numbers(&long, &reply(b"*1\r\n$3\r\n0.2\r\n")));
        assert!(same_numbers(&reply(b"+0\r\n"), &reply(b"+-0\r\n")));
        assert!(!same_numbers(&reply(b"+a\r\n"), &reply(b"+b\r\n")));
    }
}
