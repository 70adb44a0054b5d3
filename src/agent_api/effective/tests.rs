//! Layering: which layer wins, and which changes are refused.

use super::*;
use crate::agent_api::fixtures::behaviour;
use serde_json::json;

fn decimal(text: &str) -> Option<Decimal> {
    Decimal::parse(text, 2)
}

fn all() -> BTreeSet<MutableSetting> {
    FIELDS.into_iter().map(|(s, _)| s).collect()
}

#[test]
fn the_uppermost_layer_wins_and_says_so() {
    let mut agent = behaviour();
    agent.temperature = decimal("0.1");
    agent.top_p = decimal("0.9");
    let overrides = Overrides { temperature: decimal("0.2"), ..Overrides::default() };
    let own = TenantSettings { temperature: decimal("0.3"), ..TenantSettings::default() };
    let only_agent = resolve_effective(&agent, &Overrides::default(), &TenantSettings::default(), &[].into());
    assert_eq!(
        (only_agent.temperature.value, only_agent.temperature.source),
        (decimal("0.1"), SettingSource::AgentConfig)
    );
    assert!(only_agent.temperature.locked);
    let tenant = resolve_effective(&agent, &overrides, &TenantSettings::default(), &all());
    assert_eq!((tenant.temperature.value, tenant.temperature.source), (decimal("0.2"), SettingSource::Tenant));
    let set = resolve_effective(&agent, &overrides, &own, &all());
    assert_eq!((set.temperature.value, set.temperature.source), (decimal("0.3"), SettingSource::TenantSetting));
    assert_eq!((set.top_p.value, set.top_p.source), (decimal("0.9"), SettingSource::AgentConfig));
    assert!(!set.temperature.locked);
}

#[test]
fn a_ceiling_can_only_be_lowered() {
    let agent = behaviour();
    let tokens = |tenant, own| {
        let overrides = Overrides { max_output_tokens: tenant, ..Overrides::default() };
        let own = TenantSettings { max_output_tokens: own, ..TenantSettings::default() };
        let tokens = resolve_effective(&agent, &overrides, &own, &all()).max_output_tokens;
        (tokens.value, tokens.source)
    };
    assert_eq!(tokens(None, None), (1000, SettingSource::AgentConfig));
    assert_eq!(tokens(Some(5000), Some(9000)), (1000, SettingSource::AgentConfig));
    assert_eq!(tokens(Some(500), Some(900)), (500, SettingSource::Tenant));
    assert_eq!(tokens(Some(500), Some(100)), (100, SettingSource::TenantSetting));
}

#[test]
fn what_is_stored_but_no_longer_allowed_or_sane_does_not_count() {
    let stored: StoredSettings = serde_json::from_value(json!({
        "Temperature": "0.5", "TopP": "7", "MaxOutputTokens": -1, "Instructions": "Rhyme.", "DefaultAgent": "NO",
    }))
    .unwrap();
    assert_eq!(resolve_tenant_settings(&stored, &[].into()), TenantSettings::default());
    let own = resolve_tenant_settings(&stored, &all());
    let wanted = TenantSettings {
        temperature: decimal("0.5"),
        instructions: Some("Rhyme.".into()),
        ..TenantSettings::default()
    };
    assert_eq!(own, wanted);
    let effective = resolve_effective(&behaviour(), &Overrides::default(), &own, &all());
    assert_eq!(resolve_system_prompt(&behaviour(), &effective).as_deref(), Some("Be kind.\n\nRhyme."));
}

#[test]
fn changes_are_checked_field_by_field() {
    let support = AgentName::parse("support").unwrap();
    let agents = BTreeSet::from([&support]);
    let change = |wanted: Value, mutable: &BTreeSet<MutableSetting>| {
        resolve_change(&serde_json::from_value(wanted).unwrap(), mutable, &agents, 1000)
    };
    let good = change(
        json!({"temperature": 0.50, "topP": "1.0", "maxOutputTokens": 1000, "defaultAgent": "support", "instructions": null}),
        &all(),
    );
    let wanted = StoredSettingsChange {
        set: serde_json::from_value(
            json!({"Temperature": "0.5", "TopP": "1", "MaxOutputTokens": 1000, "DefaultAgent": "support"}),
        )
        .unwrap(),
        remove: vec!["Instructions".into()],
    };
    assert_eq!(good, Ok(wanted));
    for (field, value) in [
        ("temperature", json!("2.1")),
        ("temperature", json!([1])),
        ("topP", json!(1.5)),
        ("maxOutputTokens", json!(1001)),
        ("maxOutputTokens", json!(0)),
        ("maxOutputTokens", json!("7")),
        ("defaultAgent", json!("sales")),
        ("instructions", json!("")),
        ("instructions", json!("x".repeat(4097))),
        ("instructions", json!("a\u{0}")),
        ("model", json!("gpt")),
    ] {
        let refused = change(json!({field: value}), &all());
        assert!(matches!(&refused, Err(SettingRefusal::Invalid(f, _)) if f == field), "{field}: {refused:?}");
    }
    assert_eq!(
        change(json!({"topP": "0.5"}), &[MutableSetting::Temperature].into()),
        Err(SettingRefusal::Locked("topP".into()))
    );
    assert_eq!(change(json!({"topP": null}), &[].into()), Err(SettingRefusal::Locked("topP".into())));
}
