//! The real operator and the real agent API on a real kube-apiserver and Postgres: what a tenant costs, that a converged
//! fleet is silent, and that nothing is lost or made twice when things break.

#[path = "operator/blocked.rs"]
mod blocked;
#[path = "operator/broken.rs"]
mod broken;
#[path = "operator/chaos.rs"]
mod chaos;
#[path = "operator/fleet.rs"]
mod fleet;
#[path = "operator/rotation.rs"]
mod rotation;
#[path = "operator/secrecy.rs"]
mod secrecy;
#[path = "operator/stories.rs"]
mod stories;
