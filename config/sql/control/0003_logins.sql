-- Rotating the agent API's logins. A cell has two; the one that is not in use can't log in. Runs as 0001_control.sql does.

ALTER TABLE agent_tenancy.cells
    -- Names the password that `active_login` has; the cell's registry entry holds the same name. Null: set by an earlier
    -- version, which gave none.
    ADD COLUMN login_id uuid,
    -- When that password was set.
    ADD COLUMN login_since timestamptz NOT NULL DEFAULT now(),
    -- The last requests (values of annotations) that a rotation fulfilled.
    ADD COLUMN handled_rotation text,
    ADD COLUMN handled_revocation text;
UPDATE agent_tenancy.cells SET login_since = created_at;

-- Fails unless a login of a cell is there and carries the cell's mark.
CREATE FUNCTION agent_tenancy.check_login(p_number integer, p_login text) RETURNS void LANGUAGE plpgsql AS $check$
DECLARE
    mark text := (SELECT format('agent-tenancy %s cell %s', m.database_id, p_number) FROM agent_tenancy.meta m);
BEGIN
    IF to_regrole(quote_ident(p_login)) IS NULL THEN
        RAISE EXCEPTION 'role % is gone', p_login USING ERRCODE = 'ATC04';
    END IF;
    IF shobj_description(to_regrole(quote_ident(p_login)), 'pg_authid') IS DISTINCT FROM mark THEN
        RAISE EXCEPTION 'role % carries a foreign mark', p_login USING ERRCODE = 'ATC02';
    END IF;
END
$check$;

-- Gives one of a cell's logins ('a' or 'b') the password `p_login_id` (a SCRAM verifier) and lets it log in; it is the one
-- to use from now on. The other one is left as it is. ATD01 if this was done before; ATR01 if the cell's present password
-- is not `p_expected`: look again. The caller holds the cells' lock.
CREATE FUNCTION agent_tenancy.set_login(
    p_number integer, p_slot text, p_login_id uuid, p_expected uuid, p_verifier text, p_rotation text, p_revocation text
) RETURNS void LANGUAGE plpgsql AS $set$
DECLARE
    found_row agent_tenancy.cells;
    login text;
BEGIN
    SELECT * INTO found_row FROM agent_tenancy.cells c WHERE c.number = p_number FOR UPDATE;
    IF found_row.active_login = p_slot AND found_row.login_id = p_login_id THEN
        RAISE EXCEPTION 'already done' USING ERRCODE = 'ATD01';
    END IF;
    IF found_row.number IS NULL OR found_row.login_id IS DISTINCT FROM p_expected THEN
        RAISE EXCEPTION 'the login of cell % is another one by now', p_number USING ERRCODE = 'ATR01';
    END IF;
    login := CASE p_slot WHEN 'a' THEN found_row.login_a WHEN 'b' THEN found_row.login_b END;
    PERFORM agent_tenancy.check_login(p_number, login);
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, p_verifier);
    UPDATE agent_tenancy.cells c SET active_login = p_slot, login_id = p_login_id, login_since = now(),
        handled_rotation = coalesce(p_rotation, c.handled_rotation),
        handled_revocation = coalesce(p_revocation, c.handled_revocation)
    WHERE c.number = p_number;
END
$set$;

-- Takes the right to log in, and the password, from the login of a cell that is not in use, while `p_login_id` is the
-- other one's password. Unless `p_force`, only if no session uses it: ATR01 otherwise. Sessions that are there go on.
CREATE FUNCTION agent_tenancy.lock_login(p_number integer, p_slot text, p_login_id uuid, p_force boolean) RETURNS void
LANGUAGE plpgsql AS $lock$
DECLARE
    found_row agent_tenancy.cells;
    login text;
BEGIN
    SELECT * INTO found_row FROM agent_tenancy.cells c WHERE c.number = p_number FOR UPDATE;
    IF found_row.number IS NULL OR found_row.active_login = p_slot OR found_row.login_id IS DISTINCT FROM p_login_id THEN
        RAISE EXCEPTION 'the login of cell % is another one by now', p_number USING ERRCODE = 'ATR01';
    END IF;
    login := CASE p_slot WHEN 'a' THEN found_row.login_a WHEN 'b' THEN found_row.login_b END;
    PERFORM agent_tenancy.check_login(p_number, login);
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', login);
    IF NOT p_force AND EXISTS (SELECT FROM pg_stat_activity s WHERE s.usename = login) THEN
        RAISE EXCEPTION 'sessions still use login %', login USING ERRCODE = 'ATR01';
    END IF;
END
$lock$;

-- As in 0001, but that the password has a name, and the second login can't log in before its turn. In a cell that is there
-- the login is set only if its password has another name: then the cell's entry was lost, and written anew.
DROP FUNCTION agent_tenancy.make_cell(integer, text, text, text, text, text);
CREATE FUNCTION agent_tenancy.make_cell(
    p_number integer, p_owner text, p_access text, p_login_a text, p_login_b text, p_slot text, p_login_id uuid,
    p_verifier text
) RETURNS void LANGUAGE plpgsql AS $cell$
DECLARE
    only_set text := CASE
        WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT FALSE, SET TRUE'
        ELSE ''
    END;
    mark text := (SELECT format('agent-tenancy %s cell %s', m.database_id, p_number) FROM agent_tenancy.meta m);
    found_row agent_tenancy.cells;
    login text := CASE p_slot WHEN 'a' THEN p_login_a WHEN 'b' THEN p_login_b END;
    role_name text;
BEGIN
    SELECT * INTO found_row FROM agent_tenancy.cells c WHERE c.number = p_number FOR UPDATE;
    IF found_row.number IS NULL THEN
        -- INHERIT: on 15 the only way to drop what a tenant's role owns. It is a member of nothing else.
        EXECUTE format('CREATE ROLE %I NOLOGIN INHERIT CREATEROLE', p_owner);
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', p_access);
        EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), p_owner);
        EXECUTE format('GRANT %I TO %I', p_owner, current_user) || only_set;
        FOREACH role_name IN ARRAY ARRAY[p_login_a, p_login_b] LOOP
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role_name);
            EXECUTE format('GRANT %I TO %I', p_access, role_name) || only_set;
            -- Directly: a NOINHERIT login gets nothing through a group.
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_name);
        END LOOP;
        FOREACH role_name IN ARRAY ARRAY[p_owner, p_access, p_login_a, p_login_b] LOOP
            EXECUTE format('COMMENT ON ROLE %I IS %L', role_name, mark);
        END LOOP;
        INSERT INTO agent_tenancy.cells (number, owner_role, access_role, login_a, login_b, active_login, login_id)
        VALUES (p_number, p_owner, p_access, p_login_a, p_login_b, p_slot, p_login_id);
    ELSIF found_row.login_id IS NOT DISTINCT FROM p_login_id AND found_row.active_login = p_slot THEN
        RETURN;
    ELSE
        PERFORM agent_tenancy.check_login(p_number, login);
        UPDATE agent_tenancy.cells c SET active_login = p_slot, login_id = p_login_id, login_since = now()
        WHERE c.number = p_number;
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, p_verifier);
END
$cell$;

REVOKE ALL ON FUNCTION agent_tenancy.check_login, agent_tenancy.set_login, agent_tenancy.lock_login,
    agent_tenancy.make_cell FROM PUBLIC;
