//! What a user writes and sees: the custom resources, their names, conditions and events.
//!
//! Nothing in this module does I/O, reads a clock or knows how a spec is carried out.
//!
//! | file | holds |
//! | --- | --- |
//! | `advice` | what a user can do about a reason |
//! | `agent_config` | the `AgentConfig` resource |
//! | `algorithm` | the algorithms that sign tenants' tokens |
//! | `bounds` | bounds of what a user writes |
//! | `conditions` | conditions and their reasons |
//! | `crd` | the custom resource definitions, generated from the types |
//! | `database_instance` | the `DatabaseInstance` resource |
//! | `names` | names that other programs may rely on |
//! | `notice` | events |
//! | `schema` | parts of schemas that the derive can't express |
//! | `tenant`, `tenant_status` | the `Tenant` resource |

mod advice;
#[allow(unreachable_pub, reason = "the derives write their own visibility; the types are exported below")]
mod agent_config;
mod algorithm;
pub(crate) mod bounds;
mod conditions;
pub mod crd;
#[allow(unreachable_pub, reason = "the derives write their own visibility; the types are exported below")]
mod database_instance;
pub mod names;
mod notice;
mod schema;
#[allow(unreachable_pub, reason = "the derives write their own visibility; the types are exported below")]
mod tenant;
#[allow(unreachable_pub, reason = "the derives write their own visibility; the types are exported below")]
mod tenant_status;

pub use advice::Advice;
pub use agent_config::{
    AgentConfig, AgentConfigSpec, AgentConfigStatus, AgentContext, AgentParameters, AgentProvider, AgentTimeouts,
    ProviderType, SecretKeyRef, SystemPrompt,
};
pub use algorithm::SigningAlgorithm;
pub use conditions::{Condition, ConditionStatus, ConditionType, Reason};
pub use database_instance::{DatabaseInstance, DatabaseInstanceSpec, DatabaseInstanceStatus, MigrationsStatus};
pub use notice::{Notice, NoticeKind};
pub use tenant::{
    AgentConfigRef, AgentOverrides, DeletionPolicy, MutableSetting, Tenant, TenantAdoption, TenantAgent, TenantAuth,
    TenantDatabase, TenantSpec,
};
pub use tenant_status::{
    KeyStatusState, TenantDatabaseStatus, TenantKeyStatus, TenantKeysStatus, TenantServedStatus, TenantStatus,
};
