//! Runs one case against a playground.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testing::{Client, Deadline, Playground, Value, wait_until};

use crate::case::{Arg, Case, Run, Step};
use crate::pattern::{Pattern, Vars};

const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// A step that did not get what it must.
#[derive(Debug)]
pub(crate) struct Failure {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) doing: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// Heals, empties and isolates, so that a case starts from nothing with its own regions only.
pub(crate) fn prepare(playground: &Playground, case: &Case) -> Result<(), String> {
    playground.heal_all();
    let all: Vec<usize> = (1..=playground.regions()).collect();
    let mut clients = connect(playground, &all);
    for (_, client) in &mut clients {
        client.run(&["FLUSHALL"]);
        if let Some(mode) = &case.stream_ids {
            client.run(&["CONFIG", "SET", "stream-id-mode", mode]);
        }
    }
    if !wait_until(SYNC_LIMIT, || playground.in_sync(&mut clients, |_, _| true)) {
        return Err(format!("not in sync after a heal\n{}", playground.log()));
    }
    for outside in case.regions + 1..=playground.regions() {
        for other in 1..outside {
            playground.cut(other, outside);
        }
    }
    Ok(())
}

/// Runs the steps in order and stops at the first that fails.
pub(crate) fn run(playground: &Playground, case: &Case) -> Result<(), Failure> {
    let regions: Vec<usize> = (1..=case.regions).collect();
    let mut script = Script {
        playground,
        clients: connect(playground, &regions),
        cut: Vec::new(),
        vars: Vars::new(),
        waiting: BTreeMap::new(),
    };
    for (index, step) in case.steps.iter().enumerate() {
        script.step(step).map_err(|mut failure| {
            failure.step = index + 1;
            failure
        })?;
    }
    Ok(())
}

struct Script<'a> {
    playground: &'a Playground,
    /// One connection a region, in order.
    clients: Vec<(usize, Client)>,
    /// Links that are cut, the lower region first.
    cut: Vec<(usize, usize)>,
    vars: Vars,
    /// Commands in the background.
    waiting: BTreeMap<String, JoinHandle<Value>>,
}

