//! The house rules that a machine can check: layers, sizes, module docs, banned words, links.
//!
//! Every rule collects all its offences, so that one run names everything there is to mend. An
//! exception is written here, next to the rule, with its reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The visible top level of the repository, fixed.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crdt",
    "deploy",
    "docs",
    "geo",
    "src",
    "target",
    "tests",
];

/// A file is one idea: past this it is split by what users would call different things.
const LINES_MAX: usize = 600;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Columns of a comment or of a line of code; rustfmt sees to the code.
const COLUMNS_MAX: usize = 100;

/// Words that must not occur in Rust sources (this file names them, so it is left out).
const BANNED: &[(&str, &str)] = &[
    ("dbg!(", "left over from debugging"),
    ("todo!(", "nothing lands unfinished"),
    ("unimplemented!(", "nothing lands unfinished"),
    ("unbounded_channel", "every queue has a bound"),
    ("mpsc::channel()", "every queue has a bound: sync_channel"),
    ("#[allow(", "#[expect(…, reason = …)] dies with its cause"),
    ("#![allow(", "#![expect(…, reason = …)] dies with its cause"),
    ("#[ignore]", "an ignored test has a reason and an owner"),
];

/// Paths of somebody's machine: they mean nothing to a reader of the project.
const BANNED_PATHS: &[&str] = &["/work/", "/home/", "/root/"];

/// Words that the pure cores do not know: time, chance, tasks and sockets are handed in.
const IMPURE: &[&str] = &[
    "tokio",
    "quinn",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "Instant::now",
    "SystemTime",
    "fastrand",
];

#[test]
fn every_source_file_says_what_it_is_for() {
    let mut offences = Offences::default();
    for file in rust_files() {
        if !file.text.starts_with("//! ") {
            offences.add(&file, 1, "does not start with a module doc (`//! …`)");
        }
    }
    offences.check();
}

#[test]
fn files_and_lines_have_a_size() {
    let mut offences = Offences::default();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let excepted = LONGER.iter().any(|(path, _)| *path == file.path);
        if LINES_MAX < lines && !excepted {
            offences.add(&file, lines, &format!("is longer than {LINES_MAX} lines"));
        }
        for (number, line) in file.lines() {
            let is_comment = line.trim_start().starts_with("//");
            if is_comment && COLUMNS_MAX < line.chars().count() {
                offences.add(&file, number, &format!("comment past column {COLUMNS_MAX}"));
            }
        }
    }
    for (path, _) in LONGER {
        let lines = read(path).lines().count();
        assert!(LINES_MAX < lines, "{path} no longer needs its exception");
    }
    offences.check();
}

#[test]
fn banned_words_do_not_occur() {
    let mut offences = Offences::default();
    for file in rust_files()
        .into_iter()
        .filter(|file| file.path != "tests/tidy.rs")
    {
        for (number, line) in file.lines() {
            for (word, reason) in BANNED {
                if line.contains(word) {
                    offences.add(&file, number, &format!("`{word}`: {reason}"));
                }
            }
        }
    }
    offences.check();
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let mut offences = Offences::default();
    let text_files = files(&["rs", "toml", "md", "sh", "py", "yml", "yaml", "run"]);
    for file in text_files
        .into_iter()
        .filter(|file| file.path != "tests/tidy.rs")
    {
        for (number, line) in file.lines() {
            for path in BANNED_PATHS {
                if line.contains(path) {
                    offences.add(&file, number, &format!("names `{path}`"));
                }
            }
        }
    }
    offences.check();
}

/// Tests wait for a condition with a deadline. The one place that may sleep is the helper that does
/// so between two looks (and a conformance case that asks for it).
#[test]
fn tests_do_not_sleep() {
    let mut offences = Offences::default();
    for file in rust_files() {
        let exempt = file.path == "tests/tidy.rs" || file.path.starts_with("tests/common/");
        if exempt {
            continue;
        }
        let mut in_tests = file.path.contains("tests");
        let mut next = file.text.lines().skip(1);
        for (number, line) in file.lines() {
            // Tests in a file of their own have its path.
            let elsewhere = next.next().is_some_and(|next| next.ends_with(';'));
            in_tests |= line.trim() == "#[cfg(test)]" && !elsewhere;
            if in_tests && (line.contains("thread::sleep") || line.contains("time::sleep")) {
                offences.add(&file, number, "a test sleeps; wait for a condition");
            }
        }
    }
    offences.check();
}

