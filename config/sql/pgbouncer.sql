-- For the administrator, where a pgbouncer stands in front of the database; once, and again after a change of this file.
-- Lets pgbouncer ask for the verifiers of this installation's logins, which change with every rotation, and of no
-- others. Run it connected to the tenants' database, after bootstrap.sql and in the same way. Idempotent.
--
-- Run it as the owner of the database with CREATEROLE, or as a member of that role, that may read pg_authid: a superuser
-- may, and on some managed servers their administrator. Where no role may, use the server's own pooler, or none:
-- verifiers in an auth_file would be outdated by the next rotation.
--
--   psql -d app -c "SET agent_tenancy.prefix = 'at'" \
--               -c "SET agent_tenancy.pgbouncer_password = '...'" -f pgbouncer.sql
--
--   agent_tenancy.prefix               the one of bootstrap.sql. Default: at
--   agent_tenancy.pgbouncer_password   password of <prefix>_pgbouncer_auth, which stands in pgbouncer's auth_file; unset:
--                                      left as it is
--   agent_tenancy.administrator        role that may run this file the next time, where a superuser runs it now. Default:
--                                      the owner of the database
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
    administrator text := nullif(current_setting('agent_tenancy.administrator', true), '');
    modern boolean := current_setting('server_version_num')::int >= 160000;
    only_admin text := CASE WHEN modern THEN ' WITH ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE ' WITH ADMIN OPTION' END;
    superuser boolean := (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user);
    owner name := (SELECT pg_catalog.pg_get_userbyid(d.datdba) FROM pg_catalog.pg_database d
        WHERE d.datname = current_database());
    maker name;
BEGIN
    IF NOT has_table_privilege('pg_catalog.pg_authid', 'SELECT') THEN
        RAISE EXCEPTION '% may not read pg_authid, which holds the verifiers', current_user
            USING HINT = format('Run this file as a superuser, or as one run: GRANT SELECT ON pg_catalog.pg_authid TO %I;',
                current_user);
    END IF;
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION 'database % belongs to %; % does not have the privileges of that role', current_database(), owner, current_user
            USING HINT = format('Run this file as %I, as a member of it that inherits its privileges, or as a superuser.', owner);
    END IF;
    IF modern AND NOT pg_has_role(current_user, to_regrole(quote_ident(own)), 'MEMBER WITH ADMIN OPTION') THEN
        RAISE EXCEPTION '% has no ADMIN option on %, which another administrator made', current_user, own
            USING HINT = format('As its maker or a superuser run: GRANT %I TO %I%s;', own, current_user, only_admin);
    END IF;
    -- The function reads pg_authid as its owner.
    SELECT pg_get_userbyid(n.nspowner) INTO maker FROM pg_namespace n WHERE n.nspname = own;
    IF NOT pg_has_role(current_user, maker, 'USAGE') THEN
        RAISE EXCEPTION 'schema % belongs to %; % does not have the privileges of that role', own, maker, current_user
            USING HINT = format('Run this file as %I or as a superuser.', maker);
    END IF;
    IF administrator IS NULL THEN
        administrator := CASE WHEN superuser THEN owner WHEN NOT modern THEN current_user END;
    END IF;
    IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = administrator) THEN
        administrator := NULL;
    END IF;
    IF to_regrole(quote_ident(own)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', own);
    END IF;
    IF password IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', own, password);
    END IF;
    IF administrator IS NOT NULL AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.admin_option
        AND m.roleid = to_regrole(quote_ident(own)) AND m.member = to_regrole(quote_ident(administrator))) THEN
        EXECUTE format('GRANT %I TO %I', own, administrator) || only_admin;
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
