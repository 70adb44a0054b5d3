//! A plan as text: numbered steps with the requests and the SQL of each, then the conditions of the Tenant.

use crate::plan::dry_run::{DryRun, DryRunRequest, Event};
use std::fmt::Write as _;

pub(crate) fn render_plan(dry_run: &DryRun) -> String {
    let DryRun { namespace, name, event, steps, then, error, conditions } = dry_run;
    let what = match event {
        Event::Created => "if it is created",
        Event::Updated => "if this is applied",
        Event::None => "as it is",
        Event::Deleted => "if it is deleted",
    };
    let mut out = format!("Tenant {namespace}/{name}, {what} (dry run):\n");
    if steps.is_empty() {
        out.push_str("\n   Nothing to do.\n");
    }
    for (number, step) in steps.iter().enumerate() {
        push(&mut out, format_args!("\n{}. {}\n", number + 1, step.sentence));
        for request in &step.requests {
            render_request(request, &mut out);
        }
        for sql in &step.sql {
            out.push_str("   SQL, one transaction:\n");
            indent(sql.trim_end(), 6, &mut out);
        }
    }
    if let Some(error) = error {
        push(&mut out, format_args!("\nThe plan ends here: {error}\n"));
    }
    if let Some(then) = then {
        push(&mut out, format_args!("\nThen the operator {then}.\n"));
    }
    if !conditions.is_empty() {
        out.push_str("\nConditions after that:\n");
        let width = conditions.iter().map(|c| c.type_.len()).max().unwrap_or_default();
        for c in conditions {
            push(&mut out, format_args!("   {:width$}  {:7}  {}: {}\n", c.type_, c.status, c.reason, c.message));
        }
    }
    out.push('\n');
    out
}

fn render_request(request: &DryRunRequest, out: &mut String) {
    let DryRunRequest { verb, resource, namespace, name, content } = request;
    push(out, format_args!("   {verb} {resource} {namespace}/{name}\n"));
    // The status is mostly its conditions, which are shown below; the sentence names the event.
    if !matches!(resource.as_str(), "tenants/status" | "events") && !content.is_null() {
        indent(serde_yaml::to_string(content).unwrap_or_default().trim_end(), 6, out);
    }
}

fn indent(text: &str, depth: usize, out: &mut String) {
    for line in text.lines() {
        let pad = if line.is_empty() { 0 } else { depth };
        push(out, format_args!("{:pad$}{line}\n", ""));
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String can't fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Condition, plan::dry_run::DryRunStep};
    use serde_json::json;

    #[test]
    fn a_plan_reads_from_top_to_bottom() {
        let request = |verb: &str, resource: &str, content| DryRunRequest {
            verb: verb.into(),
            resource: resource.into(),
            namespace: "shop".into(),
            name: "acme".into(),
            content,
        };
        let step = |sentence: &str, requests, sql: &[&str]| DryRunStep {
            sentence: sentence.into(),
            requests,
            sql: sql.iter().map(|text| (*text).to_owned()).collect(),
        };
        let condition: Condition = serde_json::from_value(json!({
            "type": "Ready", "status": "Unknown", "reason": "Provisioning", "message": "being created",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }))
        .unwrap();
        let dry_run = DryRun {
            namespace: "shop".into(),
            name: "acme".into(),
            event: Event::Created,
            steps: vec![
                step("Create it", Vec::new(), &["BEGIN;\n\nSELECT 1;\n"]),
                step("Publish it", vec![request("create", "secrets", json!({ "state": "active" }))], &[]),
                step("Write the status", vec![request("patch", "tenants/status", json!({ "status": {} }))], &[]),
            ],
            then: Some("waits".into()),
            error: None,
            conditions: vec![condition],
        };
        let expected = "\
Tenant shop/acme, if it is created (dry run):

1. Create it
   SQL, one transaction:
      BEGIN;

      SELECT 1;

2. Publish it
   create secrets shop/acme
      state: active

3. Write the status
   patch tenants/status shop/acme

Then the operator waits.

Conditions after that:
   Ready  Unknown  Provisioning: being created

";
        assert_eq!(render_plan(&dry_run), expected);
    }
}
