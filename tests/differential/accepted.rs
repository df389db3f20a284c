//! The written list of differences that are meant, `accepted.toml`.

use serde::Deserialize;
use testing::Value;

use crate::compare::same_numbers;

/// One accepted difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Names as in the rows; `*` is all.
    commands: Vec<String>,
    allow: Allow,
    /// How Redis's error starts, where `allow` is `error`.
    #[serde(default)]
    redis: String,
    /// How ours starts.
    #[serde(default)]
    ours: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allow {
    /// The same numbers, written differently.
    Numbers,
    /// Anything, as long as neither is an error.
    Value,
    /// Two errors that start so.
    Error,
    /// An error of ours that starts so, where Redis 7.0 has a value.
    Refused,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    accepted: Vec<Rule>,
}

/// The list, and how often each entry was needed.
#[derive(Debug)]
pub(crate) struct Accepted {
    rules: Vec<Rule>,
    uses: Vec<usize>,
}

impl Accepted {
    pub(crate) fn read() -> Self {
        let list: List = toml::from_str(include_str!("accepted.toml")).expect("the list is TOML");
        let uses = vec![0; list.accepted.len()];
        Self {
            rules: list.accepted,
            uses,
        }
    }

    /// Whether a difference is on the list.
    pub(crate) fn allows(&mut self, command: &str, redis: &Value, ours: &Value) -> bool {
        let allowed = self.rules.iter().position(|rule| {
            rule.commands
                .iter()
                .any(|name| name == command || name == "*")
                && rule.fits(redis, ours)
        });
        if let Some(at) = allowed {
            self.uses[at] += 1;
        }
        allowed.is_some()
    }

    /// A line for each entry that was needed.
    pub(crate) fn report(&self) -> Vec<String> {
        let used = self
            .rules
            .iter()
            .zip(&self.uses)
            .filter(|(_, uses)| 0 < **uses);
        used.map(|(rule, uses)| format!("accepted {uses} times: {}", rule.reason))
            .collect()
    }
}

impl Rule {
    fn fits(&self, redis: &Value, ours: &Value) -> bool {
        match (&self.allow, redis.error(), ours.error()) {
            (Allow::Error, Some(theirs), Some(own)) => {
                theirs.starts_with(&self.redis) && own.starts_with(&self.ours)
            }
            (Allow::Refused, None, Some(own)) => own.starts_with(&self.ours),
            (Allow::Numbers, None, None) => same_numbers(redis, ours),
            (Allow::Value, None, None) => true,
            _ => false,
        }
    }
}
