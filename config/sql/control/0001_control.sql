-- The control schema: who owns what in this database. Runs as the base role, in one transaction, with
-- search_path = pg_catalog. Nothing here is for PUBLIC. Functions run as their caller, who is always base.
--
-- SQLSTATEs of our own: ATF01 fenced (a newer leader exists) · ATC01 the row belongs to another owner · ATC02 a role or
-- schema carries a foreign mark · ATC03 something outside the schema depends on it · ATC04 a role or schema that was
-- there is gone · ATD01 already done · ATR01 the row is not the one that was looked at: look again.

REVOKE ALL ON SCHEMA agent_tenancy FROM PUBLIC;

-- One row: which database this is.
CREATE TABLE agent_tenancy.meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    database_id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO agent_tenancy.meta DEFAULT VALUES;

-- The migrations of this schema that were applied.
CREATE TABLE agent_tenancy.migrations (
    version integer PRIMARY KEY CHECK (version > 0),
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The fence: the epoch of each cluster's leader.
CREATE TABLE agent_tenancy.epochs (
    cluster_id text PRIMARY KEY CHECK (length(cluster_id) BETWEEN 1 AND 253),
    epoch integer NOT NULL
);

-- When a cluster's leader was last heard of. A table of its own: whoever beats waits for no change that is under way.
CREATE TABLE agent_tenancy.heartbeats (
    cluster_id text PRIMARY KEY CHECK (length(cluster_id) BETWEEN 1 AND 253),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Who took over what from a cluster that is no more.
CREATE TABLE agent_tenancy.takeovers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now(),
    tenant_id text NOT NULL,
    incarnation uuid NOT NULL,
    from_cluster_id text NOT NULL,
    from_uid text NOT NULL,
    from_state text NOT NULL,
    from_seen_at timestamptz NOT NULL,
    to_cluster_id text NOT NULL,
    to_uid text NOT NULL
);

CREATE TABLE agent_tenancy.cells (
    number integer PRIMARY KEY CHECK (number > 0),
    owner_role text NOT NULL UNIQUE,
    access_role text NOT NULL UNIQUE,
    login_a text NOT NULL UNIQUE,
    login_b text NOT NULL UNIQUE,
    -- Which of the two logins the agent API uses.
    active_login text NOT NULL DEFAULT 'a' CHECK (active_login IN ('a', 'b')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The ledger: one row per tenant id that was ever used.
CREATE TABLE agent_tenancy.tenants (
    tenant_id text PRIMARY KEY,
    incarnation uuid NOT NULL UNIQUE,
    uid text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    cluster_id text NOT NULL,
    -- Epoch of the leader that last changed the row.
    epoch integer NOT NULL,
    -- Null in a tombstone of a tenant for which nothing was made.
    cell integer REFERENCES agent_tenancy.cells (number),
    schema_name text NOT NULL UNIQUE,
    role_name text NOT NULL UNIQUE,
    schema_version integer NOT NULL,
    -- The last keyring that was written: its version, and a hash of it.
    ring_version integer NOT NULL,
    ring_digest text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'suspended', 'deleting', 'retained', 'dropped')),
    state_since timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (cell IS NOT NULL OR state = 'dropped')
);
CREATE INDEX tenants_by_cell ON agent_tenancy.tenants (cell) WHERE state <> 'dropped';

-- Data of deleted Tenants under names of its own, out of everybody's reach, until somebody takes it over or its time is
-- over. Their tenant ids are free; a tenant id may have many. An archive stays in its cell: the owner still has its role.
CREATE TABLE agent_tenancy.archives (
    incarnation uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    uid text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    -- Whose leader drops it.
    cluster_id text NOT NULL,
    cell integer NOT NULL REFERENCES agent_tenancy.cells (number),
    schema_name text NOT NULL UNIQUE,
    role_name text NOT NULL UNIQUE,
    schema_version integer NOT NULL,
    ring_version integer NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    -- As it was promised then; an administrator may set another time.
    drop_after timestamptz NOT NULL
);
CREATE INDEX archives_by_tenant ON agent_tenancy.archives (tenant_id);
CREATE INDEX archives_by_time ON agent_tenancy.archives (cluster_id, drop_after);

-- Fails unless the cluster's leader still has this epoch; holds the row until the transaction ends.
CREATE FUNCTION agent_tenancy.fence(p_cluster_id text, p_epoch integer) RETURNS void LANGUAGE plpgsql AS $fence$
DECLARE
    current_epoch integer;
BEGIN
    SELECT e.epoch INTO current_epoch FROM agent_tenancy.epochs e WHERE e.cluster_id = p_cluster_id FOR SHARE;
    IF current_epoch IS DISTINCT FROM p_epoch THEN
        RAISE EXCEPTION 'the leader of this cluster has epoch %, not %', coalesce(current_epoch::text, 'none'), p_epoch
            USING ERRCODE = 'ATF01';
    END IF;
END
$fence$;

-- One change of a tenant at a time.
CREATE FUNCTION agent_tenancy.lock_tenant(p_tenant_id text) RETURNS void LANGUAGE sql AS $lock$
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(p_tenant_id, 4711))
$lock$;

