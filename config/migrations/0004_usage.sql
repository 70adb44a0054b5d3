-- Usage names its model, without which it can't be priced later, and the client's own request id. Erasing a user finds his
-- rows by an index; without one each of its steps reads the whole table. Expand only: the new columns may be NULL, and
-- programs of an earlier version go on writing rows without them.
-- Not CONCURRENTLY, which waits for every transaction of the database: writers of this one tenant wait instead, about a
-- second for a million rows.
ALTER TABLE usage ADD COLUMN model text, ADD COLUMN client_request_id text;
CREATE INDEX usage_by_sub ON usage (sub, request_id);
CREATE INDEX conversations_by_sub ON conversations (sub, id);
