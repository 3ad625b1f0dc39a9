//! What a channel is told of: what others brought, and not what it brought itself.

use super::*;
use crate::hub::Hub;
use crate::storage::{Body, Observer};
use crate::store_id::StoreId;

fn delta(id: u64, name: DeltaName) -> StoredDelta {
    let body = Body::Inline(Bytes::from_static(b"part"));
    StoredDelta { id, name: name.0, spans: Vec::new(), body, live: None }
}

/// A commit is heard of before the word that its delta was checked, and after it.
#[test]
fn nobody_is_sent_what_he_brought() {
    let (hub, name) = (Arc::new(Hub::default()), StoreId::new("notes").unwrap());
    let scopes = anabranch_sync::scope::Scopes::ALL;
    let (subject, audience) = ("ann".into(), Vec::new());
    let mut lane =
        Lane::new(0, Grant { subject, token_id: None, audience, scopes, expires_s: u64::MAX });
    lane.seat = hub.open(&name).enter(&Arc::default(), 0, 1);
    let hear = |lane: &mut Lane, id, delta_name| {
        hub.committed(&name, vec![Arc::new(delta(id, delta_name))]);
        lane.news().len()
    };
    let [checking, committing, of_another] = [1, 2, 3].map(|byte| DeltaName([byte; 16]));
    lane.taking = Some(checking);
    let ends = Ends::Other(Vec::new());
    lane.commits.push_back(Commit { delta: committing, ends });
    assert_eq!(hear(&mut lane, 1, checking), 0);
    assert_eq!(hear(&mut lane, 2, committing), 0);
    assert_eq!(hear(&mut lane, 3, of_another), 1);
    // Another channel had brought the same, and this one's was refused: it is told after all.
    let error = StorageError::Stopping;
    let told = lane.refuse(checking, &error);
    assert!(
        matches!(told[..], [StoreEvent::Committed { .. }, StoreEvent::Refused { .. }]),
        "{told:?}"
    );
}
