//! The command line: what can be asked, and what is printed where. Answers go to standard output, everything else to
//! standard error.

use super::{
    cluster::{ClusterArgs, observe_cluster},
    data::{EraseArgs, ExportArgs, erase, export},
    error::PluginError,
    migrations::migrations,
    observe::{observe_existing, observe_facts, observe_ring},
    plan::{PlanArgs, plan},
    report::project_report,
    rotate::{RotateArgs, rotate},
    suspend::suspend,
    takeover::{TakeoverArgs, takeover},
    token::{TokenArgs, project_claims, project_token},
    tree::render_tree,
    wait::{Unreached, wait},
    wait_result::Goal,
};
use crate::{clock::Clock, domain::class::ErrorClass};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, io::Write, path::Path, process::ExitCode, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  an error of the plugin itself
  2  wrong command line
  3  not found, not valid, or nothing happens until somebody acts
  4  not yet: the time of 'wait' is over, or the Tenant is not served yet
  5  a right is missing
  6  the cluster can't be reached
  7  the object found belongs to somebody else";

/// Look at and use the Tenants of a shared agent API.
#[derive(Debug, Parser)]
#[command(name = "kubectl-tenant", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a Tenant: conditions, database, keys, agents, and the replicas that serve it
    Status {
        /// Name of the Tenant
        name: String,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Tree)]
        output: Format,
        /// Namespace of the agent API, where its replicas' Leases are; without it, every namespace is looked at
        #[arg(long, value_name = "NAMESPACE")]
        agent_api_namespace: Option<String>,
    },
    /// Print a short-lived token for a Tenant, signed with its current key (needs to read the Tenant's Secret)
    Token {
        /// Name of the Tenant
        name: String,
        #[command(flatten)]
        token: TokenArgs,
    },
    /// Replace the key that signs a Tenant's tokens, or revoke keys in an emergency (needs to change the Tenant)
    Rotate {
        /// Name of the Tenant
        name: String,
        #[command(flatten)]
        rotate: RotateArgs,
        /// Longest wait: 90, 90s, 5m or 1h30m; 0 only asks
        #[arg(long, default_value = "60s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Take a Tenant out of service: requests are refused, data and keys are kept (needs to change the Tenant)
    Suspend {
        /// Name of the Tenant
        name: String,
        /// Longest wait: 90, 90s, 5m or 1h30m; 0 only asks
        #[arg(long, default_value = "90s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Bring a suspended Tenant back into service (needs to change the Tenant)
    Resume {
        /// Name of the Tenant
        name: String,
        /// Longest wait: 90, 90s, 5m or 1h30m; 0 only asks
        #[arg(long, default_value = "90s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Show how far the tenants' tables are with the newest version, and who gets no further
    Migrations,
    /// Take out a Tenant's data as JSON Lines, over the agent API (needs to read the Tenant's Secret)
    Export {
        /// Name of the Tenant
        name: String,
        #[command(flatten)]
        export: ExportArgs,
    },
    /// Erase one user of a Tenant, over the agent API (needs to read the Tenant's Secret)
    Erase {
        /// Name of the Tenant
        name: String,
        #[command(flatten)]
        erase: EraseArgs,
    },
    /// Show what the operator would do for Tenants, every request and all SQL, without doing it
    Plan(PlanArgs),
    /// Let a Tenant take over its data from a cluster that is lost (needs the verb 'takeover' on the Tenant)
    Takeover {
        /// Name of the Tenant
        name: String,
        #[command(flatten)]
        takeover: TakeoverArgs,
        /// Longest wait: 90, 90s, 5m or 1h30m; 0 only allows it
        #[arg(long, default_value = "90s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Wait until a Tenant is ready or deleted
    Wait {
        /// Name of the Tenant
        name: String,
        /// What to wait for
        #[arg(long = "for", value_enum, default_value_t = Goal::Ready)]
        goal: Goal,
        /// Longest wait: 90, 90s, 5m or 1h30m; 0 looks once
        #[arg(long, default_value = "60s", value_parser = parse_duration)]
        timeout: Duration,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A tree for people
    Tree,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// Runs the plugin with these arguments (the first one is the program's own name) and returns its exit code.
pub async fn run(args: Vec<OsString>) -> ExitCode {
    // One crypto library for the process; an error means that one is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = Cli::command().bin_name(bin_name(args.first()));
    let cli = match command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output with 0, a mistake to standard error with 2; a closed pipe is no news.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match answer(cli).await {
        Ok(text) => {
            // A reader such as `head` may have closed the pipe; there is nobody left to tell.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// As kubectl's plugins are expected to call themselves.
fn bin_name(program: Option<&OsString>) -> String {
    let file = program.and_then(|p| Path::new(p).file_name()).map(|f| f.to_string_lossy().into_owned());
    match file.as_deref().map(|f| f.strip_prefix("kubectl-").ok_or(f)) {
        Some(Ok(plugin)) => format!("kubectl {plugin}"),
        Some(Err(other)) => other.to_owned(),
        None => "kubectl tenant".to_owned(),
    }
}

async fn answer(cli: Cli) -> Result<String, PluginError> {
    let cluster = observe_cluster(&cli.cluster).await?;
    match cli.verb {
        Verb::Status { name, output, agent_api_namespace } => {
            let tenant = observe_existing(&cluster, &name).await?;
            let facts = observe_facts(&cluster.client, tenant, agent_api_namespace.as_deref()).await;
            let now = Clock::system().now();
            let report = project_report(&facts, now);
            let unwritable = |e: String| PluginError::new(ErrorClass::Bug, format!("the answer can't be written: {e}"));
            match output {
                Format::Tree => Ok(render_tree(&report, now)),
                Format::Json => {
                    serde_json::to_string_pretty(&report).map(|text| text + "\n").map_err(|e| unwritable(e.to_string()))
                }
                Format::Yaml => serde_yaml::to_string(&report).map_err(|e| unwritable(e.to_string())),
            }
        }
        Verb::Token { name, token } => {
            let tenant = observe_existing(&cluster, &name).await?;
            let claims = project_claims(&tenant, &token, Clock::system().now())?;
            let missing = || PluginError::new(ErrorClass::Waiting, format!("Tenant {name} has no keys yet"));
            let ring = observe_ring(&cluster.client, &tenant).await.ok_or_else(missing)??;
            if claims.seconds() < token.seconds {
                eprintln!("note: valid for {} s, the longest that this Tenant accepts", claims.seconds());
            }
            project_token(&ring, &claims).map(|token| token + "\n")
        }
        Verb::Rotate { name, rotate: args, timeout } => {
            rotate(&cluster, &name, &args, timeout, Clock::system().now()).await
        }
        Verb::Suspend { name, timeout } => told(suspend(&cluster, &name, true, timeout).await),
        Verb::Resume { name, timeout } => told(suspend(&cluster, &name, false, timeout).await),
        Verb::Migrations => migrations(&cluster).await,
        Verb::Export { name, export: args } => export(&cluster, &name, &args).await,
        Verb::Erase { name, erase: args } => erase(&cluster, &name, &args).await,
        Verb::Plan(args) => {
            let (text, stuck) = plan(&cluster, &args).await?;
            let Some(stuck) = stuck else { return Ok(text) };
            let _ = std::io::stdout().write_all(text.as_bytes());
            Err(stuck)
        }
        Verb::Takeover { name, takeover: args, timeout } => told(takeover(&cluster, &name, &args, timeout).await),
        Verb::Wait { name, goal, timeout } => {
            let word = told(wait(&cluster, &name, goal, timeout).await)?;
            Ok(format!("tenant.{}/{name} {word}\n", crate::api::names::GROUP))
        }
    }
}

/// Shows what keeps a Tenant from what was waited for.
fn told<T>(waited: Result<T, Unreached>) -> Result<T, PluginError> {
    waited.map_err(|unreached| {
        eprint!("{}", unreached.tree);
        unreached.error
    })
}

/// Seconds, or Go's form of a duration, as kubectl takes it.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration such as 90s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let mut letters = tail.chars();
        let unit = match letters.next() {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(u64::from(number) * unit);
        rest = letters.as_str();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_speaks_of_the_command_that_was_typed() {
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
    fn durations_are_read_as_kubectl_reads_them() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs()).ok();
        assert_eq!([seconds("90"), seconds("90s"), seconds("5m"), seconds("1h30m")], [90, 90, 300, 5400].map(Some));
        assert_eq!([seconds(""), seconds("m"), seconds("5x"), seconds("-1s")], [None; 4]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
