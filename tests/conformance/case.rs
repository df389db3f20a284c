//! The format of `cases/*.toml`, read into types: see `cases/README.md`.
//!
//! A key or pattern that the format does not know is an error with the file and the case, so that
//! no step is skipped in silence.

use std::path::Path;
use std::time::Duration;

use toml::{Table, Value as Toml};

use crate::pattern::Pattern;

/// A script over one to three regions with the replies that it must get.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) regions: usize,
    pub(crate) policy: String,
    pub(crate) stream_ids: Option<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// Runs in one region (`Some`) or in all of the case.
    Run {
        at: Option<usize>,
        run: Run,
    },
    Join {
        name: String,
        reply: Pattern,
    },
    Cut(usize, usize),
    /// One link, or all of the case.
    Heal(Option<(usize, usize)>),
    Sync {
        regions: Option<Vec<usize>>,
        watch: Option<(usize, Run)>,
    },
    Sleep(Duration),
}

/// A command, what it must answer, and what becomes of the reply.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) command: Vec<Arg>,
    /// `None`: anything but an error.
    pub(crate) reply: Option<Pattern>,
    pub(crate) within: Option<Duration>,
    pub(crate) save: Option<String>,
    pub(crate) background: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    Bytes(Vec<u8>),
    Var(String),
}

/// All cases of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Case>, String> {
    let file = path
        .file_name()
        .expect("a file has a name")
        .to_string_lossy()
        .into_owned();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
    let table: Table = text.parse().map_err(|error| format!("{file}: {error}"))?;
    let cases = table
        .get("case")
        .and_then(Toml::as_array)
        .ok_or_else(|| format!("{file}: no case"))?;
    let case = |case: &Toml| {
        let id = case.get("id").and_then(Toml::as_str).unwrap_or("?");
        read_case(&file, case).map_err(|error| format!("{file}: {id}: {error}"))
    };
    cases.iter().map(case).collect()
}

fn read_case(file: &str, case: &Toml) -> Result<Case, String> {
    let case = table(case)?;
    let known = [
        "id",
        "title",
        "regions",
        "policy",
        "stream_ids",
        "differs_from",
        "steps",
    ];
    check_keys(case, &known)?;
    let text = |name: &str| case.get(name).and_then(Toml::as_str).map(str::to_owned);
    let steps = case
        .get("steps")
        .and_then(Toml::as_array)
        .ok_or("no steps")?;
    let step = |(index, step): (usize, &Toml)| {
        read_step(step).map_err(|error| format!("step {}: {error}", index + 1))
    };
    Ok(Case {
        file: file.to_owned(),
        id: text("id").ok_or("no id")?,
        title: text("title").ok_or("no title")?,
        regions: case
            .get("regions")
            .map(integer)
            .transpose()?
            .ok_or("no regions")? as usize,
        policy: text("policy").unwrap_or_else(|| "enterprise".to_owned()),
        stream_ids: text("stream_ids"),
        steps: steps
            .iter()
            .enumerate()
            .map(step)
            .collect::<Result<_, _>>()?,
    })
}

fn read_step(step: &Toml) -> Result<Step, String> {
    let step = table(step)?;
    if let Some(at) = step.get("at") {
        let at = integer(at)? as usize;
        return Ok(Step::Run {
            at: Some(at),
            run: read_run(step, "run")?,
        });
    }
    if step.contains_key("all") {
        return Ok(Step::Run {
            at: None,
            run: read_run(step, "all")?,
        });
    }
    let (name, value) = step
        .iter()
        .find(|(name, _)| *name != "reply" && *name != "watch")
        .ok_or("an empty step")?;
    check_keys(
        step,
        &[name, if name == "join" { "reply" } else { "watch" }],
    )?;
    Ok(match name.as_str() {
        "join" => Step::Join {
            name: value.as_str().ok_or("join wants a name")?.to_owned(),
            reply: Pattern::read(step.get("reply").ok_or("join without reply")?)?,
        },
        "cut" => {
            let (a, b) = pair(value)?;
            Step::Cut(a, b)
        }
        "heal" => Step::Heal(if value.is_array() {
            Some(pair(value)?)
        } else {
            None
        }),
        "sync" => Step::Sync {
            regions: value.as_array().map(|_| integers(value)).transpose()?,
            watch: step.get("watch").map(read_watch).transpose()?,
        },
        "sleep_ms" => Step::Sleep(Duration::from_millis(integer(value)? as u64)),
        other => return Err(format!("unknown step `{other}`")),
    })
}

