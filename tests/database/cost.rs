//! What a tenant costs, and that the cost does not grow with the number of tenants. Figures are printed.

use super::setup::{in_use, is_intact, object, on_both, tenant_id};
use agent_tenancy::domain::keys::KeyBytes;
use agent_tenancy::effects::postgres::Look;
use agent_tenancy::plan::step::Provision;
use devkit::PgVersion;
use std::{collections::BTreeMap, time::Instant};

on_both!(three_hundred_tenants);

async fn three_hundred_tenants(version: PgVersion) {
    const TENANTS: usize = 300;
    let instance = in_use(version).await;
    let password = KeyBytes::new(super::setup::CELL_PASSWORD.into());
    let (mut looks, mut changes) = (Vec::new(), Vec::new());
    let mut millis = Vec::with_capacity(TENANTS);
    let mut cells: BTreeMap<i32, usize> = BTreeMap::new();
    let (start, before) = (Instant::now(), instance.database.round_trips());
    for n in 0..TENANTS {
        let (id, owner, database) = (tenant_id(&format!("t{n}")), object("t"), &instance.database);
        let began = Instant::now();
        let offer = database.observe_tenant(&id, Look::Serving).await.unwrap().offer.unwrap();
        if !offer.exists {
            database.perform_create_cell(offer.cell, &password, &instance.fence).await.unwrap();
        }
        let wanted = Provision { cell: offer.cell, ..instance.provision(&id) };
        let changing = Instant::now();
        database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
        changes.push(changing.elapsed().as_secs_f64() * 1000.0);
        let looking = Instant::now();
        let facts = database.observe_tenant(&id, Look::Serving).await.unwrap();
        looks.push(looking.elapsed().as_secs_f64() * 1000.0);
        assert!(is_intact(&facts));
        millis.push(began.elapsed().as_secs_f64() * 1000.0);
        *cells.entry(offer.cell.0).or_default() += 1;
    }
    // The fast ones tell what the work costs; the others waited for whatever else runs on this machine.
    let typical = |part: &[f64]| {
        let mut sorted = part.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 10]
    };
    let (first, last) = (typical(&millis[20..70]), typical(&millis[TENANTS - 50..]));
    println!(
        "Postgres {}: {TENANTS} tenants one after the other, {:.0}/s, {:.2} round trips each; cells: {cells:?}\n  ms, 10th \
         percentile: a tenant {first:.1} (20 to 70), {last:.1} (last 50); its change {:.1}, a look {:.1}",
        version.major(),
        TENANTS as f64 / start.elapsed().as_secs_f64(),
        (instance.database.round_trips() - before) as f64 / TENANTS as f64,
        typical(&changes),
        typical(&looks),
    );
    assert_eq!(cells.values().copied().collect::<Vec<_>>(), [50; 6]);
    // Other tests use the same machine and server: only growth beyond any noise fails.
    assert!(last < first * 2.5, "{first:.1} ms has become {last:.1} ms");
    // Again from the ledger alone, as after a restart: the next one opens the seventh cell.
    let again = agent_tenancy::effects::postgres::Database::new(instance.database.settings().clone());
    let offer = again.observe_tenant(&tenant_id("next"), Look::Serving).await.unwrap().offer.unwrap();
    assert_eq!((offer.cell.0, offer.exists), (7, false));
}
