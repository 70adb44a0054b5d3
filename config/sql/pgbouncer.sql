-- For the administrator, where a pgbouncer stands in front of the database; once, and again after a change of this file.
-- Lets pgbouncer ask for the verifiers of this installation's logins, which change with every rotation, and of nobody
-- else's. Run it as a superuser, connected to the tenants' database, after bootstrap.sql and in the same way. Idempotent.
--
--   psql -d app -c "SET agent_tenancy.prefix = 'at'" \
--               -c "SET agent_tenancy.pgbouncer_password = '…'" -f pgbouncer.sql
--
--   agent_tenancy.prefix               the one of bootstrap.sql. Default: at
--   agent_tenancy.pgbouncer_password   password of <prefix>_pgbouncer_auth, which stands in pgbouncer's auth_file; unset:
--                                      left as it is
--
-- In pgbouncer.ini, with the prefix in place of `at`:
--
--   auth_type = scram-sha-256
--   auth_user = at_pgbouncer_auth
--   auth_query = SELECT usename, passwd FROM at_pgbouncer_auth.lookup($1)
DO $pgbouncer$
DECLARE
    prefix text := coalesce(nullif(current_setting('agent_tenancy.prefix', true), ''), 'at');
    password text := nullif(current_setting('agent_tenancy.pgbouncer_password', true), '');
    -- Name of the login, and of the schema with the one function that it may call. No tenant's name has two underscores.
    own text := prefix || '_pgbouncer_auth';
BEGIN
    IF to_regrole(quote_ident(own)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', own);
    END IF;
    IF password IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', own, password);
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), own);
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', own);
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %I.lookup(wanted text) RETURNS TABLE (usename name, passwd text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $lookup$
            SELECT a.rolname, a.rolpassword FROM pg_authid a
            WHERE a.rolname = wanted AND a.rolcanlogin AND (a.rolvaliduntil > now()) IS NOT FALSE
                -- The agent API's, the operator's, and those that exist for one migration of a tenant.
                AND a.rolname ~ %L
        $lookup$
    $create$, own, format('^%s_(acc_[0-9]+_[ab]|operator_[ab]|.+_x)$', prefix));
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', own);
    EXECUTE format('REVOKE ALL ON FUNCTION %I.lookup(text) FROM PUBLIC', own);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', own, own);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %I.lookup(text) TO %I', own, own);
END
$pgbouncer$;
