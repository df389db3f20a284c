//! Containers: commands such as `CLIENT` and `CONFIG`, whose second word says what they do.

use super::{Args, CommandError, Flags, Outcome, Reply};
use crate::proxy::Call;

/// What one second word of a container does.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// Upper case.
    pub name: &'static str,
    /// How many arguments, both words included; at least so many if negative.
    pub arity: i32,
    /// What is true of it.
    pub flags: Flags,
    /// What follows the second word, in Redis's notation.
    pub syntax: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What does it.
    pub run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
}

impl Subcommand {
    /// Whether so many arguments, both words included, may be right.
    pub const fn takes(&self, count: usize) -> bool {
        if self.arity < 0 {
            self.arity.unsigned_abs() as usize <= count
        } else {
            self.arity as usize == count
        }
    }
}

/// The subcommand that arguments, whose first is the container's name, ask for: it is there, and
/// takes as many. `HELP` is everybody's, and is `None`.
pub(super) fn find(
    container: &str,
    subcommands: &'static [Subcommand],
    arguments: &[&[u8]],
) -> Result<Option<&'static Subcommand>, CommandError> {
    let name = arguments.get(1).copied().unwrap_or_default();
    let is_it = |sub: &&Subcommand| sub.name.as_bytes().eq_ignore_ascii_case(name);
    match subcommands.iter().find(is_it) {
        Some(sub) if sub.takes(arguments.len()) => Ok(Some(sub)),
        Some(sub) => Err(CommandError::WrongArity(
            format!("{container}|{}", sub.name).into(),
        )),
        None if name.eq_ignore_ascii_case(b"HELP") => match arguments.len() {
            2 => Ok(None),
            _ => Err(CommandError::WrongArity(format!("{container}|help").into())),
        },
        None => Err(CommandError::unknown_subcommand(container, name)),
    }
}

/// Runs the subcommand that is asked for.
pub(super) fn dispatch(
    container: &'static str,
    subcommands: &'static [Subcommand],
    call: &mut Call<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let Some(sub) = find(container, subcommands, args.all())? else {
        help(container, subcommands, reply);
        return Ok(());
    };
    args.next()?;
    (sub.run)(call, args, reply)
}

/// What `HELP` replies: two lines a subcommand.
fn help(container: &str, subcommands: &[Subcommand], reply: &mut Reply<'_>) {
    reply.array(1 + 2 * (subcommands.len() + 1));
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for sub in subcommands {
        reply.simple(format!("{} {}", sub.name, sub.syntax).trim_end());
        reply.simple(&format!("    {}", sub.summary));
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