-- Says why a row can't be entered: it is somebody else's, or it became another one since it was looked at.
CREATE FUNCTION agent_tenancy.refuse(found_row agent_tenancy.tenants, p_uid text) RETURNS void
LANGUAGE plpgsql AS $refuse$
BEGIN
    IF found_row.tenant_id IS NULL THEN
        RAISE EXCEPTION 'schema, role or incarnation is entered for another tenant id' USING ERRCODE = 'ATC01';
    END IF;
    IF found_row.uid = p_uid OR found_row.state = 'dropped' THEN
        RAISE EXCEPTION 'the row of tenant id % is another one by now', found_row.tenant_id USING ERRCODE = 'ATR01';
    END IF;
    RAISE EXCEPTION 'the tenant id belongs to Tenant %/% (UID %), state %',
        found_row.namespace, found_row.name, found_row.uid, found_row.state USING ERRCODE = 'ATC01';
END
$refuse$;

-- Enters a new tenant, or puts it in place of a tombstone. Fails with ATD01 if this very tenant is there already.
CREATE FUNCTION agent_tenancy.claim(
    p_tenant_id text, p_incarnation uuid, p_replaces uuid, p_uid text, p_namespace text, p_name text,
    p_cluster_id text, p_epoch integer, p_cell integer, p_schema text, p_role text, p_schema_version integer,
    p_ring_version integer, p_ring_digest text
) RETURNS void LANGUAGE plpgsql AS $claim$
DECLARE
    found_row agent_tenancy.tenants;
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    IF p_replaces IS NULL THEN
        INSERT INTO agent_tenancy.tenants (tenant_id, incarnation, uid, namespace, name, cluster_id, epoch, cell,
            schema_name, role_name, schema_version, ring_version, ring_digest, state)
        VALUES (p_tenant_id, p_incarnation, p_uid, p_namespace, p_name, p_cluster_id, p_epoch, p_cell,
            p_schema, p_role, p_schema_version, p_ring_version, p_ring_digest, 'active')
        ON CONFLICT DO NOTHING;
    ELSE
        UPDATE agent_tenancy.tenants t SET incarnation = p_incarnation, uid = p_uid, namespace = p_namespace,
            name = p_name, cluster_id = p_cluster_id, epoch = p_epoch, cell = p_cell, schema_name = p_schema,
            role_name = p_role, schema_version = p_schema_version, ring_version = p_ring_version,
            ring_digest = p_ring_digest, state = 'active',
            state_since = now(), created_at = now()
        WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_replaces AND t.state = 'dropped';
    END IF;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO found_row FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id;
    IF found_row.incarnation = p_incarnation AND found_row.uid = p_uid AND found_row.state = 'active' THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    PERFORM agent_tenancy.refuse(found_row, p_uid);
