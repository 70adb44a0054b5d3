-- For the administrator of one Postgres database, once per instance of agent-tenancy, and again after an upgrade.
-- Makes the roles that the operator works with and takes away what every role may do by default. Idempotent.
-- Plain SQL, so any client runs it; the choices are settings of the session:
--
--   psql -d app -c "SET agent_tenancy.prefix = 'at'" \
--               -c "SET agent_tenancy.operator_password = '...'" -f bootstrap.sql
--
--   agent_tenancy.prefix             prefix of every role and schema; unique on this server. Default: at
--   agent_tenancy.operator_login     the login that gets the password: a or b. Default: a. Rotate by setting the other's.
--   agent_tenancy.operator_password  a password, or better a SCRAM-SHA-256 verifier; unset: left as it is
--   agent_tenancy.administrator      role that may run this file the next time, where a superuser runs it now. Default: the
--                                    owner of the database
--   agent_tenancy.keep_connect       logins, separated by commas, that go on connecting to this database, besides those that
--                                    are connected now or own or may do something in it: poolers of others
--
-- Run it as the owner of the database with CREATEROLE, as a member of the role that owns it (Cloud SQL, Azure), or as a
-- superuser. What only a superuser can do is a notice. The operator checks the result at its start and names what is missing.
DO $bootstrap$
DECLARE
    prefix text := coalesce(nullif(current_setting('agent_tenancy.prefix', true), ''), 'at');
    chosen text := coalesce(nullif(current_setting('agent_tenancy.operator_login', true), ''), 'a');
    password text := nullif(current_setting('agent_tenancy.operator_password', true), '');
    administrator text := nullif(current_setting('agent_tenancy.administrator', true), '');
    keep text[] := regexp_split_to_array(coalesce(current_setting('agent_tenancy.keep_connect', true), ''), '\s*,\s*');
    base text := prefix || '_base';
    logins text[] := ARRAY[prefix || '_operator_a', prefix || '_operator_b'];
    database text := current_database();
    modern boolean := current_setting('server_version_num')::int >= 160000;
    -- From 16 on a membership says what it gives; before, the NOINHERIT of the member does.
    only_set text := CASE WHEN modern THEN ' WITH INHERIT FALSE, SET TRUE' ELSE '' END;
    only_admin text := CASE WHEN modern THEN ' WITH ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE ' WITH ADMIN OPTION' END;
    superuser boolean := (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user);
    owner name := (SELECT pg_catalog.pg_get_userbyid(d.datdba) FROM pg_catalog.pg_database d
        WHERE d.datname = current_database());
    names text;
    holders text;
    role_name text;
    found record;
    large_objects int := 0;
    -- Where a role has no ADMIN option by itself (15), this one keeps it over pg_upgrade, for all roles of the cells. Nobody
    -- logs in as it, and the operator is no member: there it would make each SET ROLE slower with the number of tenants.
    keeper text := prefix || '_upgrade';
    granted int := 0;
