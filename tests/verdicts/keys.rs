//! The plan of a tenant's signing keys.

use super::stage::{converged, present};
use agent_tenancy::plan::{
    observed::Seen,
    step::{KeysStep, TenantStep},
};

#[test]
fn a_lost_key_comes_back_from_the_entry() {
    let mut observed = converged();
    observed.keys = Seen::Missing;
    let [TenantStep::Keys(KeysStep::Create { keyring })] = &present(&observed).steps[..] else { panic!("one step") };
    assert_eq!(keyring.current().unwrap().verifying.kid.as_str(), "kid-1");
}
