-- Which files of the tenant migrations a schema has had, and what kept one from going on. Runs as the base role, in one
-- transaction, with search_path = pg_catalog.
--
-- Checksums are SHA-256 in hexadecimal; the one of file N is element N. An empty list is that of a schema that was made
-- before they were noted: it is filled in by the next file that is applied.

ALTER TABLE agent_tenancy.tenants
    ADD COLUMN schema_checksums text[] NOT NULL DEFAULT '{}',
    -- When a file was last applied.
    ADD COLUMN migrated_at timestamptz NOT NULL DEFAULT now(),
    -- The files of the platform team's own (ConfigMap) that were applied.
    ADD COLUMN own_version integer NOT NULL DEFAULT 0,
    ADD COLUMN own_checksums text[] NOT NULL DEFAULT '{}';
ALTER TABLE agent_tenancy.archives
    ADD COLUMN schema_checksums text[] NOT NULL DEFAULT '{}',
    ADD COLUMN own_version integer NOT NULL DEFAULT 0,
    ADD COLUMN own_checksums text[] NOT NULL DEFAULT '{}';

-- The file that failed for a tenant: it is not tried again by itself. One row for each tenant at most.
CREATE TABLE agent_tenancy.migration_failures (
    incarnation uuid PRIMARY KEY,
    -- Files of the program ('base') or of the platform team ('own').
    track text NOT NULL CHECK (track IN ('base', 'own')),
    version integer NOT NULL,
    checksum text NOT NULL,
    -- The value of the annotation that asked for this attempt, if one did.
    request text NOT NULL DEFAULT '',
    message text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    failed_at timestamptz NOT NULL DEFAULT now()
);

-- Notes what a tenant that was just entered has had.
CREATE FUNCTION agent_tenancy.note_schema(p_incarnation uuid, p_version integer, p_checksums text[]) RETURNS void
LANGUAGE sql AS $note$
    UPDATE agent_tenancy.tenants SET schema_version = p_version, schema_checksums = p_checksums, migrated_at = now()
    WHERE incarnation = p_incarnation
$note$;

-- Enters that a row that the caller holds goes from one version to the next, and forgets an earlier failure. ATD01 if it
-- has it already.
CREATE FUNCTION agent_tenancy.advance(
    p_incarnation uuid, p_track text, p_from integer, p_to integer, p_checksums text[], p_epoch integer
) RETURNS void LANGUAGE plpgsql AS $advance$
DECLARE
    found_version integer;
BEGIN
    IF p_track = 'base' THEN
        UPDATE agent_tenancy.tenants t SET schema_version = p_to, schema_checksums = p_checksums, migrated_at = now(),
            epoch = p_epoch
        WHERE t.incarnation = p_incarnation AND t.schema_version = p_from;
    ELSE
        UPDATE agent_tenancy.tenants t SET own_version = p_to, own_checksums = p_checksums, migrated_at = now(),
            epoch = p_epoch
        WHERE t.incarnation = p_incarnation AND t.own_version = p_from;
    END IF;
    IF NOT FOUND THEN
        SELECT CASE p_track WHEN 'base' THEN t.schema_version ELSE t.own_version END INTO found_version
        FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation;
        IF found_version = p_to THEN
            RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
        END IF;
        RAISE EXCEPTION 'the schema has version %, not %', found_version, p_from USING ERRCODE = 'ATR01';
    END IF;
    DELETE FROM agent_tenancy.migration_failures f WHERE f.incarnation = p_incarnation;
END
$advance$;

-- Fails unless a row that the caller holds still has this version.
CREATE FUNCTION agent_tenancy.check_version(p_incarnation uuid, p_track text, p_version integer) RETURNS void
LANGUAGE plpgsql AS $check$
DECLARE
    found_version integer;
BEGIN
    SELECT CASE p_track WHEN 'base' THEN t.schema_version ELSE t.own_version END INTO found_version
    FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation;
    IF found_version > p_version THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    IF found_version IS DISTINCT FROM p_version THEN
        RAISE EXCEPTION 'the schema has version %, not %', found_version, p_version USING ERRCODE = 'ATR01';
    END IF;
