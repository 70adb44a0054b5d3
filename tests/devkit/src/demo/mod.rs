//! `devkit demo`: the main job from samples to chat answers, on a control plane and a Postgres of its own.
//!
//! | file | what is there |
//! | --- | --- |
//! | `programs` | builds the product's programs and puts them, kubectl, helm and psql on one search path |
//! | `stage` | runs a command as a reader would type it, and shows command and result |
//! | `install` | database, chart, operator and two replicas of the agent API |
//! | `story` | what is shown then, with what has to come out |
//! | `reload` | an AgentConfig edited and served by both replicas |

mod install;
mod programs;
mod reload;
mod stage;
mod story;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Instant,
};

use devkit::{Environment, Options};
use install::Installation;
use stage::Stage;
use tokio::signal::unix::{SignalKind, signal};

/// Shows everything. With a terminal the environment stays up until Ctrl-C. Every process ends in any case.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // Before anything is started: Ctrl-C must end it at any time.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        code = play(options) => code,
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

async fn play(options: Options) -> anyhow::Result<ExitCode> {
    let programs = tokio::task::spawn_blocking(programs::build).await??;
    let start = Instant::now();
    eprintln!("devkit: starting etcd, kube-apiserver, kube-controller-manager and Postgres ...");
    let env = Environment::start(options).await?;
    eprintln!("devkit: they are up after {:.1} s", start.elapsed().as_secs_f32());
    let mut stage = Stage::new(&env, &programs)?;
    match perform(&env, &mut stage).await {
        Ok(installation) => {
            stage.say(&format!("\nEverything came out as it should, in {:.0} s.", start.elapsed().as_secs_f32()));
            if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
                stay(&stage, &env, &installation).await?;
            }
            drop(installation);
            env.stop().await?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            env.keep_logs();
            // What was printed so far comes first.
            let _ = std::io::stdout().flush();
            eprintln!("\nThe demo failed at \"{}\": {error:#}", stage.scene());
            eprintln!("Logs are kept in {}", env.logs().display());
            env.stop().await?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn perform(env: &Environment, stage: &mut Stage) -> anyhow::Result<Installation> {
    let installation = install::install(env, stage).await?;
    story::tell(stage).await?;
    reload::tell(stage, &installation).await?;
    story::end(stage).await?;
    Ok(installation)
}

/// Until Ctrl-C, or until one of our processes ends by itself.
async fn stay(stage: &Stage, env: &Environment, installation: &Installation) -> anyhow::Result<()> {
    stage.say("It stays up until Ctrl-C. To go on in another terminal:\n");
    stage.say(&stage.exports());
    stage.say(&format!("# logs: {}", env.logs().display()));
    let [operator, a, b] = installation.processes();
    tokio::select! {
        _ = operator.ended() => anyhow::bail!("the operator has ended; see {}", operator.log_path().display()),
        _ = a.ended() => anyhow::bail!("replica A has ended; see {}", a.log_path().display()),
        _ = b.ended() => anyhow::bail!("replica B has ended; see {}", b.log_path().display()),
    }
}
