//! Tenants that are not accepted: the condition says why, and they become Ready when the cause is gone.

use super::installation::Installation;
use devkit::PgVersion;

on_each_postgres!(a_missing_agent_config_and_a_conflicting_tenant_id_are_reported_and_can_be_fixed);

async fn a_missing_agent_config_and_a_conflicting_tenant_id_are_reported_and_can_be_fixed(
    version: PgVersion,
) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _replica = installation.replica().await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_condition("acme", "Accepted", "False", "AgentConfigMissing").await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new(), "nothing is created before the spec is accepted");
    installation.agent("support", "You help.").await?;
    installation.wait_ready("acme").await?;

    let mut twin = installation.tenants.get("acme").await?;
    twin.metadata = kube::api::ObjectMeta { name: Some("twin".into()), ..Default::default() };
    twin.spec.tenant_id = Some("acme".into());
    twin.status = None;
    installation.tenants.create(&Default::default(), &twin).await?;
    installation.wait_condition("twin", "Accepted", "False", "Conflict").await?;
    installation.delete("twin").await?;
    installation.wait_gone("twin").await?;
    assert_eq!(installation.ledger("active").await?, ["acme"], "deleting the second Tenant drops nothing");
    installation.wait_ready("acme").await
}
