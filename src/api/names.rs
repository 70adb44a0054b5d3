//! Names that other programs may rely on: API group, finalizers, labels, annotations, Secret keys.

/// API group of the custom resources.
pub const GROUP: &str = "agent-tenancy.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// `metav1.Condition` reporter, server-side field manager and event reporter of the operator.
pub const FIELD_MANAGER: &str = "agent-tenancy.dev/tenant-operator";
/// Tenant ids that nobody gets: they would read as something else in URLs, logs or the database.
pub const RESERVED_TENANT_IDS: &[&str] =
    &["admin", "agent-tenancy", "api", "default", "kube-system", "public", "system", "tenants"];
/// Finalizer on a Tenant: present before the first effect outside the object, removed last.
pub const TENANT_FINALIZER: &str = "agent-tenancy.dev/tenant";
/// Finalizer on an AgentConfig.
pub const AGENT_CONFIG_FINALIZER: &str = "agent-tenancy.dev/agent-config";

/// Label on every registry entry; its value is the entry's kind (`tenant`, `agent`, `upstream`, `cell`).
pub const ENTRY_LABEL: &str = "agent-tenancy.dev/entry";
/// Key of the registry Secret's data that holds the entry as JSON.
pub const ENTRY_KEY: &str = "entry.json";
/// Key of a cell's registry Secret: the login that the entry is about to change to, as JSON. Replicas don't read it.
pub const NEXT_LOGIN_KEY: &str = "next.json";
/// `type` of a registry Secret.
pub const ENTRY_SECRET_TYPE: &str = "agent-tenancy.dev/entry";

/// Label on an acknowledgement Lease; its value is [`ACK_LABEL_VALUE`].
pub const ACK_LABEL: &str = "agent-tenancy.dev/acknowledgement";
/// The only value of [`ACK_LABEL`].
pub const ACK_LABEL_VALUE: &str = "agent-api";
/// Annotation of an acknowledgement Lease that carries the acknowledgement as JSON.
pub const ACK_ANNOTATION: &str = "agent-tenancy.dev/acknowledged";

/// Label that names the Tenant (its UID) on Secrets the operator makes in the Tenant's namespace.
pub const TENANT_UID_LABEL: &str = "agent-tenancy.dev/tenant-uid";
/// Label that names the AgentConfig (its UID) on its ControllerRevisions.
pub const AGENT_UID_LABEL: &str = "agent-tenancy.dev/agent-config-uid";
/// Key of a signing Secret: the kid to put into new tokens' headers.
pub const CURRENT_KID: &str = "current.kid";
/// Key of a signing Secret: what to sign new tokens with, raw bytes (HS256) or a private key as PEM.
pub const CURRENT_KEY: &str = "current.key";
/// Key of a signing Secret: the algorithm of the current key, as in a token's header.
pub const CURRENT_ALG: &str = "current.alg";
/// Key of a signing Secret: every key with its state, as JSON.
pub const RING: &str = "ring.json";

/// Annotation on a Tenant that asks for a rotation of its keys: each new value (1 to 64 characters) asks once.
pub const ROTATE_ANNOTATION: &str = "agent-tenancy.dev/rotate-keys";
/// Annotation on a Tenant or AgentConfig: with the value `true` the operator doesn't touch the object, what it stands
/// for stays as it is, and a deletion waits.
pub const PAUSED_ANNOTATION: &str = "agent-tenancy.dev/paused";
/// Annotation on a Tenant that revokes keys at once: their kids, separated by commas. Kids that the ring does not hold
/// are ignored, so it may stay.
pub const REVOKE_ANNOTATION: &str = "agent-tenancy.dev/revoke-keys";
/// Annotation on a Tenant that gives up lost data: the incarnation that is lost, or the id of the database that is. The
/// tenant then begins with nothing, under a new incarnation; any other value, and this one afterwards, means nothing.
pub const ACCEPT_LOSS_ANNOTATION: &str = "agent-tenancy.dev/accept-loss";
/// Annotation on a Tenant that asks to try a migration again that failed for it. Each new value is one request.
pub const RETRY_MIGRATION_ANNOTATION: &str = "agent-tenancy.dev/retry-migration";
/// Annotation on a cell's registry Secret that asks for another login: each new value (1 to 64 characters) asks once.
pub const ROTATE_LOGIN_ANNOTATION: &str = "agent-tenancy.dev/rotate-login";
/// Annotation on a cell's registry Secret that asks for another login, and for an end of the present one at once, with the
/// sessions that use it: each new value (1 to 64 characters) asks once.
pub const REVOKE_LOGIN_ANNOTATION: &str = "agent-tenancy.dev/revoke-login";
