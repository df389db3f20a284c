//! All commands, and finding one by name.

use std::sync::LazyLock;

use super::subcommand::{self, Subcommand};
use super::{Command, CommandError, Flags};

/// The families.
static FAMILIES: &[&[Command]] = &[
    super::string::COMMANDS,
    super::counter::COMMANDS,
    super::bitfield::COMMANDS,
    super::bitmap::COMMANDS,
    super::sort::COMMANDS,
    super::zset::COMMANDS,
    super::zset::range::COMMANDS,
    super::zset::pop::COMMANDS,
    super::zset::store::COMMANDS,
    super::hash::COMMANDS,
    super::hash_expiry::COMMANDS,
    super::list::COMMANDS,
    super::list_wait::COMMANDS,
    super::set::COMMANDS,
    super::keys::COMMANDS,
    super::dump::COMMANDS,
    super::expiry::COMMANDS,
    super::keyspace::COMMANDS,
    super::transaction::COMMANDS,
    super::connection::COMMANDS,
    super::client::COMMANDS,
    super::config::COMMANDS,
    super::memory::COMMANDS,
    super::observe::COMMANDS,
    super::persistence::COMMANDS,
    super::server::COMMANDS,
    super::info::COMMANDS,
    super::introspect::COMMANDS,
    super::region::COMMANDS,
];

/// The containers, and what their second words are.
static CONTAINERS: &[(&str, &[Subcommand])] = &[
    ("CLIENT", super::client::SUBCOMMANDS),
    ("COMMAND", super::introspect::SUBCOMMANDS),
    ("CONFIG", super::config::SUBCOMMANDS),
    ("DEBUG", super::observe::DEBUG),
    ("LATENCY", super::observe::LATENCY),
    ("MEMORY", super::memory::MEMORY),
    ("REGION", super::region::SUBCOMMANDS),
    ("SLOWLOG", super::observe::SLOWLOG),
];

/// The subcommands of a container; none of any other command.
pub(super) fn subcommands(container: &str) -> &'static [Subcommand] {
    let found = CONTAINERS.iter().find(|(name, _)| *name == container);
    found.map_or(&[], |(_, subcommands)| subcommands)
}

/// Checks the second word of a container, and the number of arguments.
pub fn check_subcommand(command: &Command, arguments: &[&[u8]]) -> Result<(), CommandError> {
    if arguments.len() < 2 {
        return Ok(());
    }
    subcommand::find(command.name, subcommands(command.name), arguments).map(|_| ())
}

/// Whether a command that takes these arguments runs on a node that does not serve yet: the flags
/// say so, and help is always given.
pub fn runs_while_loading(command: &Command, arguments: &[&[u8]]) -> bool {
    if !command.flags.has(Flags::CONTAINER) || arguments.len() < 2 {
        return command.flags.has(Flags::LOADING);
    }
    let found = subcommand::find(command.name, subcommands(command.name), arguments);
    found.is_ok_and(|sub| sub.is_none_or(|sub| sub.flags.has(Flags::LOADING)))
}

/// Every command, family by family.
pub static COMMANDS: LazyLock<Vec<&'static Command>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().collect());

/// Places for names: a power of two, and several times as many as there are commands.
const PLACES: usize = 2048;

/// Where each command is: its number from 1 on, or 0.
static PLACED: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let mut places = vec![0; PLACES];
    for (number, command) in (1..).zip(COMMANDS.iter()) {
        let free = probes(command.name.as_bytes()).find(|&at| places[at] == 0);
        places[free.expect("there are more places than commands")] = number;
    }
    places
});

/// The command of this name, in upper or lower case. Costs O(1).
pub fn find(name: &[u8]) -> Option<&'static Command> {
    number_of(name).map(|number| COMMANDS[number])
}

/// The place among [`COMMANDS`] of the one of this name, in upper or lower case. Costs O(1).
pub fn number_of(name: &[u8]) -> Option<usize> {
    let places = &*PLACED;
    let numbers = probes(name)
        .map(|at| usize::from(places[at]))
        .take_while(|&number| number != 0);
    let is_it = |number: &usize| COMMANDS[*number].name.as_bytes().eq_ignore_ascii_case(name);
    numbers.map(|number| number - 1).find(is_it)
}

/// The places at which to look for a name, one after the other.
fn probes(name: &[u8]) -> impl Iterator<Item = usize> {
    // FNV-1a; names come from clients, but the table does not grow by them.
    let mix = |hash: u64, byte: &u8| {
        (hash ^ u64::from(byte.to_ascii_uppercase())).wrapping_mul(0x0100_0000_01b3)
    };
    let hash = name.iter().take(32).fold(0xcbf2_9ce4_8422_2325, mix);
    let start = (hash ^ hash >> 32) as usize;
    (0..PLACES).map(move |step| (start + step) % PLACES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_found_whatever_its_case() {
        for command in COMMANDS.iter() {
            let found = find(command.name.to_ascii_lowercase().as_bytes()).expect(command.name);
            assert_eq!(found.name, command.name);
        }
        assert!(find(b"NOSUCH").is_none());
        assert!(find(b"").is_none());
    }

    #[test]
    fn rows_make_sense() {
        let mut names = BTreeSet::new();
        for command in COMMANDS.iter() {
            assert!(
                names.insert(command.name),
                "{} is there twice",
                command.name
            );
            assert_eq!(command.name, command.name.to_ascii_uppercase());
            assert!(command.summary.ends_with('.'), "{}", command.name);
            assert_eq!(
                command.writes(),
                !command.conflict.is_empty(),
                "{}",
                command.name
            );
        }
    }

    /// As `COMMAND INFO` of Redis 7.0 says; what Redis does not have is about regions.
    #[test]
    fn what_runs_while_loading() {
        let runs = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            runs_while_loading(find(words[0]).expect(line), &words)
        };
        for line in [
            "INFO",
            "HELLO",
            "AUTH x",
            "SELECT 0",
            "MULTI",
            "EXEC",
            "WATCH k",
            "COMMAND",
            "COMMAND COUNT",
            "CONFIG GET x",
            "CLIENT LIST",
            "SLOWLOG LEN",
            "LATENCY LATEST",
            "MONITOR",
            "SHUTDOWN",
            "TIME",
            "MEMORY HELP",
            "REGION LIST",
            "REGION ACCEPT-LOSS",
            "REGION ACCEPT-CLOCK x",
        ] {
            assert!(runs(line), "{line}");
        }
        for line in [
            "PING",
            "GET k",
            "SET k v",
            "DBSIZE",
            "FLUSHALL",
            "LOLWUT",
            "MEMORY USAGE k",
            "REGION DIGEST",
            "REGION EXPLAIN k",
        ] {
            assert!(!runs(line), "{line}");
        }
    }

    #[test]
    fn containers_and_their_subcommands_agree() {
        for command in COMMANDS.iter() {
            let subcommands = subcommands(command.name);
            assert_eq!(
                command.flags.has(Flags::CONTAINER),
                !subcommands.is_empty(),
                "{}",
                command.name
            );
            let names: BTreeSet<&str> = subcommands.iter().map(|sub| sub.name).collect();
            assert_eq!(names.len(), subcommands.len(), "{}", command.name);
            for sub in subcommands {
                assert_eq!(sub.name, sub.name.to_ascii_uppercase());
                assert!(sub.summary.ends_with('.') && 2 <= sub.arity.unsigned_abs());
            }
        }
    }
}