BEGIN
    IF current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION 'agent-tenancy needs PostgreSQL 15 or later';
    END IF;
    -- This file is ASCII, so that it comes as far as here.
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'database % has encoding %; agent-tenancy needs UTF8', database, current_setting('server_encoding')
            USING HINT = 'Create another one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
    END IF;
    IF prefix !~ '^[a-z][a-z0-9]{0,9}$' OR prefix ~ '^pg' THEN
        RAISE EXCEPTION 'agent_tenancy.prefix must be 1 to 10 characters of a-z and 0-9, start with a letter, and not with pg';
    END IF;
    IF chosen NOT IN ('a', 'b') THEN
        RAISE EXCEPTION 'agent_tenancy.operator_login must be a or b';
    END IF;
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION 'database % belongs to %; % does not have the privileges of that role', database, owner, current_user
            USING HINT = format('Run this file as %I, as a member of it that inherits its privileges, or as a superuser.', owner);
    END IF;
    IF NOT superuser AND NOT (SELECT r.rolcreaterole FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION '% may not make roles', current_user
            USING HINT = format('As a role that may, run: ALTER ROLE %I CREATEROLE;', current_user);
    END IF;
    -- From 16 on a role is changed only by roles with the ADMIN option on it: its maker, and those that the maker gave it.
    IF modern AND NOT superuser THEN
        SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) INTO names FROM pg_roles r
        WHERE r.rolname = ANY (base || logins) AND NOT pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION');
        IF names IS NOT NULL THEN
            SELECT string_agg(DISTINCT quote_ident(pg_get_userbyid(m.member)), ', ') INTO holders FROM pg_auth_members m
            WHERE m.admin_option AND m.roleid = to_regrole(quote_ident(base));
            RAISE EXCEPTION '% has no ADMIN option on %, which another administrator made', current_user, names
                USING HINT = format('As %s run: GRANT %s TO %I%s;', concat_ws(', or as ', holders, 'a superuser'), names,
                    current_user, only_admin);
        END IF;
    END IF;
    -- A setting may grant the maker of a role more; then the statements below would not decide alone who may do what.
    IF modern THEN
        PERFORM set_config('createrole_self_grant', '', true);
    END IF;
    IF administrator IS NOT NULL AND to_regrole(quote_ident(administrator)) IS NULL THEN
        RAISE EXCEPTION 'agent_tenancy.administrator: there is no role %', administrator;
    END IF;
    -- Superusers need no grant. On 15 the maker of a role has none by itself, and after pg_upgrade it would be missing.
    IF administrator IS NULL THEN
        administrator := CASE WHEN superuser THEN owner WHEN NOT modern THEN current_user END;
    END IF;
    IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = administrator) THEN
        administrator := NULL;
    END IF;

    -- Base makes the cells' roles and owns the control schema. Nobody logs in as it.
    IF to_regrole(quote_ident(base)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', base);
    END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN NOINHERIT CREATEROLE', base);

    -- The operator logs in as one of these two, and becomes base or an owner role inside a transaction only.
    FOREACH role_name IN ARRAY logins LOOP
        IF to_regrole(quote_ident(role_name)) IS NULL THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role_name);
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN NOINHERIT NOCREATEROLE', role_name);
        EXECUTE format('GRANT %I TO %I', base, role_name) || only_set;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', database, role_name);
    END LOOP;
    IF password IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', prefix || '_operator_' || chosen, password);
    END IF;
    IF administrator IS NOT NULL THEN
        FOREACH role_name IN ARRAY base || logins LOOP
            IF NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = to_regrole(quote_ident(role_name))
                AND m.member = to_regrole(quote_ident(administrator)) AND m.admin_option) THEN
                EXECUTE format('GRANT %I TO %I', role_name, administrator) || only_admin;
            END IF;
        END LOOP;
    END IF;

    -- Tenants share this database: what PUBLIC may do here, every tenant's role may do. Logins that have CONNECT through
    -- PUBLIC alone lose it, unless something says that they are used here: a pooler of others, for instance.
    names := NULL;
    FOR found IN
        SELECT r.oid, r.rolname, r.rolname = ANY (keep) OR EXISTS (SELECT FROM pg_stat_activity a
                WHERE a.usesysid = r.oid AND a.datname = database)
            OR EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass
                AND s.dbid = d.oid AND pg_has_role(r.oid, s.refobjid, 'MEMBER')) AS used
        FROM pg_roles r CROSS JOIN pg_database d
        WHERE d.datname = database AND r.rolcanlogin AND NOT r.rolsuper AND NOT starts_with(r.rolname, prefix || '_')
            AND NOT pg_has_role(r.oid, d.datdba, 'USAGE') AND has_database_privilege(r.oid, d.oid, 'CONNECT')
            AND NOT EXISTS (SELECT FROM aclexplode(d.datacl) x
                WHERE x.privilege_type = 'CONNECT' AND x.grantee <> 0 AND pg_has_role(r.oid, x.grantee, 'USAGE'))
        ORDER BY r.rolname
    LOOP
        IF NOT found.used THEN
            names := concat_ws(', ', names, quote_ident(found.rolname));
            CONTINUE;
        END IF;
        RAISE NOTICE 'login % is used in database % and keeps CONNECT', found.rolname, database;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', database, found.rolname);
        IF has_database_privilege('public', database, 'TEMPORARY') THEN
            EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', database, found.rolname);
        END IF;
        IF has_schema_privilege('public', to_regnamespace('public')::oid, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', found.rolname);
        END IF;
    END LOOP;
    IF names IS NOT NULL THEN
        RAISE NOTICE 'these logins lose CONNECT on database %: %', database,
            CASE WHEN length(names) > 2000 THEN left(names, 2000) || ' ...' ELSE names END
            USING HINT = 'Name those that need it in agent_tenancy.keep_connect and run this file again.';
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', database);
    IF to_regnamespace('public') IS NOT NULL THEN
        role_name := (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = 'public');
        IF pg_has_role(current_user, role_name, 'USAGE') THEN
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
        ELSIF has_schema_privilege('public', 'public', 'CREATE, USAGE') THEN
            RAISE NOTICE 'only % can take schema public from every role', role_name
                USING HINT = format('As %I run: REVOKE ALL ON SCHEMA public FROM PUBLIC;', role_name);
        END IF;
    END IF;
    EXECUTE format('GRANT CREATE, CONNECT ON DATABASE %I TO %I WITH GRANT OPTION', database, base);

    -- The ADMIN options of the cells: on 15 they are kept for pg_upgrade, and from 16 on given to where they belong.
    IF NOT modern AND to_regrole(quote_ident(keeper)) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', keeper);
    END IF;
    IF NOT modern AND administrator IS NOT NULL AND NOT pg_has_role(administrator, keeper, 'MEMBER WITH ADMIN OPTION') THEN
        EXECUTE format('GRANT %I TO %I', keeper, administrator) || only_admin;
    END IF;
    -- A role that may not read the control schema (an administrator of 16 or later) made the roles there, and has nothing
    -- to hand on.
    IF to_regnamespace('agent_tenancy') IS NOT NULL AND has_schema_privilege(to_regnamespace('agent_tenancy')::oid, 'USAGE') THEN
        -- Roles of cells and tenants, by their comments: 'agent-tenancy <database> cell <number>' and
        -- 'agent-tenancy <database> <incarnation>'. Read as a whole first: after each GRANT the server
        -- forgets which role is a member of which.
        FOR found IN
            SELECT array_agg(w.name ORDER BY w.name) AS names, array_agg(w.receiver ORDER BY w.name) AS receivers,
                min(w.name) FILTER (WHERE modern AND NOT superuser
                    AND NOT pg_has_role(current_user, w.oid, 'MEMBER WITH ADMIN OPTION')) AS refused
            FROM (SELECT r.oid, r.rolname AS name, CASE WHEN NOT modern THEN keeper
                    WHEN d.description LIKE '% cell %' THEN base ELSE c.owner_role END AS receiver
                FROM agent_tenancy.meta m
                JOIN pg_shdescription d ON d.classoid = 'pg_authid'::regclass
                    AND starts_with(d.description, format('agent-tenancy %s ', m.database_id))
                JOIN pg_roles r ON r.oid = d.objoid
                LEFT JOIN (SELECT t.incarnation, t.cell FROM agent_tenancy.tenants t WHERE t.cell IS NOT NULL
                    UNION SELECT a.incarnation, a.cell FROM agent_tenancy.archives a) k
                    ON k.incarnation::text = split_part(d.description, ' ', 3)
                LEFT JOIN agent_tenancy.cells c ON c.number = k.cell
                WHERE d.description LIKE '% cell %' OR c.owner_role IS NOT NULL) w
            JOIN pg_roles h ON h.rolname = w.receiver
            WHERE NOT EXISTS (SELECT FROM pg_auth_members x
                WHERE x.roleid = w.oid AND x.member = h.oid AND x.admin_option)
        LOOP
            IF found.refused IS NOT NULL THEN
                RAISE EXCEPTION '% has no ADMIN option on role %, which base or an owner role needs', current_user,
                    found.refused USING HINT = 'Run this file as a superuser.';
            END IF;
            granted := coalesce(cardinality(found.names), 0);
            FOR at IN 1..granted LOOP
                EXECUTE format('GRANT %I TO %I', found.names[at], found.receivers[at]) || only_admin;
            END LOOP;
        END LOOP;
        IF granted > 0 THEN
            RAISE NOTICE 'the ADMIN option on % roles was given to %', granted,
                CASE WHEN modern THEN 'base and the owner roles' ELSE keeper END;
        END IF;
    END IF;
    -- Large objects belong to no schema: they can't be counted, and are dropped only with the tenant.
    FOR found IN
        SELECT p.oid::regprocedure AS function, pg_has_role(current_user, p.proowner, 'USAGE') AS ours FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND (p.proname LIKE 'lo\_%' OR p.proname IN ('loread', 'lowrite'))
            AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0)
    LOOP
        IF found.ours THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', found.function);
        ELSE
            large_objects := large_objects + 1;
        END IF;
    END LOOP;
    IF large_objects > 0 THEN
        RAISE NOTICE 'only a superuser can keep roles from making large objects (% functions)', large_objects
            USING HINT = 'Tenants work without that: no storage limit counts large objects, and they are dropped with the tenant.';
    END IF;
END
$bootstrap$;
