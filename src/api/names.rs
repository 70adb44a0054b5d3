//! Names that other programs may rely on: API group, finalizers, labels, annotations, Secret keys.

/// API group of the custom resources.
pub const GROUP: &str = "agent-tenancy.dev";
/// The only served version.
pub const VERSION: &str = "v1alpha1";
/// `metav1.Condition` reporter, server-side field manager and event reporter of the operator.
pub const FIELD_MANAGER: &str = "agent-tenancy.dev/tenant-operator";
/// Reserved tenant ids: in URLs, logs or the database they would be mistaken for something else.
pub const RESERVED_TENANT_IDS: &[&str] =
    &["admin", "agent-tenancy", "api", "default", "kube-system", "public", "system", "tenants"];
/// Finalizer on a Tenant. It is set before the first change outside the object and removed last.
pub const TENANT_FINALIZER: &str = "agent-tenancy.dev/tenant";
/// Finalizer on an AgentConfig.
pub const AGENT_CONFIG_FINALIZER: &str = "agent-tenancy.dev/agent-config";

/// Label on every registry entry. Its value is the entry's kind (`tenant`, `agent`, `upstream`, `cell`).
pub const ENTRY_LABEL: &str = "agent-tenancy.dev/entry";
/// Key of the registry Secret's data that holds the entry as JSON.
pub const ENTRY_KEY: &str = "entry.json";
/// Key of a cell's registry Secret: the next login of the entry, as JSON. Replicas don't read it.
pub const NEXT_LOGIN_KEY: &str = "next.json";
/// `type` of every registry Secret.
pub const ENTRY_SECRET_TYPE: &str = "agent-tenancy.dev/entry";

/// Label on an acknowledgement Lease. Its value is [`ACK_LABEL_VALUE`].
pub const ACK_LABEL: &str = "agent-tenancy.dev/acknowledgement";
/// The only value of [`ACK_LABEL`].
pub const ACK_LABEL_VALUE: &str = "agent-api";
/// Annotation of an acknowledgement Lease with the acknowledgement as JSON.
pub const ACK_ANNOTATION: &str = "agent-tenancy.dev/acknowledged";

/// Label on Secrets that the operator creates in a Tenant's namespace. Its value is the Tenant's UID.
pub const TENANT_UID_LABEL: &str = "agent-tenancy.dev/tenant-uid";
/// Label on the ControllerRevisions of an AgentConfig. Its value is the AgentConfig's UID.
pub const AGENT_UID_LABEL: &str = "agent-tenancy.dev/agent-config-uid";
/// Key of a signing Secret: the kid for the headers of new tokens.
pub const CURRENT_KID: &str = "current.kid";
/// Key of a signing Secret: the key that signs new tokens, as raw bytes (HS256) or as a private key in PEM.
pub const CURRENT_KEY: &str = "current.key";
/// Key of a signing Secret: the algorithm of the current key, as a token's header names it.
pub const CURRENT_ALG: &str = "current.alg";
/// Key of a signing Secret: every key with its state, as JSON.
pub const KEYRING: &str = "ring.json";

/// Annotation on a Tenant that requests a rotation of its keys. Each new value (1 to 64 characters) is one request.
pub const ROTATE_ANNOTATION: &str = "agent-tenancy.dev/rotate-keys";
/// Annotation on a Tenant or AgentConfig. With the value `true` the operator changes neither the object nor anything
/// that belongs to it, and a deletion waits.
pub const PAUSED_ANNOTATION: &str = "agent-tenancy.dev/paused";
/// Annotation on a Tenant that revokes keys at once: their kids, separated by commas. Kids that are not in the keyring
/// are ignored, so the annotation may stay.
pub const REVOKE_ANNOTATION: &str = "agent-tenancy.dev/revoke-keys";
/// Annotation on a Tenant that accepts the loss of its data. The value is the lost incarnation, or the id of the lost
/// database. The tenant then starts empty, under a new incarnation. Any other value is ignored, and so is this one
/// afterwards.
pub const ACCEPT_LOSS_ANNOTATION: &str = "agent-tenancy.dev/accept-loss";
/// Annotation on a Tenant that requests another attempt at a failed migration. Each new value is one request.
pub const RETRY_MIGRATION_ANNOTATION: &str = "agent-tenancy.dev/retry-migration";
/// Annotation on a cell's registry Secret that requests another login. Each new value (1 to 64 characters) is one
/// request.
pub const ROTATE_LOGIN_ANNOTATION: &str = "agent-tenancy.dev/rotate-login";
/// Annotation on a cell's registry Secret that requests another login and revokes the present one at once, together
/// with its sessions. Each new value (1 to 64 characters) is one request.
pub const REVOKE_LOGIN_ANNOTATION: &str = "agent-tenancy.dev/revoke-login";
