//! What was run, what succeeded, and what differed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use testing::{Value, say};

use crate::generator::Words;

/// Commands kept to show what led to a difference.
const HISTORY: usize = 3_000;
/// Of one command; more say nothing new.
const EXAMPLES: usize = 2;
/// After so many differences the rest is not worth the time.
const DIFFERENCES_MAX: usize = 300;

#[derive(Default)]
struct Count {
    all: usize,
    succeeded: usize,
}

/// Counts and findings of a run.
#[derive(Default)]
pub(crate) struct Tally {
    commands: BTreeMap<&'static str, Count>,
    families: BTreeMap<&'static str, Count>,
    history: VecDeque<Words>,
    examples: BTreeMap<&'static str, Vec<String>>,
    /// Commands that ours does not know.
    unknown: BTreeSet<&'static str>,
    differences: usize,
}

impl Tally {
    /// A command was answered by Redis, with an error or not.
    pub(crate) fn ran(&mut self, name: &'static str, family: &'static str, succeeded: bool) {
        let counts = [
            self.commands.entry(name).or_default(),
            self.families.entry(family).or_default(),
        ];
        for count in counts {
            count.all += 1;
            count.succeeded += usize::from(succeeded);
        }
    }

    pub(crate) fn remember(&mut self, command: &Words) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(command.clone());
    }

    /// A reply differs. Shown with the commands on the same keys that came before.
    pub(crate) fn differs(
        &mut self,
        name: &'static str,
        command: &Words,
        redis: &Value,
        ours: &Value,
    ) {
        if ours
            .error()
            .is_some_and(|text| text.starts_with("ERR unknown command"))
        {
            self.unknown.insert(name);
            return;
        }
        self.differences += 1;
        let examples = self.examples.entry(name).or_default();
        if examples.len() == EXAMPLES {
            return;
        }
        let keys: Vec<&Vec<u8>> = command
            .iter()
            .filter(|word| word.starts_with(b"{"))
            .collect();
        let touches = |earlier: &&Words| earlier.iter().any(|word| keys.contains(&word));
        let mut before: Vec<String> = self
            .history
            .iter()
            .rev()
            .filter(touches)
            .take(12)
            .map(line)
            .collect();
        before.reverse();
        let before = before.join("\n      ");
        examples.push(format!(
            "{}\n    redis: {redis:?}\n    ours:  {ours:?}\n    before:\n      {before}",
            line(command)
        ));
    }

    /// The whole contents differ.
    pub(crate) fn state_differs(&mut self, found: &[String]) {
        self.differences += 1;
        let examples = self.examples.entry("(whole state)").or_default();
        if examples.len() < EXAMPLES {
            examples.push(found[..found.len().min(10)].join("\n    "));
        }
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        DIFFERENCES_MAX <= self.differences
    }

    /// Prints it all.
    pub(crate) fn report(&self) {
        for (name, examples) in &self.examples {
            for example in examples {
                say(&format!("  {name} differs: {example}"));
            }
        }
        if !self.unknown.is_empty() {
            say(&format!("  unknown to ours: {:?}", self.unknown));
        }
        let counts: Vec<String> = self
            .commands
            .iter()
            .map(|(name, count)| format!("{name} {}", count.all))
            .collect();
        say(&format!("  commands: {}", counts.join(", ")));
        for (family, count) in &self.families {
            let percent = 100 * count.succeeded / count.all;
            say(&format!(
                "  {family}: {} commands, {percent} % succeeded",
                count.all
            ));
        }
    }

    /// Panics if anything differed, or the run was not what it claims to be: `least` of each
    /// command, and 60 % of each family without an error.
    #[track_caller]
    pub(crate) fn check(&self, least: usize) {
        let names: Vec<&&str> = self.examples.keys().chain(&self.unknown).collect();
        assert!(names.is_empty(), "replies differ, of {names:?}");
        for (family, count) in &self.families {
            assert!(
                60 * count.all <= 100 * count.succeeded,
                "too many errors in {family}"
            );
        }
        let rare: Vec<(&&str, usize)> = self
            .commands
            .iter()
            .map(|(name, count)| (name, count.all))
            .filter(|(_, count)| *count < least)
            .collect();
        assert!(rare.is_empty(), "fewer than {least} of {rare:?}");
    }
}

fn line(command: &Words) -> String {
    let words = command
        .iter()
        .map(|word| match word.escape_ascii().to_string() {
            word if word.is_empty() => "\"\"".to_owned(),
            word => word,
        });
    words.collect::<Vec<_>>().join(" ")
}