END
$claim$;

-- Leaves a tombstone for a tenant for which nothing was made, also in place of an earlier tenant's tombstone: a claim
-- that was sent before and arrives late finds another incarnation, and fails. ATD01 if this very one is there already.
CREATE FUNCTION agent_tenancy.bury(
    p_tenant_id text, p_incarnation uuid, p_replaces uuid, p_uid text, p_namespace text, p_name text,
    p_cluster_id text, p_epoch integer, p_database_name text
) RETURNS void LANGUAGE plpgsql AS $bury$
DECLARE
    found_row agent_tenancy.tenants;
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    IF p_replaces IS NULL THEN
        INSERT INTO agent_tenancy.tenants (tenant_id, incarnation, uid, namespace, name, cluster_id, epoch, cell,
            schema_name, role_name, schema_version, ring_version, ring_digest, state)
        VALUES (p_tenant_id, p_incarnation, p_uid, p_namespace, p_name, p_cluster_id, p_epoch, NULL,
            p_database_name, p_database_name, 0, 0, '', 'dropped')
        ON CONFLICT DO NOTHING;
    ELSE
        UPDATE agent_tenancy.tenants t SET incarnation = p_incarnation, uid = p_uid, namespace = p_namespace,
            name = p_name, cluster_id = p_cluster_id, epoch = p_epoch, cell = NULL, schema_name = p_database_name,
            role_name = p_database_name, schema_version = 0, ring_version = 0, ring_digest = '', state_since = now(),
            created_at = now()
        WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_replaces AND t.state = 'dropped';
    END IF;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO found_row FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id;
    IF found_row.uid = p_uid AND found_row.state = 'dropped' THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    PERFORM agent_tenancy.refuse(found_row, p_uid);
END
$bury$;

-- Locks the row of a tenant for a change, if it still belongs to this owner and is in one of these states.
CREATE FUNCTION agent_tenancy.hold(p_incarnation uuid, p_uid text, p_states text[]) RETURNS void
LANGUAGE plpgsql AS $hold$
DECLARE
    wanted_id text;
    found_row agent_tenancy.tenants;
BEGIN
    SELECT t.tenant_id INTO wanted_id FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation;
    IF wanted_id IS NOT NULL THEN
        PERFORM agent_tenancy.lock_tenant(wanted_id);
        SELECT * INTO found_row FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation FOR UPDATE;
    END IF;
    IF found_row.tenant_id IS NULL THEN
        RAISE EXCEPTION 'the ledger has no row of incarnation %', p_incarnation USING ERRCODE = 'ATC01';
    END IF;
    IF found_row.uid <> p_uid OR NOT found_row.state = ANY (p_states) THEN
        RAISE EXCEPTION 'the row of tenant id % belongs to UID %, state %',
            found_row.tenant_id, found_row.uid, found_row.state USING ERRCODE = 'ATC01';
    END IF;
END
$hold$;

-- Enters the data of a row that the caller holds as an archive, under the names that it is about to get, and leaves a
-- tombstone. ATD01 if there is a tombstone already.
CREATE FUNCTION agent_tenancy.archive(
    p_incarnation uuid, p_schema text, p_role text, p_keep_seconds bigint, p_epoch integer
) RETURNS void LANGUAGE plpgsql AS $archive$
BEGIN
    INSERT INTO agent_tenancy.archives (incarnation, tenant_id, uid, namespace, name, cluster_id, cell, schema_name,
        role_name, schema_version, ring_version, drop_after)
    SELECT t.incarnation, t.tenant_id, t.uid, t.namespace, t.name, t.cluster_id, t.cell, p_schema,
        p_role, t.schema_version, t.ring_version, now() + make_interval(secs => p_keep_seconds)
    FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation AND t.state <> 'dropped';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    UPDATE agent_tenancy.tenants t SET state = 'dropped', state_since = now(), epoch = p_epoch
    WHERE t.incarnation = p_incarnation;
