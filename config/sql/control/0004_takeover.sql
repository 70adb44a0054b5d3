-- Which tenant may be taken over from a lost cluster because a person said so, and not the operator's settings. Runs as the
-- base role, in one transaction, with search_path = pg_catalog.

-- For one Tenant of one cluster, and for the owner that there was then: used once, and of no effect after another takeover.
CREATE TABLE agent_tenancy.takeover_permissions (
    tenant_id text NOT NULL,
    to_cluster_id text NOT NULL,
    to_uid text NOT NULL,
    incarnation uuid NOT NULL,
    from_cluster_id text NOT NULL,
    from_uid text NOT NULL,
    -- Who said so, by the name that the API server knows.
    allowed_by text NOT NULL CHECK (allowed_by <> ''),
    allowed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, to_cluster_id),
    CHECK (from_cluster_id <> to_cluster_id)
);

ALTER TABLE agent_tenancy.takeovers
    -- Null: the settings of the cluster that took it.
    ADD COLUMN allowed_by text,
    ADD COLUMN allowed_at timestamptz;

-- Lets a Tenant take over a row that another cluster has in use, once that cluster is silent for long enough.
CREATE FUNCTION agent_tenancy.allow_takeover(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_uid text, p_namespace text,
    p_name text, p_cluster_id text, p_allowed_by text
) RETURNS void LANGUAGE plpgsql AS $allow$
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    PERFORM FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_incarnation
        AND t.uid = p_previous AND t.cluster_id = p_from_cluster_id AND t.namespace = p_namespace AND t.name = p_name
        AND t.state IN ('active', 'suspended', 'deleting');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant id % is not that cluster''s any more', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    INSERT INTO agent_tenancy.takeover_permissions AS p (tenant_id, to_cluster_id, to_uid, incarnation,
        from_cluster_id, from_uid, allowed_by)
    VALUES (p_tenant_id, p_cluster_id, p_uid, p_incarnation, p_from_cluster_id, p_previous, p_allowed_by)
    ON CONFLICT (tenant_id, to_cluster_id) DO UPDATE SET to_uid = excluded.to_uid, incarnation = excluded.incarnation,
        from_cluster_id = excluded.from_cluster_id, from_uid = excluded.from_uid, allowed_by = excluded.allowed_by,
        allowed_at = now();
END
$allow$;

-- `take_over` for a Tenant that was allowed to: by the same rules, in the same transaction, and the permission is used up.
CREATE FUNCTION agent_tenancy.take_over_allowed(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_silence bigint, p_uid text,
    p_namespace text, p_name text, p_cluster_id text, p_epoch integer, p_schema_version integer, p_ring_version integer,
    p_ring_digest text
) RETURNS void LANGUAGE plpgsql AS $allowed$
DECLARE
    permission agent_tenancy.takeover_permissions;
BEGIN
    PERFORM agent_tenancy.take_over(p_tenant_id, p_incarnation, p_previous, p_from_cluster_id, p_silence, p_uid,
        p_namespace, p_name, p_cluster_id, p_epoch, p_schema_version, p_ring_version, p_ring_digest);
    DELETE FROM agent_tenancy.takeover_permissions p
    WHERE p.tenant_id = p_tenant_id AND p.to_cluster_id = p_cluster_id AND p.to_uid = p_uid
        AND p.incarnation = p_incarnation AND p.from_cluster_id = p_from_cluster_id AND p.from_uid = p_previous
    RETURNING * INTO permission;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nobody allows any more that tenant id % is taken over', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    UPDATE agent_tenancy.takeovers o SET allowed_by = permission.allowed_by, allowed_at = permission.allowed_at
    WHERE o.id = (SELECT max(last.id) FROM agent_tenancy.takeovers last
        WHERE last.incarnation = p_incarnation AND last.to_cluster_id = p_cluster_id AND last.to_uid = p_uid);
END
$allowed$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA agent_tenancy FROM PUBLIC;
