//! Takeover of the data of a lost cluster by the cluster that replaces it.

use super::{
    archives::{adoption, messages},
    life::{close, write_a_message},
    setup::{Steps, in_use, is_intact, object, on_both},
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        class::ErrorClass,
        ident::{Epoch, ObjectId, TenantId},
    },
    effects::postgres::{EpochFence, ReadPurpose},
    plan::{
        observed::{LedgerRow, RowState, takeover_grant::TakeoverGrant},
        step::AdoptionSource,
        takeover_request::{GrantedData, Permission},
    },
};
use devkit::PgVersion;

on_both!(
    given_to_the_cluster_built_in_its_place,
    refused_while_it_lives,
    allowed_to_one_tenant,
    kept_data_given_to_another_namespace
);

const NEW: &str = "rebuilt";

/// A permission to take over this row from its present owner.
pub fn permission(id: &TenantId, row: &LedgerRow) -> Permission {
    Permission {
        tenant_id: id.clone(),
        incarnation: row.incarnation,
        previous: row.uid.clone(),
        from_cluster_id: row.cluster_id.clone(),
        data: GrantedData::InUse,
    }
}

fn from(cluster_id: &str) -> AdoptionSource {
    AdoptionSource::Predecessor {
        cluster_id: cluster_id.to_owned(),
        heartbeat_timeout_seconds: 600,
        by_permission: false,
    }
}

async fn given_to_the_cluster_built_in_its_place(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, old) = (&instance.database, &instance.fence);
    let new = EpochFence { cluster_id: NEW.to_owned(), epoch: Epoch(1) };
    assert_eq!(database.perform_raise_epoch(NEW, Epoch(1)).await.unwrap(), Epoch(1));
    for (name, state) in [("acme", RowState::Active), ("globex", RowState::Suspended), ("initech", RowState::Deleting)]
    {
        let (id, owner, row) = instance.tenant(name).await;
        write_a_message(&instance, &id).await.unwrap();
        match state {
            RowState::Suspended => database.perform_suspend_access(&row, old).await.unwrap(),
            RowState::Deleting => database.perform_revoke_access(&row, old).await.unwrap(),
            RowState::Active | RowState::Retained | RowState::Dropped => {}
        }
        let no_heartbeat = format!(
            "UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '700 s' WHERE cluster_id = '{}'",
            old.cluster_id
        );
        instance.as_admin(&no_heartbeat).await;
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!((700..760).contains(&facts.heartbeat_age_seconds.unwrap()), "{:?}", facts.heartbeat_age_seconds);
        let left = facts.row.unwrap();
        assert_eq!((left.state, left.uid == owner.uid), (state, true));

        let grant = ObjectId { uid: object("successor").uid, ..owner.clone() };
        let wanted = adoption(&id, &left, from(&old.cluster_id));
        // A lost reply, and the same again.
        for _ in 0..2 {
            database.perform_adopt(&wanted, &grant, instance.id, &new).await.unwrap();
            let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
            assert!(is_intact(&facts));
            let now = facts.row.unwrap();
            assert_eq!((now.incarnation, now.uid, now.state), (left.incarnation, grant.uid.clone(), RowState::Active));
            assert_eq!((now.cluster_id.as_str(), now.keyring.version), (NEW, left.keyring.version + 1));
        }
        write_a_message(&instance, &id).await.unwrap();
        assert_eq!(messages(&instance, &left.schema).await, 2);
        // The old cluster comes back: it owns none of this any more.
        let refused = database.perform_suspend_access(&left, old).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::Conflict, "{refused:?}");
        let owners = database.observe_owners(&old.cluster_id).await.unwrap();
        assert!(owners.iter().all(|(other, _)| *other != id));
    }
    let recorded = "SELECT count(*) FROM agent_tenancy.takeovers WHERE (tenant_id, from_state) IN \
        (('acme', 'active'), ('globex', 'suspended'), ('initech', 'deleting')) AND to_cluster_id = 'rebuilt'";
    assert_eq!(instance.count(recorded).await, 3, "once each");
}

