-- Data that was kept of a deleted Tenant belongs to that Tenant's namespace. A Tenant of another namespace gets it only if a
-- person allowed it. Runs as the base role, in one transaction, with search_path = pg_catalog.

-- A grant may also be for data of another namespace of the same cluster.
DO $drop$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.conname FROM pg_constraint c WHERE c.contype = 'c'
        AND c.conrelid = 'agent_tenancy.takeover_permissions'::regclass
        AND pg_get_constraintdef(c.oid) LIKE '%from_cluster_id%to_cluster_id%'
    LOOP
        EXECUTE format('ALTER TABLE agent_tenancy.takeover_permissions DROP CONSTRAINT %I', name);
    END LOOP;
END
$drop$;

-- Records a grant, in place of an earlier one for the same tenant id and cluster. The caller has checked the data.
CREATE FUNCTION agent_tenancy.record_grant(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_uid text, p_cluster_id text,
    p_allowed_by text
) RETURNS void LANGUAGE sql AS $record$
    INSERT INTO agent_tenancy.takeover_permissions AS p (tenant_id, to_cluster_id, to_uid, incarnation,
        from_cluster_id, from_uid, allowed_by)
    VALUES (p_tenant_id, p_cluster_id, p_uid, p_incarnation, p_from_cluster_id, p_previous, p_allowed_by)
    ON CONFLICT (tenant_id, to_cluster_id) DO UPDATE SET to_uid = excluded.to_uid, incarnation = excluded.incarnation,
        from_cluster_id = excluded.from_cluster_id, from_uid = excluded.from_uid, allowed_by = excluded.allowed_by,
        allowed_at = now();
$record$;

-- As in 0004, and never for data that this cluster itself has in use, which the constraint forbade.
CREATE OR REPLACE FUNCTION agent_tenancy.allow_takeover(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_uid text, p_namespace text,
    p_name text, p_cluster_id text, p_allowed_by text
) RETURNS void LANGUAGE plpgsql AS $allow$
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    PERFORM FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_incarnation
        AND t.uid = p_previous AND t.cluster_id = p_from_cluster_id AND t.namespace = p_namespace AND t.name = p_name
        AND t.state IN ('active', 'suspended', 'deleting') AND p_from_cluster_id <> p_cluster_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant id % is not that cluster''s any more', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    PERFORM agent_tenancy.record_grant(p_tenant_id, p_incarnation, p_previous, p_from_cluster_id, p_uid, p_cluster_id,
        p_allowed_by);
END
$allow$;

-- Lets a Tenant take over data that is kept: of a retained row, or of an archive.
CREATE FUNCTION agent_tenancy.allow_kept(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_uid text, p_cluster_id text,
    p_allowed_by text
) RETURNS void LANGUAGE plpgsql AS $allow$
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    PERFORM FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_incarnation
        AND t.uid = p_previous AND t.cluster_id = p_from_cluster_id AND t.state = 'retained'
    UNION ALL SELECT FROM agent_tenancy.archives a WHERE a.tenant_id = p_tenant_id AND a.incarnation = p_incarnation
        AND a.uid = p_previous AND a.cluster_id = p_from_cluster_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the data of tenant id % is not kept any more as it was', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    PERFORM agent_tenancy.record_grant(p_tenant_id, p_incarnation, p_previous, p_from_cluster_id, p_uid, p_cluster_id,
        p_allowed_by);
END
$allow$;

-- Uses a grant up in the transaction that takes kept data over, and records the takeover. ATR01 if the grant is gone.
CREATE FUNCTION agent_tenancy.use_grant(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_from_state text, p_uid text,
    p_cluster_id text
) RETURNS void LANGUAGE plpgsql AS $use$
DECLARE
    permission agent_tenancy.takeover_permissions;
BEGIN
    DELETE FROM agent_tenancy.takeover_permissions p
    WHERE p.tenant_id = p_tenant_id AND p.to_cluster_id = p_cluster_id AND p.to_uid = p_uid
        AND p.incarnation = p_incarnation AND p.from_cluster_id = p_from_cluster_id AND p.from_uid = p_previous
    RETURNING * INTO permission;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nobody allows any more that tenant id % is taken over', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    INSERT INTO agent_tenancy.takeovers (tenant_id, incarnation, from_cluster_id, from_uid, from_state, from_seen_at,
        to_cluster_id, to_uid, allowed_by, allowed_at)
    VALUES (p_tenant_id, p_incarnation, p_from_cluster_id, p_previous, p_from_state, now(), p_cluster_id, p_uid,
        permission.allowed_by, permission.allowed_at);
END
$use$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA agent_tenancy FROM PUBLIC;
