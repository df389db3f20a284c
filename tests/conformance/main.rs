//! The conformance cases of `cases/`, through real sockets and the playground's relay.
//!
//! One playground of three regions serves all cases of a policy, one after the other: a case cuts
//! links and flushes, so that two cannot share it at a time. Every case that is left out is printed
//! with the reason. `MERIDIAN_CASE=KEY` runs those whose id starts so.

mod case;
mod pattern;
mod script;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use case::{Arg, Case, Step};
use script::Failure;
use testing::{Playground, Setup, Stopwatch, say};

const REGIONS: usize = 3;
/// All cases together, in a release build; nothing is measured in a debug build.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Why a case is not for this server yet.
fn reason_to_skip(case: &Case) -> Option<&'static str> {
    match (case.file.as_str(), case.policy.as_str()) {
        ("streams.toml", _) => Some("streams are not there yet"),
        ("hll.toml", _) => Some("HyperLogLog is not there yet"),
        (_, "oss") => Some("the OSS policy comes with clusters of nodes"),
        _ => None,
    }
}

#[test]
fn all_cases() {
    let wanted = env::var("MERIDIAN_CASE").unwrap_or_default();
    let mut by_policy: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let mut skipped = 0;
    for case in all()
        .into_iter()
        .filter(|case| case.id.starts_with(&wanted))
    {
        if let Some(reason) = reason_to_skip(&case) {
            say(&format!(
                "skip  {:8} {} ({}): {reason}",
                case.id, case.title, case.file
            ));
            skipped += 1;
        } else {
            let mut case = case;
            leave_out_steps(&mut case);
            by_policy.entry(case.policy.clone()).or_default().push(case);
        }
    }
    let started = Stopwatch::start();
    let mut ran = 0;
    let mut failed = Vec::new();
    for (policy, cases) in &by_policy {
        let setup = Setup::regions(REGIONS).policy(policy);
        let playground = Playground::start(env!("CARGO_BIN_EXE_meridian"), &setup)
            .unwrap_or_else(|error| panic!("the playground does not start: {}", error.0));
        for case in cases {
            ran += 1;
            if let Err(failure) = run_one(&playground, case) {
                say(&report(case, &failure));
                failed.push(case.id.as_str());
            }
        }
    }
    let took = started.elapsed();
    let fitting = ran - failed.len();
    say(&format!(
        "{fitting} of {ran} cases fit in {took:.1?}; {skipped} left out"
    ));
    assert!(0 < ran, "no case ran");
    assert!(failed.is_empty(), "cases that do not fit: {failed:?}");
    assert!(
        cfg!(debug_assertions) || took < TIME_LIMIT,
        "took {took:?}, the bar is {TIME_LIMIT:?}"
    );
}

/// Takes out the steps of a case that need what is not there yet, and those that look at what such
/// a step would have written; each is printed.
fn leave_out_steps(case: &mut Case) {
    let mut keys: Vec<Arg> = Vec::new();
    let mut number = 0;
    let id = case.id.clone();
    case.steps.retain(|step| {
        number += 1;
        let Step::Run { run, .. } = step else {
            return true;
        };
        let Some((Arg::Bytes(name), rest)) = run.command.split_first() else {
            return true;
        };
        let reason = match name.as_slice() {
            [b'P', b'F', ..] => "HyperLogLog is not there yet",
            b"XREAD" => "streams are not there yet",
            _ if rest.iter().any(|word| keys.contains(word)) => "it looks at what is left out",
            _ => return true,
        };
        keys.extend(rest.iter().filter(|word| word.contains(&id)).cloned());
        say(&format!(
            "skip  {id:8} step {number}, {}: {reason}",
            name.escape_ascii()
        ));
        false
    });
}

fn run_one(playground: &Playground, case: &Case) -> Result<(), Failure> {
    let started = Stopwatch::start();
    script::prepare(playground, case).map_err(|got| Failure {
        step: 0,
        doing: "heal, flush and sync before the case".to_owned(),
        expected: "in sync".to_owned(),
        got,
    })?;
    script::run(playground, case)?;
    say(&format!(
        "fits  {:8} {} ({:.1?})",
        case.id,
        case.title,
        started.elapsed()
    ));
    Ok(())
}

fn report(case: &Case, failure: &Failure) -> String {
    format!(
        "FAILS {:8} {} ({})\n    step {}:  {}\n    expected {}\n    got      {}",
        case.id, case.title, case.file, failure.step, failure.doing, failure.expected, failure.got
    )
}

/// The cases of all files, in the order of the files' names.
fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let entries = fs::read_dir(folder).expect("the cases are there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| case::read(file).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

#[test]
fn every_file_is_read_and_ids_are_unique() {
    let cases = all();
    let mut ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(count, ids.len(), "two cases share an id");
    assert!(50 < count, "only {count} cases were found");
    assert!(
        cases
            .iter()
            .all(|case| (1..=REGIONS).contains(&case.regions))
    );
    assert!(cases.iter().all(|case| !case.steps.is_empty()));
}
