-- Counts anew after a TRUNCATE, which fires none of the triggers of 0002: the tenant would stay over its limit for ever. The
-- counts of 0002 stay; its function gets one branch more. Expand only.
DO $do$
DECLARE
    -- By its name's form: the number in it is that of the database in which it was made first.
    counter name := (SELECT p.proname FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname ~ '^count_storage_[0-9]+$');
    bytes constant text := 'SELECT coalesce(sum(octet_length(content)), 0) AS bytes FROM %1$I.messages
        UNION ALL SELECT coalesce(sum(octet_length(value::text)), 0) FROM %1$I.settings';
BEGIN
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %1$I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            change bigint;
        BEGIN
            IF TG_OP = 'TRUNCATE' THEN
                -- Keeps writers out to the end, as in 0002.
                EXECUTE format('LOCK TABLE %%1$I.messages, %%1$I.settings IN SHARE ROW EXCLUSIVE MODE', TG_TABLE_SCHEMA);
                EXECUTE format('DELETE FROM %%I.storage', TG_TABLE_SCHEMA);
                EXECUTE format('INSERT INTO %%1$I.storage (slot, bytes)
                    SELECT 0, sum(p.bytes) FROM (%2$s) p HAVING sum(p.bytes) > 0', TG_TABLE_SCHEMA);
                RETURN NULL;
            ELSIF TG_TABLE_NAME = 'settings' THEN
                change := CASE WHEN TG_OP = 'DELETE' THEN 0 ELSE octet_length(NEW.value::text) END
                    - CASE WHEN TG_OP = 'INSERT' THEN 0 ELSE octet_length(OLD.value::text) END;
            ELSIF TG_OP = 'INSERT' THEN
                SELECT sum(octet_length(content)) INTO change FROM added;
            ELSIF TG_OP = 'DELETE' THEN
                SELECT -sum(octet_length(content)) INTO change FROM removed;
            ELSE
                change := octet_length(NEW.content) - octet_length(OLD.content);
            END IF;
            IF change <> 0 THEN
                EXECUTE format('INSERT INTO %%I.storage AS s (slot, bytes) VALUES ($1, $2)
                    ON CONFLICT (slot) DO UPDATE SET bytes = s.bytes + excluded.bytes', TG_TABLE_SCHEMA)
                    USING pg_backend_pid() %% 32, change;
            END IF;
            RETURN NULL;
        END
        $body$;
        CREATE TRIGGER count_anew AFTER TRUNCATE ON messages FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
        CREATE TRIGGER count_anew AFTER TRUNCATE ON settings FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
        CREATE TRIGGER count_anew AFTER TRUNCATE ON storage FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
    $sql$, counter, bytes);
    -- A tenant that was truncated before: its count is right from now on. Not in a new schema, where nothing is counted.
    IF EXISTS (SELECT FROM storage) THEN
        LOCK TABLE messages, settings IN SHARE ROW EXCLUSIVE MODE;
        DELETE FROM storage;
        EXECUTE format('INSERT INTO storage (slot, bytes) SELECT 0, sum(p.bytes) FROM (' || bytes
            || ') p HAVING sum(p.bytes) > 0', current_schema());
    END IF;
END
$do$;
