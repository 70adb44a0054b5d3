-- Base tables of one tenant. Runs as the cell's owner role, with search_path set to the tenant's schema alone.
-- Columns are always named by readers and writers, no enums or domains: types are cached by name per connection,
-- and one connection serves many schemas.
-- grant: SELECT, INSERT, UPDATE, DELETE ON conversations
-- grant: SELECT, INSERT, UPDATE, DELETE ON messages
-- grant: SELECT, INSERT, UPDATE ON usage
-- grant: SELECT, INSERT, UPDATE, DELETE ON settings

CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    sub text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Message ids are UUIDv7: their order is the order of creation, so (…, id) pages without a separate timestamp.
CREATE TABLE messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    sub text NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    -- A user message is 'pending' until its answer is stored, then 'answered' or 'failed'; an answer is 'complete'.
    status text NOT NULL CHECK (status IN ('pending', 'answered', 'failed', 'complete')),
    content text NOT NULL,
    agent text NOT NULL,
    revision bigint NOT NULL,
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_by_conversation ON messages (conversation_id, id);
CREATE INDEX messages_by_sub ON messages (sub, id);

-- One row per request that reached the provider, written with the answer. Never deleted by the agent API, and changed
-- only when a user is erased: then `sub` no longer names him.
CREATE TABLE usage (
    request_id uuid PRIMARY KEY,
    sub text NOT NULL,
    agent text NOT NULL,
    agent_uid text NOT NULL,
    revision bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('ok', 'failed')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What the tenant changed itself; the name is a MutableSetting.
CREATE TABLE settings (
    name text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