fn read_watch(watch: &Toml) -> Result<(usize, Run), String> {
    let watch = table(watch)?;
    let at = watch
        .get("at")
        .map(integer)
        .transpose()?
        .ok_or("watch without at")?;
    Ok((at as usize, read_run(watch, "run")?))
}

/// The keys of an `at` (command under `run`) or `all` step.
fn read_run(step: &Table, command: &str) -> Result<Run, String> {
    check_keys(
        step,
        &["at", command, "reply", "within_ms", "save", "background"],
    )?;
    let text = |name: &str| step.get(name).and_then(Toml::as_str).map(str::to_owned);
    let words = step
        .get(command)
        .and_then(Toml::as_array)
        .ok_or("no command")?;
    let within = step.get("within_ms").map(integer).transpose()?;
    Ok(Run {
        command: words.iter().map(Arg::read).collect::<Result<_, _>>()?,
        reply: step.get("reply").map(Pattern::read).transpose()?,
        within: within.map(|ms| Duration::from_millis(ms as u64)),
        save: text("save"),
        background: text("background"),
    })
}

impl Arg {
    /// Whether it is text that contains this.
    pub(crate) fn contains(&self, text: &str) -> bool {
        matches!(self, Self::Bytes(bytes) if String::from_utf8_lossy(bytes).contains(text))
    }

    fn read(arg: &Toml) -> Result<Self, String> {
        if let Some(int) = arg.as_integer() {
            return Ok(Self::Bytes(int.to_string().into_bytes()));
        }
        Self::read_text(arg)?.ok_or_else(|| format!("not an argument: {arg}"))
    }

    /// What is written as text, `hex`, `repeat` or `var`; `None` for anything else.
    pub(crate) fn read_text(value: &Toml) -> Result<Option<Self>, String> {
        if let Some(text) = value.as_str() {
            return Ok(Some(Self::Bytes(text.as_bytes().to_vec())));
        }
        let Some((name, value)) = value.as_table().and_then(|table| table.iter().next()) else {
            return Ok(None);
        };
        Ok(Some(match name.as_str() {
            "hex" => Self::Bytes(hex(value.as_str().ok_or("hex wants a text")?)?),
            "repeat" => {
                let parts = value.as_array().ok_or("repeat wants a text and a count")?;
                let text = parts
                    .first()
                    .and_then(Toml::as_str)
                    .ok_or("repeat wants a text")?;
                let count = parts.get(1).ok_or("repeat wants a count").map(integer)??;
                Self::Bytes(text.repeat(count as usize).into_bytes())
            }
            "var" => Self::Var(value.as_str().ok_or("var wants a name")?.to_owned()),
            _ => return Ok(None),
        }))
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
        u8::from_str_radix(pair, 16).map_err(|error| format!("{pair}: {error}"))
    };
    digits.chunks(2).map(byte).collect()
}

fn pair(value: &Toml) -> Result<(usize, usize), String> {
    match integers(value)?[..] {
        [a, b] => Ok((a, b)),
        _ => Err(format!("not two regions: {value}")),
    }
}

fn integers(value: &Toml) -> Result<Vec<usize>, String> {
    let items = value
        .as_array()
        .ok_or_else(|| format!("not a list: {value}"))?;
    items
        .iter()
        .map(|item| integer(item).map(|int| int as usize))
        .collect()
}

pub(crate) fn integer(value: &Toml) -> Result<i64, String> {
    value
        .as_integer()
        .ok_or_else(|| format!("not an integer: {value}"))
}

fn table(value: &Toml) -> Result<&Table, String> {
    value
        .as_table()
        .ok_or_else(|| format!("not a table: {value}"))
}

fn check_keys(table: &Table, known: &[&str]) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown key `{key}`")),
        None => Ok(()),
    }
}
