//! The verbs of the plugin: one file each, with its arguments and `run`. Resume is in `suspend`.
//!
//! | file | what is there |
//! | --- | --- |
//! | `status` | a Tenant with its conditions, database, keys, agents and replicas |
//! | `token` | a short-lived token for a Tenant |
//! | `rotate` | rotating and revoking keys |
//! | `suspend` | taking a Tenant out of service and bringing it back |
//! | `migrations` | schema versions of the tenants |
//! | `export` | a tenant's data as JSON Lines |
//! | `erase` | erasing one user of a tenant |
//! | `plan`, `plan_text` | a dry run of the operator, and its answer as text |
//! | `takeover` | allowing a Tenant to take over data of a lost cluster |
//! | `wait` | waiting until a Tenant is ready or deleted |

mod erase;
mod export;
mod migrations;
mod plan;
mod plan_text;
mod rotate;
mod status;
mod suspend;
mod takeover;
mod token;
mod wait;

use super::{cluster::Cluster, error::VerbFailure};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Status(status::StatusArgs),
    Token(token::TokenVerbArgs),
    Rotate(rotate::RotateArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    /// Show the schema version of each database, and the tenants that are behind it or blocked
    Migrations,
    Export(export::ExportArgs),
    Erase(erase::EraseArgs),
    Plan(plan::PlanArgs),
    Takeover(takeover::TakeoverArgs),
    Wait(wait::WaitArgs),
}

impl Verb {
    /// Runs the verb and returns the text for standard output.
    pub(crate) async fn run(&self, cluster: &Cluster) -> Result<String, VerbFailure> {
        match self {
            Self::Status(args) => status::run(cluster, args).await,
            Self::Token(args) => token::run(cluster, args).await,
            Self::Rotate(args) => rotate::run(cluster, args).await,
            Self::Suspend(args) => suspend::run(cluster, &args.tenant, true).await,
            Self::Resume(args) => suspend::run(cluster, &args.tenant, false).await,
            Self::Migrations => migrations::run(cluster).await,
            Self::Export(args) => export::run(cluster, args).await,
            Self::Erase(args) => erase::run(cluster, args).await,
            Self::Plan(args) => plan::run(cluster, args).await,
            Self::Takeover(args) => takeover::run(cluster, args).await,
            Self::Wait(args) => wait::run(cluster, args).await,
        }
    }
}
