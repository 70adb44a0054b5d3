//! The command line: parsing it and printing the answer. Answers go to standard output, everything else to standard
//! error.

use super::{
    cluster::{ClusterArgs, observe_cluster},
    error::VerbFailure,
    verbs::Verb,
};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::{ffi::OsString, io::Write, path::Path, process::ExitCode};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  an error of the plugin itself
  2  wrong command line
  3  not found, invalid, or manual intervention required
  4  timed out, or the Tenant is not served yet
  5  permission denied
  6  the cluster can't be reached
  7  the object belongs to another owner";

/// Inspect and manage the Tenants of a shared agent API.
#[derive(Debug, Parser)]
#[command(name = "kubectl-tenant", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// Runs the plugin with these arguments (the first one is the program's own name) and returns its exit code.
pub async fn run(args: Vec<OsString>) -> ExitCode {
    // One crypto library per process; an error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = Cli::command().bin_name(bin_name(args.first()));
    let cli = match command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help is printed to standard output with 0, a usage error to standard error with 2. A closed pipe is ignored.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match answer(&cli).await {
        Ok(text) => {
            print_output(&text);
            ExitCode::SUCCESS
        }
        Err(VerbFailure { error, output, details }) => {
            print_output(&output);
            eprint!("{details}");
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn answer(cli: &Cli) -> Result<String, VerbFailure> {
    let cluster = observe_cluster(&cli.cluster).await?;
    cli.verb.run(&cluster).await
}

/// Ignores errors: a reader such as `head` may have closed the pipe.
fn print_output(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The name that the help shows: kubectl runs `kubectl-tenant` for `kubectl tenant`.
fn bin_name(program: Option<&OsString>) -> String {
    let file = program.and_then(|p| Path::new(p).file_name()).map(|f| f.to_string_lossy().into_owned());
    match file.as_deref().map(|f| f.strip_prefix("kubectl-").ok_or(f)) {
        Some(Ok(plugin)) => format!("kubectl {plugin}"),
        Some(Err(other)) => other.to_owned(),
        None => "kubectl tenant".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_the_command_that_was_typed() {
        let name = |program: &str| bin_name(Some(&program.into()));
        assert_eq!(name("/usr/local/bin/kubectl-tenant"), "kubectl tenant");
        assert_eq!(name("tenant"), "tenant");
        let help = |args: &[&str]| {
            let command = Cli::command().bin_name(name("kubectl-tenant"));
            command.try_get_matches_from(args).unwrap_err().to_string()
        };
        assert!(help(&["kubectl-tenant", "-h"]).contains("Usage: kubectl tenant [OPTIONS] <COMMAND>"));
        assert!(help(&["kubectl-tenant", "wait", "-h"]).contains("Usage: kubectl tenant wait [OPTIONS] <NAME>"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
