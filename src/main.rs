//! The `meridian` binary: arguments in, exit code out.
//!
//! 0 after a clean stop; 1 with one line on stderr that says what is wrong and where; 2 for a usage
//! error, by clap.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use meridian::config::{Config, RawConfig};
use meridian::playground::{self, Request, Setup};
use meridian::{admin, backup, import, node, process, telemetry};

/// An active-active, geo-replicated database that speaks the Redis protocol
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one node
    Serve(Box<RawConfig>),
    /// Runs several regions on this machine, or changes one that runs
    Playground(Box<Playground>),
    /// Works on a node that runs
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Writes the keys of a Redis RDB file into a node
    Import(import::Options),
    /// Looks at the regions of a database, and changes them
    Region(RegionCommand),
    /// Copies the data of a node that runs
    Backup(BackupCommand),
    /// Makes a data directory of a backup, for a node that is down
    Restore(backup::Options),
    /// Has shards whose logs are damaged filled up by other regions, at the next start of the node
    Repair(RepairCommand),
}

#[derive(Debug, Args)]
struct BackupCommand {
    #[command(flatten)]
    target: admin::Target,
    #[command(flatten)]
    backup: admin::Backup,
}

#[derive(Debug, Args)]
struct RepairCommand {
    #[command(flatten)]
    target: admin::Target,
    #[command(flatten)]
    repair: admin::Repair,
}

#[derive(Debug, Args)]
struct RegionCommand {
    #[command(flatten)]
    target: admin::Target,
    #[command(subcommand)]
    region: admin::Region,
}

#[derive(Debug, Args)]
struct Playground {
    #[command(flatten)]
    setup: Setup,
    /// HTTP port, on 127.0.0.1, that a running playground is changed by
    #[arg(long, value_name = "PORT", default_value_t = 7000, global = true)]
    control_port: u16,
    #[command(subcommand)]
    request: Option<Request>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a cause may contain; a closed stderr is nobody's loss.
            let line = format!("{error:#}").replace('\n', "; ");
            let _ = writeln!(io::stderr(), "{line}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(raw) => {
            let config = Config::load(&raw)?;
            if let Some(pid) = config.exit_with_parent {
                process::end_with_parent(pid)?;
            }
            telemetry::start(&config.log);
            node::run(&config)?;
        }
        Command::Playground(command) => match command.request {
            None => playground::run(&command.setup, command.control_port)?,
            Some(request) => writeln!(io::stdout(), "{}", request.send(command.control_port)?)?,
        },
        Command::Admin(Admin::Import(options)) => import::run(&options)?,
        Command::Admin(Admin::Region(RegionCommand { target, region })) => {
            writeln!(io::stdout(), "{}", region.run(&target)?)?;
        }
        Command::Admin(Admin::Backup(BackupCommand { target, backup })) => {
            writeln!(io::stdout(), "{}", backup.run(&target)?)?;
        }
        Command::Admin(Admin::Repair(RepairCommand { target, repair })) => {
            writeln!(io::stdout(), "{}", repair.run(&target)?)?;
        }
        Command::Admin(Admin::Restore(options)) => {
            writeln!(io::stdout(), "{}", backup::run(&options)?)?;
        }
    }
    Ok(())
}