async fn refused_while_it_lives(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, old) = (&instance.database, &instance.fence);
    let new = EpochFence { cluster_id: NEW.to_owned(), epoch: Epoch(1) };
    database.perform_raise_epoch(NEW, Epoch(1)).await.unwrap();
    let (id, owner, row) = instance.tenant("acme").await;
    let grant = ObjectId { uid: object("successor").uid, ..owner.clone() };
    let no_heartbeat = "UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '700 s'";
    instance.as_admin(no_heartbeat).await;
    database.perform_heartbeat(old).await.unwrap();
    let wanted = adoption(&id, &row, from(&old.cluster_id));
    let refused = database.perform_adopt(&wanted, &grant, instance.id, &new).await.unwrap_err();
    assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")), "{refused:?}");
    // Refused for another name or namespace, for a row of another cluster, and with an older epoch.
    instance.as_admin(no_heartbeat).await;
    for thief in
        [ObjectId { name: "other".into(), ..grant.clone() }, ObjectId { namespace: "other".into(), ..grant.clone() }]
    {
        assert!(database.perform_adopt(&wanted, &thief, instance.id, &new).await.is_err());
    }
    let wrong = adoption(&id, &row, from("third"));
    assert!(database.perform_adopt(&wrong, &grant, instance.id, &new).await.is_err());
    let late = EpochFence { epoch: Epoch(0), ..new.clone() };
    assert!(database.perform_adopt(&wanted, &grant, instance.id, &late).await.is_err());
    assert!(database.perform_heartbeat(&EpochFence { epoch: Epoch(0), ..old.clone() }).await.is_err());
    assert_eq!(instance.row(&id).await.uid, owner.uid);
    assert_eq!(instance.count("SELECT count(*) FROM agent_tenancy.takeovers").await, 0);
}

async fn allowed_to_one_tenant(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, old) = (&instance.database, &instance.fence);
    let new = EpochFence { cluster_id: NEW.to_owned(), epoch: Epoch(1) };
    database.perform_raise_epoch(NEW, Epoch(1)).await.unwrap();
    let (id, owner, row) = instance.tenant("acme").await;
    let (other_id, _, other_row) = instance.tenant("globex").await;
    write_a_message(&instance, &id).await.unwrap();
    let grant = ObjectId { uid: object("successor").uid, ..owner.clone() };
    let source = AdoptionSource::Predecessor {
        cluster_id: old.cluster_id.clone(),
        heartbeat_timeout_seconds: 600,
        by_permission: true,
    };
    let wanted = adoption(&id, &row, source.clone());
    let take = async |grant: &ObjectId| database.perform_adopt(&wanted, grant, instance.id, &new).await;
    let no_heartbeat = "UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '700 s'";
    instance.as_admin(no_heartbeat).await;
    let none = "SELECT count(*) FROM agent_tenancy.takeover_permissions";

    // Without a permission the takeover is refused and rolled back.
    let refused = take(&grant).await.unwrap_err();
    assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")), "{refused:?}");
    assert_eq!(instance.row(&id).await.uid, owner.uid);

    // A permission must match the ledger and come from the current leader.
    let given = permission(&id, &row);
    let wrong = [
        (Permission { previous: grant.uid.clone(), ..given.clone() }, grant.clone(), new.clone()),
        (Permission { from_cluster_id: "third".into(), ..given.clone() }, grant.clone(), new.clone()),
        (Permission { tenant_id: other_id.clone(), ..given.clone() }, grant.clone(), new.clone()),
        (given.clone(), ObjectId { name: "other".into(), ..grant.clone() }, new.clone()),
        (given.clone(), ObjectId { namespace: "other".into(), ..grant.clone() }, new.clone()),
        (given.clone(), grant.clone(), EpochFence { epoch: Epoch(0), ..new.clone() }),
        (given.clone(), grant.clone(), old.clone()),
    ];
    for (given, grant, fence) in wrong {
        let refused = database.perform_allow_takeover(&given, &grant, "somebody", &fence).await;
        assert!(refused.is_err(), "{given:?} {grant:?} {fence:?}");
    }
    assert_eq!(instance.count(none).await, 0);

    // Twice, as after a lost reply: the last one counts. Reading the tenant returns it in the same round trip.
    let trips = database.round_trips();
    for name in ["somebody", "o'hara"] {
        database.perform_allow_takeover(&given, &grant, name, &new).await.unwrap();
    }
    let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert_eq!(database.round_trips() - trips, 3);
    assert_eq!(facts.permitted, [TakeoverGrant { cluster_id: NEW.to_owned(), uid: grant.uid.clone() }]);
    assert_eq!(database.observe_tenant(&other_id, ReadPurpose::Serving).await.unwrap().permitted, []);

    // It holds for that one Tenant, and every other rule still applies.
    let stranger = ObjectId { uid: object("stranger").uid, ..owner.clone() };
    assert!(take(&stranger).await.is_err(), "another UID of the Tenant");
    let other_grant = ObjectId { name: "globex".into(), ..grant.clone() };
    let other = adoption(&other_id, &other_row, source);
    assert!(database.perform_adopt(&other, &other_grant, instance.id, &new).await.is_err(), "another Tenant");
    database.perform_heartbeat(old).await.unwrap();
    assert!(take(&grant).await.is_err(), "a recent heartbeat");
    instance.as_admin(no_heartbeat).await;
    let late = EpochFence { epoch: Epoch(0), ..new.clone() };
    assert!(database.perform_adopt(&wanted, &grant, instance.id, &late).await.is_err(), "an older leader");
    assert_eq!((instance.row(&id).await.uid, instance.count(none).await), (owner.uid.clone(), 1));

    for _ in 0..2 {
        take(&grant).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts) && facts.permitted.is_empty());
        assert_eq!(facts.row.map(|now| (now.incarnation, now.uid)), Some((row.incarnation, grant.uid.clone())));
    }
    assert_eq!(messages(&instance, &row.schema).await, 1);
    assert_eq!(instance.count(none).await, 0, "a permission is used once");
    assert!(
        database.perform_allow_takeover(&given, &grant, "somebody", &new).await.is_err(),
        "the takeover is done already"
    );
    let recorded = format!(
        "SELECT count(*) FROM agent_tenancy.takeovers WHERE allowed_by = 'o''hara' AND allowed_at < taken_at \
         AND to_uid = '{}' AND tenant_id = 'acme'",
        grant.uid
    );
    let all = "SELECT count(*) FROM agent_tenancy.takeovers";
    assert_eq!((instance.count(&recorded).await, instance.count(all).await), (1, 1));

    // A permission names the previous owner: it is void when the row has another owner by now.
    let theirs = permission(&other_id, &other_row);
    database.perform_allow_takeover(&theirs, &other_grant, "somebody", &new).await.unwrap();
    let changed = "UPDATE agent_tenancy.tenants SET uid = 'later' WHERE tenant_id = 'globex'";
    instance.as_admin(changed).await;
    assert_eq!(database.observe_tenant(&other_id, ReadPurpose::Serving).await.unwrap().permitted, []);
}

