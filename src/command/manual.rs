//! docs/commands.md, made of the table: a test compares them, and writes the page when asked to.

use std::fmt::Write;

use super::{Command, table};

/// The groups, in the order of the page, with what they are called there.
const GROUPS: &[(&str, &str)] = &[
    ("string", "Strings and counters"),
    ("generic", "Keys"),
    ("hash", "Hashes"),
    ("set", "Sets"),
    ("sorted-set", "Sorted sets"),
    ("list", "Lists"),
    ("bitmap", "Bits"),
    ("transactions", "Transactions"),
    ("connection", "Connection"),
    ("server", "Node"),
    ("region", "Regions"),
];

/// The page.
fn page() -> String {
    let mut page = String::from(
        "# Commands\n\n\
         Made of the command table (`src/command`) by `UPDATE_DOCS=1 cargo test -p meridian --lib manual`.\n\
         *Arity* counts the name; a minus says \"at least\".\n\
         *Concurrently* says what two regions get that write at the same time, before they have heard of each other.\n",
    );
    for (group, title) in GROUPS {
        let rows = table::COMMANDS
            .iter()
            .filter(|command| command.group == *group);
        let mut rows: Vec<&Command> = rows.copied().collect();
        rows.sort_by_key(|command| command.name);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "\n## {title}\n\n| command | arity | does | concurrently |\n"
        );
        page.push_str("| --- | --: | --- | --- |\n");
        for row in rows {
            let Command {
                name,
                arity,
                summary,
                conflict,
                ..
            } = row;
            let _ = writeln!(page, "| `{name}` | {arity} | {summary} | {conflict} |");
            for sub in table::subcommands(name) {
                let (second, syntax) = (sub.name, sub.syntax.replace('|', "\\|"));
                let form = format!("{name} {second} {syntax}");
                let (form, arity, summary) = (form.trim_end(), sub.arity, sub.summary);
                let _ = writeln!(page, "| `{form}` | {arity} | {summary} | |");
            }
        }
    }
    page
}

#[test]
fn every_command_is_in_a_group_of_the_page() {
    for command in table::COMMANDS.iter() {
        let known = GROUPS.iter().any(|(group, _)| *group == command.group);
        assert!(known, "{} is in the group {}", command.name, command.group);
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/commands.md is not what the table says: run with UPDATE_DOCS=1"
    );
}
