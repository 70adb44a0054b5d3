-- How many bytes of payload the tenant keeps: what `storageLimit` limits. Payload is the text of messages and the values
-- of settings; conversations and usage have a small fixed size and aren't counted. Expand only: triggers count what
-- statements of any version do, and the tables of 0001 stay as they were.
-- grant: SELECT ON storage

-- The sum over the rows is the truth; a single row may be negative. There is more than one so that concurrent transactions
-- of one tenant rarely wait for each other. A row comes with the first change that is counted in it.
CREATE TABLE storage (
    slot smallint PRIMARY KEY,
    bytes bigint NOT NULL
);

-- Keeps writers out to the end: what they wrote before is counted below, and what they write later by the triggers.
LOCK TABLE messages, settings IN SHARE ROW EXCLUSIVE MODE;

-- One function counts for all triggers, as the owner: the tenant can't count for itself. It takes the schema's name from
-- the table at each call, because an archived schema has another one. Its own name is another one in every schema: Postgres
-- looks at all functions of a name, in whatever schema, to find one.
DO $do$
DECLARE
    counter text := format('count_storage_%s', 'storage'::regclass::oid);
BEGIN
    EXECUTE format($sql$
        CREATE FUNCTION %1$I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $body$
        DECLARE
            change bigint;
        BEGIN
            IF TG_TABLE_NAME = 'settings' THEN
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
        REVOKE EXECUTE ON FUNCTION %1$I() FROM PUBLIC;
        CREATE TRIGGER count_added AFTER INSERT ON messages REFERENCING NEW TABLE AS added
            FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
        CREATE TRIGGER count_removed AFTER DELETE ON messages REFERENCING OLD TABLE AS removed
            FOR EACH STATEMENT EXECUTE FUNCTION %1$I();
        CREATE TRIGGER count_changed AFTER UPDATE OF content ON messages
            FOR EACH ROW EXECUTE FUNCTION %1$I();
        CREATE TRIGGER count_changed AFTER INSERT OR DELETE OR UPDATE OF value ON settings
            FOR EACH ROW EXECUTE FUNCTION %1$I();
    $sql$, counter);
    -- In a new schema there is nothing to count, and asking that costs less than counting it.
    IF pg_relation_size('messages') > 0 OR pg_relation_size('settings') > 0 THEN
        INSERT INTO storage (slot, bytes)
            SELECT 0, sum(p.bytes) FROM (SELECT octet_length(content) AS bytes FROM messages
                UNION ALL SELECT octet_length(value::text) FROM settings) p HAVING sum(p.bytes) > 0;
    END IF;
END
$do$;