async fn kept_data_given_to_another_namespace(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    for (name, policy) in [("acme", DeletionPolicy::Retain), ("globex", DeletionPolicy::Archive)] {
        let (id, owner, row) = instance.tenant(name).await;
        write_a_message(&instance, &id).await.unwrap();
        database.perform_close(&close(&id, Some(row.clone()), policy), &owner, instance.id, fence).await.unwrap();
        let next = ObjectId { namespace: "elsewhere".into(), ..object("next") };
        let kept = instance.row(&id).await;
        let granted_from = Some(fence.cluster_id.clone());
        let wanted = match policy {
            DeletionPolicy::Archive => {
                let name = row.incarnation.archive_name(&row.schema);
                let (schema, role, replaces) = (name.clone(), name, Some(kept.incarnation));
                adoption(&id, &kept, AdoptionSource::Archived { schema, role, replaces, granted_from })
            }
            DeletionPolicy::Retain | DeletionPolicy::Delete => {
                adoption(&id, &kept, AdoptionSource::Retained { since: kept.state_since, granted_from })
            }
        };
        let take = async || database.perform_adopt(&wanted, &next, instance.id, fence).await;
        // Without a grant it is refused and rolled back.
        let refused = take().await.unwrap_err();
        assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")), "{refused:?}");
        assert_eq!(instance.row(&id).await.uid, owner.uid);
        // A grant matches what is kept, and comes from the leader.
        let given = Permission { data: GrantedData::Kept, ..permission(&id, &row) };
        for (given, fence) in [
            (Permission { previous: next.uid.clone(), ..given.clone() }, fence.clone()),
            (Permission { from_cluster_id: "third".into(), ..given.clone() }, fence.clone()),
            (Permission { data: GrantedData::InUse, ..given.clone() }, fence.clone()),
            (given.clone(), EpochFence { epoch: Epoch(0), ..fence.clone() }),
        ] {
            assert!(database.perform_allow_takeover(&given, &next, "somebody", &fence).await.is_err(), "{given:?}");
        }
        for by in ["somebody", "o'hara"] {
            database.perform_allow_takeover(&given, &next, by, fence).await.unwrap();
        }
        let facts = database.observe_adopting(&id, ReadPurpose::Serving, Some(&owner.uid)).await.unwrap();
        let grant = TakeoverGrant { cluster_id: fence.cluster_id.clone(), uid: next.uid.clone() };
        let permitted =
            facts.archive_of(&owner.uid).map_or(facts.permitted.clone(), |archive| archive.permitted.clone());
        assert_eq!(permitted, [grant], "it is read with the tenant");
        // Twice, as after a lost reply.
        for _ in 0..2 {
            take().await.unwrap();
            let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
            assert!(is_intact(&facts));
            let now = facts.row.unwrap();
            assert_eq!((now.incarnation, &now.uid, now.namespace.as_str()), (row.incarnation, &next.uid, "elsewhere"));
        }
        assert_eq!(messages(&instance, &row.schema).await, 1);
        let recorded = format!(
            "SELECT count(*) FROM agent_tenancy.takeovers WHERE tenant_id = '{id}' AND allowed_by = 'o''hara' \
             AND from_uid = '{}' AND to_uid = '{}'",
            owner.uid, next.uid
        );
        assert_eq!(instance.count(&recorded).await, 1);
        assert_eq!(instance.count("SELECT count(*) FROM agent_tenancy.takeover_permissions").await, 0, "used once");
    }
}
