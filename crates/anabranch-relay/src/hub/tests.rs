//! Where a reader goes on: never behind what it has read from disk.

use bytes::Bytes;

use super::*;

fn commit(hub: &Hub, name: &StoreId, id: u64, n_bytes: usize) {
    let body = Body::Inline(Bytes::from(vec![0; n_bytes]));
    let delta = StoredDelta { id, name: [id as u8; 16], spans: Vec::new(), body, live: None };
    hub.committed(name, vec![Arc::new(delta)]);
}

/// Ids of all that a reader is told of; `None` where it must read from disk.
fn told(store: &OpenStore, mut position: u64) -> Vec<Option<u64>> {
    let mut told = Vec::new();
    loop {
        match store.next(position) {
            Next::Deltas(deltas) => {
                told.extend(deltas.iter().map(|delta| Some(delta.id)));
                return told;
            }
            Next::Behind(first) => {
                position = first;
                told.push(None);
            }
            Next::Gone => return told,
        }
    }
}

#[test]
fn a_reader_is_told_of_what_came_after_it() {
    let hub = Arc::new(Hub::default());
    let name = StoreId::new("notes").unwrap();
    let store = hub.open(&name);
    let enter = || store.enter(&Arc::default(), 0, 9).unwrap();
    let early = enter();
    // Others have written before: ids are the relay's.
    commit(&hub, &name, 7, 10);
    assert_eq!(told(&store, early.position()), [Some(7)]);
    let late = enter();
    commit(&hub, &name, 9, 10);
    assert_eq!(told(&store, early.position()), [Some(7), Some(9)]);
    assert_eq!(told(&store, late.position()), [Some(9)]);
    // More than the ring holds.
    commit(&hub, &name, 12, MAX_RING_BYTES as usize);
    let newest = enter();
    commit(&hub, &name, 13, 10);
    assert_eq!(told(&store, early.position()), [None, Some(13)]);
    assert_eq!(told(&store, late.position()), [None, Some(13)]);
    assert_eq!(told(&store, newest.position()), [Some(13)]);
}