END
$archive$;

-- Takes an archive off the list for the tenant that was entered with its data.
CREATE FUNCTION agent_tenancy.restore(p_tenant_id text, p_incarnation uuid, p_previous text) RETURNS void
LANGUAGE plpgsql AS $restore$
BEGIN
    DELETE FROM agent_tenancy.archives a
    WHERE a.incarnation = p_incarnation AND a.tenant_id = p_tenant_id AND a.uid = p_previous;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the archive of tenant id % from UID % is gone', p_tenant_id, p_previous
            USING ERRCODE = 'ATR01';
    END IF;
END
$restore$;

-- Takes an archive off the list whose time is over. ATD01 if it is gone, or its time was made longer.
CREATE FUNCTION agent_tenancy.expire(p_incarnation uuid, p_cluster_id text) RETURNS void LANGUAGE plpgsql AS $expire$
DECLARE
    wanted_id text;
BEGIN
    SELECT a.tenant_id INTO wanted_id FROM agent_tenancy.archives a WHERE a.incarnation = p_incarnation;
    PERFORM agent_tenancy.lock_tenant(coalesce(wanted_id, ''));
    DELETE FROM agent_tenancy.archives a
    WHERE a.incarnation = p_incarnation AND a.cluster_id = p_cluster_id AND a.drop_after <= now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
END
$expire$;

-- Gives a row that has been retained since `p_since_micros` to another Tenant. ATD01 if it has it already.
CREATE FUNCTION agent_tenancy.rebind(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_since_micros bigint, p_uid text, p_namespace text,
    p_name text, p_cluster_id text, p_epoch integer, p_schema_version integer, p_ring_version integer,
    p_ring_digest text
) RETURNS void LANGUAGE plpgsql AS $rebind$
DECLARE
    found_row agent_tenancy.tenants;
BEGIN
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    UPDATE agent_tenancy.tenants t SET uid = p_uid, namespace = p_namespace, name = p_name,
        cluster_id = p_cluster_id, epoch = p_epoch, schema_version = p_schema_version,
        ring_version = p_ring_version, ring_digest = p_ring_digest, state = 'active', state_since = now()
    WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_incarnation AND t.uid = p_previous
        AND t.state = 'retained' AND (extract(epoch FROM t.state_since) * 1000000)::bigint = p_since_micros;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO found_row FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id;
    IF found_row.incarnation = p_incarnation AND found_row.uid = p_uid AND found_row.state = 'active' THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    RAISE EXCEPTION 'the data of tenant id % is not kept any more as it was', p_tenant_id USING ERRCODE = 'ATR01';
END
$rebind$;

-- Gives a row of a cluster that has been silent for `p_silence` seconds to the Tenant of the same namespace and name in
-- another. ATD01 if it has it already.
CREATE FUNCTION agent_tenancy.take_over(
    p_tenant_id text, p_incarnation uuid, p_previous text, p_from_cluster_id text, p_silence bigint, p_uid text,
    p_namespace text, p_name text, p_cluster_id text, p_epoch integer, p_schema_version integer, p_ring_version integer,
    p_ring_digest text
) RETURNS void LANGUAGE plpgsql AS $takeover$
DECLARE
    found_row agent_tenancy.tenants;
    last_seen timestamptz;