/// Invariant 2 of docs/architecture.md, in words; `.ci/run` also proves it by compilation.
#[test]
fn pure_cores_name_no_clock_socket_or_task() {
    let mut offences = Offences::default();
    for file in rust_files() {
        if !(file.path.starts_with("crdt/src") || file.path.starts_with("geo/src/proto")) {
            continue;
        }
        for (number, line) in file.lines().filter(|(_, line)| !is_comment(line)) {
            for word in IMPURE {
                if line.contains(word) {
                    offences.add(&file, number, &format!("names `{word}`"));
                }
            }
        }
    }
    offences.check();
}

/// Errors of the library are types that callers react to; `anyhow` is for `main.rs` and tests.
#[test]
fn anyhow_stays_in_main() {
    let mut offences = Offences::default();
    for file in rust_files() {
        if file.path == "src/main.rs" || file.path.starts_with("tests/") {
            continue;
        }
        for (number, line) in file.lines().filter(|(_, line)| !is_comment(line)) {
            if line.contains("anyhow") {
                offences.add(&file, number, "names `anyhow`");
            }
        }
    }
    offences.check();
}

/// bincode 1.3.3 is the last release of its line: pinned, and behind one module with one set of
/// options, because its free functions know no limits.
#[test]
fn bincode_is_pinned_and_behind_one_module() {
    assert!(
        read("Cargo.toml").contains("bincode = \"=1.3.3\""),
        "bincode is not pinned to =1.3.3"
    );
    let users: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| file.path != "tests/tidy.rs")
        .filter(|file| {
            file.lines()
                .any(|(_, line)| !is_comment(line) && line.contains("bincode::"))
        })
        .map(|file| file.path)
        .collect();
    assert!(
        users.len() <= 1,
        "more than one module names bincode: {users:?}"
    );
}

/// A version is written once, in the workspace.
#[test]
fn members_take_their_versions_from_the_workspace() {
    let mut offences = Offences::default();
    for file in files(&["toml"])
        .into_iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
    {
        let mut dependencies = false;
        for (number, line) in file.lines() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies]") && !line.contains("workspace");
            } else if dependencies && line.contains('=') && !line.contains("workspace") {
                offences.add(&file, number, "gives a version or path of its own");
            }
        }
    }
    offences.check();
}

#[test]
fn the_top_level_is_the_fixed_set() {
    let allowed: BTreeSet<&str> = TOP_LEVEL.iter().copied().collect();
    let found = fs::read_dir(root()).expect("the root is readable");
    let strangers: Vec<String> = found
        .map(|entry| {
            entry
                .expect("the root is readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "not of the top level: {strangers:?}");
}

#[test]
fn relative_links_in_markdown_lead_somewhere() {
    let mut offences = Offences::default();
    for file in files(&["md"]) {
        let folder = Path::new(&file.path)
            .parent()
            .expect("a file has a folder")
            .to_path_buf();
        for (number, line) in file.lines() {
            for target in link_targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                let leads_outside = target.contains("://") || target.starts_with("mailto:");
                if !leads_outside && !path.is_empty() && !root().join(&folder).join(path).exists() {
                    offences.add(&file, number, &format!("link to `{target}` leads nowhere"));
                }
            }
        }
    }
    offences.check();
}

/// A text file of the repository.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// What one rule found.
#[derive(Default)]
struct Offences(String);

impl Offences {
    fn add(&mut self, file: &File, line: usize, what: &str) {
        writeln!(self.0, "{}:{line}: {what}", file.path).expect("a String takes everything");
    }

    #[track_caller]
    fn check(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn rust_files() -> Vec<File> {
    let found = files(&["rs"]);
    assert!(
        found.iter().any(|file| file.path == "src/main.rs"),
        "the walk is broken"
    );
    found
}

/// Every file below the root with one of these extensions, or one of these names without any.
fn files(extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository is readable") {
            let path = entry
                .expect("a folder of the repository is readable")
                .path();
            let name = path
                .file_name()
                .expect("an entry has a name")
                .to_string_lossy();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
                continue;
            }
            let extension = path
                .extension()
                .map_or(name, |extension| extension.to_string_lossy());
            if extensions.contains(&&*extension) {
                let relative = path.strip_prefix(root()).expect("found below the root");
                let relative = relative.to_string_lossy().replace('\\', "/");
                found.push(File {
                    text: read(&relative),
                    path: relative,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The targets of the inline links `[text](target)` of a line of Markdown.
fn link_targets(line: &str) -> Vec<&str> {
    line.match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split_once(')').map(|(target, _)| target))
        .map(|target| target.split_whitespace().next().unwrap_or_default())
        .collect()
}

#[test]
fn link_targets_finds_every_link() {
    let line = "see [one](a.md#x) and ![two](b.png \"title\"), not (c.md)";
    assert_eq!(link_targets(line), ["a.md#x", "b.png"]);
}