impl Script<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Run { at: Some(at), run } if run.background.is_some() => {
                self.start(*at, run);
                Ok(())
            }
            Step::Run { at, run } => self.run(*at, run),
            Step::Join { name, reply } => {
                let handle = self
                    .waiting
                    .remove(name)
                    .expect("a case joins what it started");
                let got = handle.join().expect("a client does not panic");
                self.judge(&format!("join {name}"), Some(reply), &[got])
            }
            Step::Cut(a, b) => {
                self.playground.cut(*a, *b);
                self.cut.push((*a.min(b), *a.max(b)));
                Ok(())
            }
            Step::Heal(link) => {
                self.heal(*link);
                Ok(())
            }
            Step::Sync { regions, watch } => self.sync(regions.as_deref(), watch.as_ref()),
            Step::Sleep(time) => {
                let deadline = Deadline::after(*time);
                let _ = wait_until(*time, || deadline.has_passed());
                Ok(())
            }
        }
    }

    fn heal(&mut self, link: Option<(usize, usize)>) {
        let healed = |cut: &(usize, usize)| link.is_none_or(|(a, b)| *cut == (a.min(b), a.max(b)));
        let (healed, left) = self.cut.drain(..).partition(healed);
        self.cut = left;
        let healed: Vec<(usize, usize)> = healed;
        for (a, b) in healed {
            self.playground.heal(a, b);
        }
    }

    fn start(&mut self, at: usize, run: &Run) {
        let name = run.background.clone().expect("the caller looked");
        let mut client = self.playground.client(at);
        let command = self.words(&run.command);
        let handle = thread::spawn(move || client.run(&command));
        self.waiting.insert(name, handle);
    }

    /// Runs in one region or in all, again and again while there is time and it does not fit.
    fn run(&mut self, at: Option<usize>, run: &Run) -> Result<(), Failure> {
        let command = self.words(&run.command);
        let mut replies = Vec::new();
        let fitted = wait_until(run.within.unwrap_or_default(), || {
            let clients = self.clients.iter_mut();
            let mut here = clients.filter(|(region, _)| at.is_none_or(|at| at == *region));
            replies = here
                .by_ref()
                .map(|(_, client)| client.run(&command))
                .collect();
            fit(run.reply.as_ref(), &replies, &self.vars)
        });
        if let (Some(name), [reply]) = (&run.save, &replies[..]) {
            self.vars.insert(name.clone(), reply.clone());
        }
        if fitted {
            return Ok(());
        }
        let place = at.map_or_else(|| "all".to_owned(), |at| format!("at {at}"));
        self.judge(
            &format!("{place}: {}", shown(&command)),
            run.reply.as_ref(),
            &replies,
        )
    }

    fn sync(
        &mut self,
        regions: Option<&[usize]>,
        watch: Option<&(usize, Run)>,
    ) -> Result<(), Failure> {
        let wanted = |region: usize| regions.is_none_or(|regions| regions.contains(&region));
        let members: Vec<usize> = self
            .clients
            .iter()
            .map(|(region, _)| *region)
            .filter(|region| wanted(*region))
            .collect();
        let mut clients = connect(self.playground, &members);
        let cut = self.cut.clone();
        let linked = |a: usize, b: usize| !cut.contains(&(a.min(b), a.max(b)));
        let deadline = Deadline::after(SYNC_LIMIT);
        loop {
            let in_sync = self.playground.in_sync(&mut clients, linked);
            if let Some((at, run)) = watch {
                self.run(Some(*at), run)?;
            }
            if in_sync {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(Failure {
                    step: 0,
                    doing: format!("sync of {members:?}"),
                    expected: format!("in sync within {SYNC_LIMIT:?}"),
                    got: lists(&mut clients),
                });
            }
            let _ = wait_until(Duration::from_millis(2), || false);
        }
    }

    fn words(&self, command: &[Arg]) -> Vec<Vec<u8>> {
        let word = |arg: &Arg| match arg {
            Arg::Bytes(bytes) => bytes.clone(),
            Arg::Var(name) => {
                let saved = &self.vars[name];
                let int = saved.int().map(|int| int.to_string().into_bytes());
                int.or_else(|| saved.bytes().map(<[u8]>::to_vec))
                    .expect("a string was saved")
            }
        };
        command.iter().map(word).collect()
    }

    fn judge(
        &self,
        doing: &str,
        pattern: Option<&Pattern>,
        replies: &[Value],
    ) -> Result<(), Failure> {
        if fit(pattern, replies, &self.vars) {
            return Ok(());
        }
        let expected = pattern.map_or_else(|| "no error".to_owned(), |p| format!("{p:?}"));
        let got: Vec<String> = replies.iter().map(|reply| format!("{reply:?}")).collect();
        Err(Failure {
            step: 0,
            doing: doing.to_owned(),
            expected,
            got: got.join("  |  "),
        })
    }
}

fn fit(pattern: Option<&Pattern>, replies: &[Value], vars: &Vars) -> bool {
    match pattern {
        Some(pattern) => pattern.fits_all(replies, vars),
        None => replies.iter().all(|reply| reply.error().is_none()),
    }
}

fn connect(playground: &Playground, regions: &[usize]) -> Vec<(usize, Client)> {
    regions
        .iter()
        .map(|region| (*region, playground.client(*region)))
        .collect()
}

/// What every region says of the others, for the report.
fn lists(clients: &mut [(usize, Client)]) -> String {
    let list = |(region, client): &mut (usize, Client)| {
        let (list, digest) = (
            client.run(&["REGION", "LIST"]),
            client.run(&["REGION", "DIGEST"]),
        );
        format!("region {region}: digest {digest:?}, {list:?}")
    };
    clients
        .iter_mut()
        .map(list)
        .collect::<Vec<_>>()
        .join("\n             ")
}

fn shown(command: &[Vec<u8>]) -> String {
    let words = command.iter().map(|word| word.escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}
