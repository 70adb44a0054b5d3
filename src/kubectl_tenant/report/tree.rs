//! The document as text: the whole tree, or only its unhealthy part.

use super::document::{AgentReport, ReplicaReport, ReplicaState, Report, find};
use crate::api::{Condition, ConditionType, Reason, TenantKeyStatus};
use jiff::Timestamp;

/// One line and the lines under it.
struct Node {
    text: String,
    unhealthy: bool,
    children: Vec<Node>,
}

impl Node {
    fn leaf(text: impl Into<String>, unhealthy: bool) -> Self {
        Self { text: text.into(), unhealthy, children: Vec::new() }
    }

    fn branch(text: impl Into<String>, children: Vec<Self>) -> Self {
        Self { text: text.into(), unhealthy: false, children }
    }

    fn is_unhealthy(&self) -> bool {
        self.unhealthy || self.children.iter().any(Self::is_unhealthy)
    }
}

pub(crate) fn render_tree(report: &Report, now: Timestamp) -> String {
    render(&build(report, now), |_| true)
}

/// Only the lines that are unhealthy or have an unhealthy line under them.
pub(crate) fn render_unhealthy(report: &Report, now: Timestamp) -> String {
    render(&build(report, now), Node::is_unhealthy)
}

fn render(root: &Node, shown: fn(&Node) -> bool) -> String {
    let mut out = format!("{}\n", root.text);
    render_children(root, "", shown, &mut out);
    out
}

fn render_children(node: &Node, indent: &str, shown: fn(&Node) -> bool, out: &mut String) {
    let children: Vec<_> = node.children.iter().filter(|child| shown(child)).collect();
    for (number, child) in children.iter().enumerate() {
        let last = number + 1 == children.len();
        let (elbow, rail) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        out.push_str(&format!("{indent}{elbow}{}\n", child.text));
        render_children(child, &format!("{indent}{rail}"), shown, out);
    }
}

fn build(report: &Report, now: Timestamp) -> Node {
    let mut children = vec![conditions(report, now)];
    children.extend(advice(report).map(|advice| Node::leaf(format!("what to do: {advice}"), true)));
    children.extend([database(report), keys(report), agents(report), replicas(report, now)]);
    if !report.unreadable.is_empty() {
        let missing = report.unreadable.iter().map(|text| Node::leaf(text.clone(), true)).collect();
        children.push(Node::branch("not shown", missing));
    }
    let mut text = format!("Tenant {}/{}", report.namespace, report.name);
    if let Some(name) = &report.display_name {
        text.push_str(&format!(" \"{name}\""));
    }
    if let Some(id) = &report.tenant_id {
        text.push_str(&format!(", tenant id {id}"));
    }
    text.push_str(&format!(": {}", headline(report, now)));
    Node { text, unhealthy: false, children }
}

fn headline(report: &Report, now: Timestamp) -> String {
    if let Some(since) = report.deletion_time {
        return format!("being deleted for {}", age(since, now));
    }
    if report.observed_generation < report.generation {
        return format!(
            "the operator has not reconciled generation {} yet (last: {})",
            report.generation, report.observed_generation
        );
    }
    match find(&report.conditions, ConditionType::Ready) {
        Some(ready) if ready.status == "True" && ready.reason == Reason::Suspended.as_str() => "suspended".to_owned(),
        Some(ready) if ready.status == "True" => "ready".to_owned(),
        Some(ready) => format!("not ready ({})", ready.reason),
        None => "not ready (no condition yet)".to_owned(),
    }
}

/// What the user can do about the condition that blocks the Tenant.
fn advice(report: &Report) -> Option<&'static str> {
    let of = |type_| find(&report.conditions, type_);
    let blocked = of(ConditionType::DeletionBlocked).or_else(|| of(ConditionType::Paused));
    let worst = blocked.or_else(|| of(ConditionType::Ready).filter(|ready| ready.status != "True"))?;
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == worst.reason)?;
    Some(reason.advice().user).filter(|advice| !advice.is_empty() && *advice != "wait")
}

fn conditions(report: &Report, now: Timestamp) -> Node {
    let width = |of: fn(&Condition) -> usize| report.conditions.iter().map(of).max().unwrap_or(0);
    let (types, reasons) = (width(|c| c.type_.len()), width(|c| c.reason.len()));
    let line = |c: &Condition| {
        let text = format!(
            "{:<types$}  {:<7}  {:<reasons$}  {:>4}  {}",
            c.type_,
            c.status,
            c.reason,
            age(c.last_transition_time.0, now),
            c.message
        );
        Node::leaf(text.trim_end(), is_unhealthy(c))
    };
    let lines: Vec<_> = report.conditions.iter().map(line).collect();
    if lines.is_empty() { Node::leaf("conditions: none yet", true) } else { Node::branch("conditions", lines) }
}

