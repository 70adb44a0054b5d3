//! Loading settings.

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SampleSettings {
    name: String,
    password: SecretText,
    database: SamplePart,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SamplePart {
    connection_budget: u32,
    hosts: Vec<String>,
}

impl Default for SamplePart {
    fn default() -> Self {
        Self { connection_budget: 4, hosts: vec!["a".to_owned()] }
    }
}

impl Settings for SampleSettings {
    fn check(&self) -> Result<(), String> {
        if self.database.connection_budget == 0 {
            return Err("database.connectionBudget: must be at least 1".to_owned());
        }
        Ok(())
    }
}

fn read(file: &str, environment: &[(&str, &str)]) -> Result<SampleSettings, String> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    resolve(Some(SettingsFile { name: "sample.yaml", text: file }), environment).map_err(|e| e.to_string())
}

#[test]
fn file_over_defaults_and_environment_over_both() {
    let settings = read(
        "name: one\ndatabase: { hosts: [b] }\n",
        &[("AGENT_TENANCY__DATABASE__CONNECTION_BUDGET", "9"), ("AGENT_TENANCY__NAME", "two"), ("HOME", "x")],
    );
    let wanted = SampleSettings {
        name: "two".to_owned(),
        password: SecretText::default(),
        database: SamplePart { connection_budget: 9, hosts: vec!["b".to_owned()] },
    };
    assert_eq!(settings, Ok(wanted));
}

#[test]
fn an_empty_section_or_file_means_the_defaults() {
    assert_eq!(read("database:\n", &[]), Ok(SampleSettings::default()));
    assert_eq!(read("", &[]), Ok(SampleSettings::default()));
}

#[test]
fn an_unknown_key_is_named_with_its_path_and_origin() {
    assert_eq!(
        read("database: { conectionBudget: 1 }", &[]),
        Err("'database.conectionBudget' (sample.yaml) is not a setting; known here: connectionBudget, hosts".into())
    );
    let wrong = read("", &[("AGENT_TENANCY__DATABASE__CONNS", "1")]);
    assert!(wrong.unwrap_err().starts_with("'database.CONNS' (AGENT_TENANCY__DATABASE__CONNS) is not a setting"));
    assert!(read("", &[("AGENT_TENANCY__NAME__X", "1")]).is_err());
}

#[test]
fn an_invalid_type_or_value_is_named_by_its_path() {
    let wrong = read("database: { connectionBudget: many }", &[]).unwrap_err();
    assert!(wrong.contains("database.connectionBudget"), "{wrong}");
    let wrong = read("database: { connectionBudget: 0 }", &[]).unwrap_err();
    assert_eq!(wrong, "database.connectionBudget: must be at least 1");
    assert!(read("- a", &[]).is_err());
}

#[test]
fn secrets_are_usable_but_never_shown() {
    let settings = read("password: canary", &[]).unwrap();
    assert_eq!(settings.password.expose(), "canary");
    let shown = format!("{settings:?}{}", render(&settings).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("(redacted)"));
}
