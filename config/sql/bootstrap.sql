-- For the administrator of one Postgres database, once per instance of agent-tenancy, and again after an upgrade.
-- Makes the roles that the operator works with and takes away what every role may do by default. Idempotent.
-- Plain SQL, so any client runs it; the choices are settings of the session:
--
--   psql -d app -c "SET agent_tenancy.prefix = 'at'" \
--               -c "SET agent_tenancy.operator_password = '…'" -f bootstrap.sql
--
--   agent_tenancy.prefix             prefix of every role and schema; unique on this server. Default: at
--   agent_tenancy.operator_login     whose password is set: a or b. Default: a. Rotate by setting the other's.
--   agent_tenancy.operator_password  a password, or better a SCRAM-SHA-256 verifier; unset: left as it is
--
-- Run it as the owner of the database or as a superuser: REVOKE by anybody else is only a warning in Postgres. The
-- operator checks the result at its start and names what is missing.
DO $bootstrap$
DECLARE
    prefix text := coalesce(nullif(current_setting('agent_tenancy.prefix', true), ''), 'at');
    chosen text := coalesce(nullif(current_setting('agent_tenancy.operator_login', true), ''), 'a');
    password text := nullif(current_setting('agent_tenancy.operator_password', true), '');
    base text := prefix || '_base';
    database text := current_database();
    -- From 16 on a membership says what it gives; before, the NOINHERIT of the member does.
    only_set text := CASE
        WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT FALSE, SET TRUE'
        ELSE ''
    END;
    login text;
    function regprocedure;
BEGIN
    IF current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION 'agent-tenancy needs PostgreSQL 15 or later';
    END IF;
    IF prefix !~ '^[a-z][a-z0-9]{0,9}$' OR prefix ~ '^pg' THEN
        RAISE EXCEPTION 'agent_tenancy.prefix must be 1 to 10 characters of a-z and 0-9, start with a letter, and not with pg';
    END IF;
    IF chosen NOT IN ('a', 'b') THEN
        RAISE EXCEPTION 'agent_tenancy.operator_login must be a or b';
    END IF;

    -- Base makes the cells' roles and owns the control schema. Nobody logs in as it.
    IF to_regrole(quote_ident(base)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', base);
    END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN NOINHERIT CREATEROLE', base);

    -- The operator logs in as one of these two, and becomes base or an owner role inside a transaction only.
    FOREACH login IN ARRAY ARRAY[prefix || '_operator_a', prefix || '_operator_b'] LOOP
        IF to_regrole(quote_ident(login)) IS NULL THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', login);
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN NOINHERIT NOCREATEROLE', login);
        EXECUTE format('GRANT %I TO %I', base, login) || only_set;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', database, login);
    END LOOP;
    IF password IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', prefix || '_operator_' || chosen, password);
    END IF;

    -- Tenants share this database: what PUBLIC may do here, every tenant's role may do.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', database);
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    END IF;
    EXECUTE format('GRANT CREATE, CONNECT ON DATABASE %I TO %I WITH GRANT OPTION', database, base);
    -- Large objects belong to no schema: they could be neither counted nor dropped with a tenant.
    FOR function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND (p.proname LIKE 'lo\_%' OR p.proname IN ('loread', 'lowrite'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END
$bootstrap$;