/// Some conditions are "True" only while something is wrong or in progress.
fn is_unhealthy(condition: &Condition) -> bool {
    let known = ConditionType::ALL.iter().find(|t| t.as_str() == condition.type_);
    let good = match known {
        Some(
            ConditionType::Reconciling
            | ConditionType::Stalled
            | ConditionType::Paused
            | ConditionType::DeletionBlocked,
        ) => "False",
        Some(
            ConditionType::Accepted
            | ConditionType::DatabaseReady
            | ConditionType::SigningKeysReady
            | ConditionType::Published
            | ConditionType::Served
            | ConditionType::Ready
            | ConditionType::Suspended
            | ConditionType::Available
            | ConditionType::TablesCurrent
            | ConditionType::Headroom,
        )
        | None => "True",
    };
    condition.status != good
}

fn database(report: &Report) -> Node {
    let Some(database) = &report.database else { return Node::leaf("database: not provisioned yet", true) };
    let mut lines = vec![
        Node::leaf(format!("schema {}, version {}", database.schema, database.schema_version), false),
        Node::leaf(format!("role {}", database.role), false),
        Node::leaf(format!("incarnation {}", database.incarnation), false),
    ];
    let limit = database.storage_limit.as_ref();
    lines.extend(limit.map(|limit| Node::leaf(format!("storage limit {limit}"), false)));
    Node::branch(format!("database: instance {} ({})", database.instance, database.database_id), lines)
}

fn keys(report: &Report) -> Node {
    let Some(keys) = &report.keys else { return Node::leaf("keys: not issued yet", true) };
    let line = |key: &TenantKeyStatus| {
        let until = key.expiration_time.map(|until| format!("  until {until}")).unwrap_or_default();
        format!("{}  {:?}  {}{until}", key.kid, key.state, key.algorithm.as_str())
    };
    let lines = keys.ring.iter().map(|key| Node::leaf(line(key), false)).collect();
    Node::branch(format!("keys: Secret {}", keys.secret_name), lines)
}

fn agents(report: &Report) -> Node {
    Node::branch("agents", report.agents.iter().map(agent).collect())
}

fn agent(agent: &AgentReport) -> Node {
    let default = if agent.default { " (default)" } else { "" };
    let mut text = format!("{}{default}: AgentConfig {}", agent.name, agent.config);
    let mut unhealthy = false;
    match (agent.exists, &agent.ready) {
        (None, _) => text.push_str(", not readable"),
        (Some(false), _) => {
            text.push_str(" does not exist");
            unhealthy = true;
        }
        (Some(true), ready) => {
            if let Some(revision) = agent.revision {
                text.push_str(&format!(", revision {revision}"));
            }
            match ready {
                Some(ready) if ready.status == "True" => text.push_str(", ready"),
                Some(ready) => {
                    text.push_str(&format!(", not ready ({}: {})", ready.reason, ready.message));
                    unhealthy = true;
                }
                None => {
                    text.push_str(", not reconciled yet");
                    unhealthy = true;
                }
            }
        }
    }
    Node::leaf(text, unhealthy)
}

fn replicas(report: &Report, now: Timestamp) -> Node {
    let lines: Vec<_> = report.replicas.iter().map(|replica| self::replica(replica, now)).collect();
    let serving = report.replicas.iter().filter(|r| r.state == ReplicaState::Serving).count();
    let text = match &report.served {
        _ if report.replicas.is_empty() => "replicas: none found".to_owned(),
        None => "replicas: not all of them have acknowledged the tenant yet".to_owned(),
        Some(served) => format!(
            "replicas: {serving} of {} serve entry version {}, acknowledged {} ago",
            report.replicas.len(),
            served.entry_version,
            age(served.served_time, now)
        ),
    };
    Node { text, unhealthy: report.replicas.is_empty() || report.served.is_none(), children: lines }
}

