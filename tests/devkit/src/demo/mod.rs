//! `devkit demo`: the main job from samples to chat answers, on a control plane and a Postgres of its own.
//!
//! | file | what is there |
//! | --- | --- |
//! | `programs` | builds the product's programs and puts them, kubectl, helm and psql on one search path |
//! | `terminal` | runs a command as a reader would type it, and shows command and result |
//! | `install` | database, chart, operator and two replicas of the agent API |
//! | `scenario` | what is shown then, and the checks of the results |
//! | `reload` | an AgentConfig edited and served by both replicas |

mod install;
mod programs;
mod reload;
mod scenario;
mod terminal;

use std::{io::Write, time::Instant};

use anyhow::Context as _;

use crate::{CommandOutput, Environment, Options};
use install::Installation;
pub use programs::Programs;
use terminal::Terminal;

/// A demo that has been shown and is still up. Every process ends with it, and with this process in any way.
pub struct Demo {
    // Dropped in this order: a process ends before those that it uses.
    installation: Installation,
    terminal: Terminal,
    env: Environment,
}

impl Demo {
    /// Shows everything, each command with its result, on `out`.
    ///
    /// The error of a failed step names the step and the logs, which are kept.
    pub async fn play(options: Options, programs: &Programs, out: Box<dyn Write + Send>) -> anyhow::Result<Demo> {
        let start = Instant::now();
        eprintln!("devkit: starting etcd, kube-apiserver, kube-controller-manager and Postgres ...");
        let env = Environment::start(options).await?;
        eprintln!("devkit: they are up after {:.1} s", start.elapsed().as_secs_f32());
        let mut terminal = Terminal::new(&env, programs, out)?;
        match perform(&env, &mut terminal).await {
            Ok(installation) => {
                terminal.say(&format!("\nAll steps succeeded, in {:.0} s.", start.elapsed().as_secs_f32()));
                Ok(Demo { installation, terminal, env })
            }
            Err(error) => {
                env.keep_logs();
                let logs = env.logs().display().to_string();
                let step = terminal.step().to_owned();
                env.stop().await?;
                Err(error).with_context(|| format!("\"{step}\" (logs are kept in {logs})"))
            }
        }
    }

    /// Prints how to go on in another terminal, and returns only when one of the processes ends by itself.
    pub async fn stay(&self) -> anyhow::Result<()> {
        let Demo { installation, terminal, env } = self;
        terminal.say("It stays up until Ctrl-C. To go on in another terminal:\n");
        terminal.say(&terminal.exports());
        terminal.say("kubectl tenant status globex");
        terminal.say(&format!("\n# logs: {}", env.logs().display()));
        let ended = installation.ended().await;
        env.keep_logs();
        Err(ended)
    }

    /// Runs a script of the documentation as a reader of [`Demo::stay`] would.
    pub async fn script(&self, script: &str) -> anyhow::Result<CommandOutput> {
        let (status, stdout, stderr) = self.terminal.quietly(&format!("set -eu\n{script}")).await?;
        Ok(CommandOutput { command: script.to_owned(), status, stdout, stderr })
    }

    /// Ends every process; returns when they are gone.
    pub async fn end(self) -> anyhow::Result<()> {
        drop(self.installation);
        self.env.stop().await
    }
}

async fn perform(env: &Environment, terminal: &mut Terminal) -> anyhow::Result<Installation> {
    let installation = install::install(env, terminal).await?;
    let scenario = async {
        scenario::show(terminal).await?;
        reload::show(terminal, &installation).await?;
        scenario::delete_a_tenant(terminal).await
    };
    tokio::select! {
        shown = scenario => shown?,
        // A command that waits for the process would take longer to fail.
        ended = installation.ended() => return Err(ended),
    }
    Ok(installation)
}