BEGIN
    -- Also keeps the other's leader from changing anything meanwhile, should it wake up now.
    PERFORM FROM agent_tenancy.epochs e WHERE e.cluster_id = p_from_cluster_id FOR UPDATE;
    PERFORM agent_tenancy.lock_tenant(p_tenant_id);
    SELECT * INTO found_row FROM agent_tenancy.tenants t WHERE t.tenant_id = p_tenant_id;
    IF found_row.incarnation = p_incarnation AND found_row.uid = p_uid AND found_row.cluster_id = p_cluster_id
        AND found_row.state = 'active' THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    SELECT h.seen_at INTO last_seen FROM agent_tenancy.heartbeats h WHERE h.cluster_id = p_from_cluster_id;
    IF last_seen IS NULL OR last_seen > clock_timestamp() - make_interval(secs => p_silence) THEN
        RAISE EXCEPTION 'cluster % was heard of less than % seconds ago', p_from_cluster_id, p_silence
            USING ERRCODE = 'ATR01';
    END IF;
    UPDATE agent_tenancy.tenants t SET uid = p_uid, cluster_id = p_cluster_id, epoch = p_epoch,
        schema_version = p_schema_version, ring_version = p_ring_version, ring_digest = p_ring_digest,
        state = 'active', state_since = now()
    WHERE t.tenant_id = p_tenant_id AND t.incarnation = p_incarnation AND t.uid = p_previous
        AND t.cluster_id = p_from_cluster_id AND t.namespace = p_namespace AND t.name = p_name
        AND t.state IN ('active', 'suspended', 'deleting');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant id % is not that cluster''s any more', p_tenant_id USING ERRCODE = 'ATR01';
    END IF;
    INSERT INTO agent_tenancy.takeovers (tenant_id, incarnation, from_cluster_id, from_uid, from_state, from_seen_at,
        to_cluster_id, to_uid)
    VALUES (p_tenant_id, p_incarnation, p_from_cluster_id, p_previous, found_row.state, last_seen, p_cluster_id, p_uid);
END
$takeover$;

