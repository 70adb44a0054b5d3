//! The API server's audit log: the requests of ServiceAccounts. Other users and all bodies are left out, so that the log
//! costs next to nothing.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::Context as _;
use serde_json::Value;

/// A watch is logged when it begins, every other request when it is answered.
const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts]
  - level: None
";

/// One request of a ServiceAccount. A field that the request does not have is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Name of the ServiceAccount.
    pub account: String,
    /// As in a rule of a Role: `get`, `list`, `watch`, ….
    pub verb: String,
    /// Group of the resource; `""` is the core group.
    pub group: String,
    /// The resource as in a rule: `pods`, `tenants/status`; for other requests, the path.
    pub resource: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Status of the answer.
    pub code: u16,
    /// No rule allowed it. A 403 may have other reasons, such as a namespace that is being deleted.
    pub is_forbidden: bool,
}

/// Flags for kube-apiserver. The policy goes into `dir`.
pub(crate) fn flags(dir: &Path, log: &Path) -> anyhow::Result<Vec<String>> {
    let policy = dir.join("audit-policy.yaml");
    fs::write(&policy, POLICY).with_context(|| format!("{} can't be written", policy.display()))?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
        // In MiB; a larger log would be split.
        "--audit-log-maxsize=4096".to_owned(),
    ])
}

/// Every request in the log of the ServiceAccounts of one namespace.
pub(crate) fn requests_from(log: &Path, namespace: &str) -> anyhow::Result<Vec<Request>> {
    let file = match File::open(log) {
        Ok(file) => file,
        // The API server creates it with the first request that it logs.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", log.display())),
    };
    let user = format!("system:serviceaccount:{namespace}:");
    let mut requests = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        // Parsing is the expensive part. The last line may be incomplete.
        if let Some(event) = line.contains(&user).then(|| serde_json::from_str(&line).ok()).flatten()
            && let Some(request) = request(&event, &user)
        {
            requests.push(request);
        }
    }
    Ok(requests)
}

fn request(event: &Value, user: &str) -> Option<Request> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let resource = match (object["resource"].as_str(), object["subresource"].as_str()) {
        (Some(resource), Some(subresource)) => format!("{resource}/{subresource}"),
        (Some(resource), None) => resource.to_owned(),
        (None, _) => text(&event["requestURI"]),
    };
    Some(Request {
        account: event["user"]["username"].as_str()?.strip_prefix(user)?.to_owned(),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default(),
        is_forbidden: event["annotations"]["authorization.k8s.io/decision"] == "forbid",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_read_as_a_rule_would_name_it() {
        let event = json!({
            "verb": "patch", "requestURI": "/apis/agent-tenancy.dev/v1alpha1/…", "responseStatus": { "code": 403 },
            "user": { "username": "system:serviceaccount:a:operator" },
            "annotations": { "authorization.k8s.io/decision": "forbid" },
            "objectRef": { "resource": "tenants", "subresource": "status", "namespace": "b", "name": "acme",
                           "apiGroup": "agent-tenancy.dev" },
        });
        let read = request(&event, "system:serviceaccount:a:").unwrap();
        assert_eq!((read.account.as_str(), read.resource.as_str(), read.code), ("operator", "tenants/status", 403));
        assert!(read.is_forbidden);
        assert_eq!(request(&event, "system:serviceaccount:ab:"), None);
    }
}
