//! An AgentConfig is edited; both replicas serve it without a restart. Measured at the replicas themselves.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{install::Installation, scenario::chat, terminal::Terminal};

/// Far more than it takes.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// One replica's answer.
struct Answer {
    revision: i64,
    at: Instant,
}

/// Edits, and measures until each replica has answered with the new revision.
pub(super) async fn show(terminal: &mut Terminal, installation: &Installation) -> anyhow::Result<()> {
    terminal.open("An AgentConfig is edited and served by both replicas, without a restart");
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let ask = |replica: &str| ask(client.clone(), terminal.get(replica).to_owned(), terminal.get("ACME").to_owned());
    let before = ask("A").await?.revision;
    let edit =
        "kubectl patch agentconfig support --type merge -p '{\"spec\":{\"parameters\":{\"temperature\":\"0.7\"}}}'";
    let asking = |replica: &'static str| {
        let ask = &ask;
        async move {
            let start = Instant::now();
            while start.elapsed() < LIMIT {
                let seen = ask(replica).await?;
                if seen.revision > before {
                    return Ok(seen);
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(anyhow::anyhow!("replica {replica} did not serve the edit within {LIMIT:.0?}"))
        }
    };
    let editing = async {
        terminal.run(edit).await?;
        anyhow::Ok(Instant::now())
    };
    // Both are called all the time: the first answer with the new revision counts, even before kubectl has ended.
    let (edited, a, b) = tokio::try_join!(editing, asking("A"), asking("B"))?;
    let after = |seen: &Answer| match seen.at.checked_duration_since(edited) {
        Some(later) => format!("{} ms after kubectl was done", later.as_millis()),
        None => format!("{} ms before kubectl was done", edited.duration_since(seen.at).as_millis()),
    };
    terminal.say(&format!("  → apply→served: replica A answered with revision {}, {}", a.revision, after(&a)));
    terminal.say(&format!("  → apply→served: replica B answered with revision {}, {}", b.revision, after(&b)));
    installation.check_replicas()?;
    let [a, b] = installation.replica_pids();
    terminal.say(&format!("  → the replicas are still the processes {a} and {b}"));
    for replica in ["A", "B"] {
        let answer = terminal.call(&chat(replica, "acme", "$ACME", "And now?"), 200).await?;
        let text = answer.body["message"].as_str().unwrap_or_default();
        anyhow::ensure!(text.contains("temperature=0.7"), "replica {replica} does not show the new temperature");
    }
    Ok(())
}

async fn ask(client: reqwest::Client, replica: String, token: String) -> anyhow::Result<Answer> {
    let url = format!("{replica}/api/v1/tenants/acme/chat");
    let request = client.post(url).bearer_auth(token).json(&json!({ "message": "which revision?" }));
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    let revision = answer["revision"].as_i64().context("the answer names no revision")?;
    Ok(Answer { revision, at: Instant::now() })
}