fn replica(replica: &ReplicaReport, now: Timestamp) -> Node {
    let (state, unhealthy) = match replica.state {
        ReplicaState::Serving => ("serves it", false),
        ReplicaState::Behind => ("has not applied it yet", true),
        ReplicaState::Quarantined => ("refuses it", true),
        ReplicaState::Expired => ("has an expired Lease", true),
        ReplicaState::Unknown => ("has an unknown state", false),
    };
    let mut text = format!("{}/{}  {state}", replica.namespace, replica.name);
    if let Some(reason) = &replica.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let Some(version) = replica.version {
        text.push_str(&format!(", applied up to {version}"));
    }
    if let Some(time) = replica.renew_time {
        text.push_str(&format!(", renewed {} ago", age(time, now)));
    }
    Node::leaf(text, unhealthy)
}

/// Time since then, in the largest unit that fits twice (as kubectl does); never negative.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::class::ErrorClass,
        kubectl_tenant::{
            error::PluginError,
            report::document::{Facts, project_report},
            samples::{acknowledgement, facts, ready_tenant, waiting_tenant},
        },
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_ready_tenant_reads_from_top_to_bottom() {
        let text = render_tree(&project_report(&facts(ready_tenant()), NOW), NOW);
        let expected = "\
Tenant shop/acme \"Acme Inc.\", tenant id acme: ready
├─ conditions
│  ├─ Accepted  True     Accepted    3m  the spec is valid
│  ├─ Served    True     Served      3m  2 of 2 replicas serve it
│  └─ Ready     True     Ready       3m  all conditions are met
├─ database: instance main (00000000-0000-0000-0000-000000000001)
│  ├─ schema at_acme, version 1
│  ├─ role at_acme
│  ├─ incarnation 00000000-0000-0000-0000-000000000002
│  └─ storage limit 1Gi
├─ keys: Secret acme-signing-keys
│  ├─ kid-now  Current  HS256
│  └─ kid-new  Standby  HS256
├─ agents
│  └─ support (default): AgentConfig support-bot, revision 3, ready
└─ replicas: 2 of 2 serve entry version 40, acknowledged 3m ago
   ├─ agents/agent-api-a  serves it, applied up to 41, renewed 2s ago
   └─ agents/agent-api-b  serves it, applied up to 40, renewed 3s ago
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_unhealthy_part_leaves_out_the_healthy_lines() {
        let leases = Ok(vec![acknowledgement("agent-api-b", 39, 120)]);
        let text = render_unhealthy(&project_report(&Facts { leases, ..facts(waiting_tenant()) }, NOW), NOW);
        let expected = "\
Tenant shop/acme \"Acme Inc.\", tenant id acme: not ready (WaitingForReplicas)
├─ conditions
│  ├─ Served    Unknown  WaitingForReplicas    3m  agent-api-b has not acknowledged version 40
│  └─ Ready     Unknown  WaitingForReplicas    3m  agent-api-b has not acknowledged version 40
├─ what to do: if it lasts, look at the replicas that the message names
└─ replicas: not all of them have acknowledged the tenant yet
   └─ agents/agent-api-b  has an expired Lease, applied up to 39, renewed 2m ago
";
        assert_eq!(text, expected);
    }

    #[test]
    fn unreadable_parts_are_named_and_the_rest_is_shown() {
        let denied = |what: &str| PluginError::new(ErrorClass::Denied, format!("you may not read {what}"));
        let read = Facts {
            agents: vec![Err(denied("the AgentConfig"))],
            leases: Err(denied("Leases")),
            ..facts(ready_tenant())
        };
        let text = render_tree(&project_report(&read, NOW), NOW);
        assert!(text.contains("support (default): AgentConfig support-bot, not readable\n"), "{text}");
        assert!(text.contains("   └─ replicas: you may not read Leases\n"), "{text}");
        assert!(text.contains("schema at_acme"), "{text}");
    }

    #[test]
    fn a_tenant_that_was_not_reconciled_yet_is_named_as_such() {
        let mut tenant = ready_tenant();
        tenant.status = None;
        let read = Facts { leases: Ok(Vec::new()), ..facts(tenant) };
        let text = render_tree(&project_report(&read, NOW), NOW);
        assert!(text.starts_with("Tenant shop/acme \"Acme Inc.\": the operator has not reconciled generation 2 yet"));
        assert!(text.contains("├─ database: not provisioned yet\n├─ keys: not issued yet\n"), "{text}");
        assert!(text.contains("└─ replicas: none found\n"), "{text}");
    }

    #[test]
    fn ages_are_short() {
        let ago = |seconds: i64| age(Timestamp::from_second(-seconds).unwrap(), NOW);
        assert_eq!(["119s", "2m", "2h", "2d"], [ago(119).as_str(), &ago(120), &ago(7_200), &ago(200_000)]);
        assert_eq!(ago(-5), "0s", "another machine's clock may be ahead");
    }
}