-- Fails if the role or the schema exists and carries another mark than ours. `p_all`: both must exist, and one without
-- any mark passes, because the caller puts the mark back (which only the objects' owner can do).
CREATE FUNCTION agent_tenancy.check_marks(p_role text, p_schema text, p_mark text, p_all boolean) RETURNS void
LANGUAGE plpgsql AS $marks$
DECLARE
    role_id oid := to_regrole(quote_ident(p_role));
    schema_id oid := to_regnamespace(quote_ident(p_schema));
    role_mark text := coalesce(shobj_description(role_id, 'pg_authid'), CASE WHEN p_all THEN p_mark END);
    schema_mark text := coalesce(obj_description(schema_id, 'pg_namespace'), CASE WHEN p_all THEN p_mark END);
BEGIN
    IF p_all AND (role_id IS NULL OR schema_id IS NULL) THEN
        RAISE EXCEPTION 'role % or schema % is gone', p_role, p_schema USING ERRCODE = 'ATC04';
    END IF;
    IF role_id IS NOT NULL AND role_mark IS DISTINCT FROM p_mark THEN
        RAISE EXCEPTION 'role % carries a foreign mark', p_role USING ERRCODE = 'ATC02';
    END IF;
    IF schema_id IS NOT NULL AND schema_mark IS DISTINCT FROM p_mark THEN
        RAISE EXCEPTION 'schema % carries a foreign mark', p_schema USING ERRCODE = 'ATC02';
    END IF;
END
$marks$;

-- Fails if an object outside the schema depends on one in it: DROP … CASCADE would take it along.
CREATE FUNCTION agent_tenancy.check_dependents(p_schema text) RETURNS void LANGUAGE plpgsql AS $dependents$
DECLARE
    schema_id oid := to_regnamespace(quote_ident(p_schema));
    outside text;
BEGIN
    IF schema_id IS NULL THEN
        RETURN;
    END IF;
    WITH inside AS (
        SELECT 'pg_class'::regclass AS class_id, c.oid AS object_id FROM pg_class c WHERE c.relnamespace = schema_id
        UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t WHERE t.typnamespace = schema_id
        UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p WHERE p.pronamespace = schema_id
    ), dependents AS (
        SELECT DISTINCT d.classid, d.objid, CASE d.classid
            WHEN 'pg_class'::regclass THEN (SELECT c.relnamespace FROM pg_class c WHERE c.oid = d.objid)
            WHEN 'pg_type'::regclass THEN (SELECT t.typnamespace FROM pg_type t WHERE t.oid = d.objid)
            WHEN 'pg_proc'::regclass THEN (SELECT p.pronamespace FROM pg_proc p WHERE p.oid = d.objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT c.connamespace FROM pg_constraint c WHERE c.oid = d.objid)
            WHEN 'pg_rewrite'::regclass THEN
                (SELECT c.relnamespace FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE r.oid = d.objid)
            WHEN 'pg_attrdef'::regclass THEN
                (SELECT c.relnamespace FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid WHERE a.oid = d.objid)
            WHEN 'pg_trigger'::regclass THEN
                (SELECT c.relnamespace FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid WHERE g.oid = d.objid)
            WHEN 'pg_policy'::regclass THEN
                (SELECT c.relnamespace FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE p.oid = d.objid)
        END AS home
        FROM inside i JOIN pg_depend d ON d.refclassid = i.class_id AND d.refobjid = i.object_id
        WHERE d.deptype IN ('n', 'a')
    ), foreign_ones AS (
        SELECT pg_describe_object(d.classid, d.objid, 0) AS description FROM dependents d
        -- A table's TOAST table lives in pg_toast and goes with it.
        WHERE d.home IS NOT NULL AND d.home <> schema_id AND d.home <> 'pg_toast'::regnamespace
        ORDER BY 1 LIMIT 5
    )
    SELECT string_agg(f.description, ', ') INTO outside FROM foreign_ones f;
    IF outside IS NOT NULL THEN
        RAISE EXCEPTION 'outside of schema % depend on it: %', p_schema, outside USING ERRCODE = 'ATC03';
    END IF;
END
$dependents$;

-- Makes the roles of a cell where they are missing, and sets the password (a SCRAM verifier) of its first login.
-- The caller holds the cells' lock. A role that is there without a row was made by somebody else: 42710.
CREATE FUNCTION agent_tenancy.make_cell(
    p_number integer, p_owner text, p_access text, p_login_a text, p_login_b text, p_verifier text
) RETURNS void LANGUAGE plpgsql AS $cell$
DECLARE
    only_set text := CASE
        WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT FALSE, SET TRUE'
        ELSE ''
    END;
    mark text := (SELECT format('agent-tenancy %s cell %s', m.database_id, p_number) FROM agent_tenancy.meta m);
    role_name text;
BEGIN
    IF NOT EXISTS (SELECT FROM agent_tenancy.cells c WHERE c.number = p_number) THEN
        -- INHERIT: on 15 the only way to drop what a tenant's role owns. It is a member of nothing else.
        EXECUTE format('CREATE ROLE %I NOLOGIN INHERIT CREATEROLE', p_owner);
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', p_access);
        EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), p_owner);
        EXECUTE format('GRANT %I TO %I', p_owner, current_user) || only_set;
        FOREACH role_name IN ARRAY ARRAY[p_login_a, p_login_b] LOOP
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role_name);
            EXECUTE format('GRANT %I TO %I', p_access, role_name) || only_set;
            -- Directly: a NOINHERIT login gets nothing through a group.
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_name);
        END LOOP;
        FOREACH role_name IN ARRAY ARRAY[p_owner, p_access, p_login_a, p_login_b] LOOP
            EXECUTE format('COMMENT ON ROLE %I IS %L', role_name, mark);
        END LOOP;
        INSERT INTO agent_tenancy.cells (number, owner_role, access_role, login_a, login_b)
        VALUES (p_number, p_owner, p_access, p_login_a, p_login_b);
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', p_login_a, p_verifier);
END
$cell$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA agent_tenancy FROM PUBLIC;