END
$check$;

-- Remembers that a file failed for a row that the caller holds.
CREATE FUNCTION agent_tenancy.note_failure(
    p_incarnation uuid, p_track text, p_version integer, p_checksum text, p_request text, p_message text
) RETURNS void LANGUAGE sql AS $failure$
    INSERT INTO agent_tenancy.migration_failures AS f (incarnation, track, version, checksum, request, message)
    VALUES (p_incarnation, p_track, p_version, p_checksum, p_request, p_message)
    ON CONFLICT (incarnation) DO UPDATE SET track = excluded.track, version = excluded.version,
        checksum = excluded.checksum, request = excluded.request, message = excluded.message, failed_at = now(),
        attempts = CASE WHEN (f.track, f.version, f.checksum) = (excluded.track, excluded.version, excluded.checksum)
            THEN f.attempts + 1 ELSE 1 END
$failure$;

-- Makes the group through which the logins for a cell's own migrations may connect to the database, and nothing else: they
-- come and go, and a grant on the database for each would be two changes of one catalog row at once.
CREATE FUNCTION agent_tenancy.make_connectors(p_number integer, p_group text) RETURNS void LANGUAGE plpgsql AS $make$
DECLARE
    mark text := (SELECT format('agent-tenancy %s cell %s', m.database_id, p_number) FROM agent_tenancy.meta m);
BEGIN
    IF to_regrole(quote_ident(p_group)) IS NULL THEN
        -- The cells' lock.
        PERFORM pg_advisory_xact_lock(7018690069353686380);
    END IF;
    IF to_regrole(quote_ident(p_group)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', p_group);
        EXECUTE format('COMMENT ON ROLE %I IS %L', p_group, mark);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), p_group);
    END IF;
    IF shobj_description(to_regrole(quote_ident(p_group)), 'pg_authid') IS DISTINCT FROM mark THEN
        RAISE EXCEPTION 'role % carries a foreign mark', p_group USING ERRCODE = 'ATC02';
    END IF;
END
$make$;

-- As in 0001, and takes along what the schema has had.
CREATE OR REPLACE FUNCTION agent_tenancy.archive(
    p_incarnation uuid, p_schema text, p_role text, p_keep_seconds bigint, p_epoch integer
) RETURNS void LANGUAGE plpgsql AS $archive$
BEGIN
    INSERT INTO agent_tenancy.archives (incarnation, tenant_id, uid, namespace, name, cluster_id, cell, schema_name,
        role_name, schema_version, ring_version, drop_after, schema_checksums, own_version, own_checksums)
    SELECT t.incarnation, t.tenant_id, t.uid, t.namespace, t.name, t.cluster_id, t.cell, p_schema,
        p_role, t.schema_version, t.ring_version, now() + make_interval(secs => p_keep_seconds), t.schema_checksums,
        t.own_version, t.own_checksums
    FROM agent_tenancy.tenants t WHERE t.incarnation = p_incarnation AND t.state <> 'dropped';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    UPDATE agent_tenancy.tenants t SET state = 'dropped', state_since = now(), epoch = p_epoch
    WHERE t.incarnation = p_incarnation;
END
$archive$;

-- As in 0001, and brings back what the schema has had of the platform team's own files.
CREATE OR REPLACE FUNCTION agent_tenancy.restore(p_tenant_id text, p_incarnation uuid, p_previous text) RETURNS void
LANGUAGE plpgsql AS $restore$
DECLARE
    found_row agent_tenancy.archives;
BEGIN
    DELETE FROM agent_tenancy.archives a
    WHERE a.incarnation = p_incarnation AND a.tenant_id = p_tenant_id AND a.uid = p_previous
    RETURNING * INTO found_row;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the archive of tenant id % from UID % is gone', p_tenant_id, p_previous
            USING ERRCODE = 'ATR01';
    END IF;
    UPDATE agent_tenancy.tenants t SET own_version = found_row.own_version, own_checksums = found_row.own_checksums
    WHERE t.incarnation = p_incarnation;
END
$restore$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA agent_tenancy FROM PUBLIC;
