//! Copies exchange deltas through a relay, and what it acknowledged stays.

use anabranch_core::vector::Dot;
use anabranch_relay::Settings;
use anabranch_sync::frame::{Delta, ErrorCode, Frame, Reach, Receipt, Retry, Role};
use anabranch_sync::{ChannelId, Event, StoreEvent};
use bytes::Bytes;

use crate::client::{Client, Copy};
use crate::deltas::Site;
use crate::world::World;

/// A copy of store `notes`, connected.
fn join(world: &World, site: u8, scope: &str) -> (Client, ChannelId) {
    let token = world.token(&format!("user-{site}"), "notes", scope);
    let mut client = Client::connect(world, "/sync/notes", None);
    let channel = client.open("notes", Copy::new(Site::new(site)), &token);
    (client, channel)
}

#[test]
fn two_copies_exchange_a_change() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.copy(a_channel).write(1, 5);
    a.until_converged(a_channel);
    let (mut b, b_channel) = join(&world, 2, "write");
    b.until_converged(b_channel);
    assert_eq!(b.copy(b_channel).writer.vector, a.copy(a_channel).writer.vector);

    // Live, in both directions.
    b.write(b_channel, 1, 5);
    b.until_converged(b_channel);
    let vector = b.copy(b_channel).writer.vector.clone();
    a.until_holds(a_channel, &vector);
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
}

#[test]
fn a_large_delta_goes_in_parts() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    // Noise of 100 KB a row: some 10 MB in three parts.
    a.copy(a_channel).write(100, 100_000);
    a.until_converged(a_channel);
    assert!(a.copy(a_channel).deltas[0].len() > 1);
    let (mut b, b_channel) = join(&world, 2, "read");
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
    assert_eq!(b.copy(b_channel).deltas, a.copy(a_channel).deltas);
}

/// The connection is cut after the first part, and the relay restarted: the rest suffices.
#[test]
fn a_large_delta_goes_on_where_it_was_cut() {
    let mut world = World::new();
    let mut copy = Copy::new(Site::new(1));
    copy.write(100, 100_000);
    let parts = copy.deltas[0].clone();
    let token = world.token("user-1", "notes", "write");
    let mut a = Client::connect(&world, "/sync/notes", None);
    let channel = a.open("notes", Copy::new(Site::new(2)), &token);
    a.until_converged(channel);
    a.send_raw(channel, &Frame::Delta(Delta::new(parts[0].clone()).unwrap()));
    // A change behind it is acknowledged when the part is on disk.
    a.write(channel, 1, 5);
    a.until_converged(channel);
    drop(a);
    world.restart();
    let mut a = Client::connect(&world, "/sync/notes", None);
    let channel = a.open("notes", copy, &token);
    a.until_converged(channel);
    assert_eq!(a.copy(channel).n_parts_read, parts.len() - 1, "from the second on");
    let (mut b, b_channel) = join(&world, 3, "read");
    let vector = a.copy(channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    for n in [1, 3] {
        a.write(a_channel, n, 20);
        a.until_converged(a_channel);
    }
    world.restart();
    let (mut b, b_channel) = join(&world, 2, "write");
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
}

/// A year of small changes: joined at the relay, so that a newcomer takes few deltas.
#[test]
fn many_small_deltas_are_joined() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    let (mut b, b_channel) = join(&world, 2, "write");
    for _ in 0..200 {
        a.write(a_channel, 1, 5);
        b.write(b_channel, 1, 5);
        a.drain();
        b.drain();
    }
    a.until_converged(a_channel);
    b.until_converged(b_channel);
    let (a_vector, b_vector) =
        (a.copy(a_channel).writer.vector.clone(), b.copy(b_channel).writer.vector.clone());
    a.until_holds(a_channel, &b_vector);
    b.until_holds(b_channel, &a_vector);
    // Joining runs beside: it is seen when it is done.
    let admin = world.token("root", "*", "admin");
    let n_deltas = || {
        let facts = world.with_token("GET", "/api/stores/notes", &admin, b"").json();
        assert_eq!(facts["changes"], 400);
        facts["deltas"].as_u64().unwrap()
    };
    while n_deltas() > 200 {
        std::thread::yield_now();
    }
    let (mut c, c_channel) = join(&world, 3, "read");
    c.until_holds(c_channel, &a_vector);
    c.until_holds(c_channel, &b_vector);
    assert!(c.copy(c_channel).deltas.len() <= 200);
}

/// The relay's database was put back: whoever holds more gives it again.
#[test]
fn a_relay_restored_from_a_backup_heals() {
    let mut world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 2, 20);
    a.until_converged(a_channel);
    world.stop();
    let backup = tempfile::tempdir().unwrap();
    std::fs::copy(world.path().join("relay.db"), backup.path().join("relay.db")).unwrap();
    world.start();
    let old = a.stores.remove(&a_channel).unwrap();
    let token = world.token("user-1", "notes", "write");
    let mut a = Client::connect(&world, "/sync/notes", None);
    let a_channel = a.open("notes", old, &token);
    a.write(a_channel, 3, 20);
    a.until_converged(a_channel);
    world.stop();
    for name in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        let _ = std::fs::remove_file(world.path().join(name));
    }
    std::fs::copy(backup.path().join("relay.db"), world.path().join("relay.db")).unwrap();
    world.start();
    let (mut b, b_channel) = join(&world, 2, "write");
    b.until_converged(b_channel);
    let a_site = a.copy(a_channel).writer.site;
    assert_eq!(b.copy(b_channel).writer.vector.version(a_site), 2, "what the backup has");
    let newer = a.stores.remove(&a_channel).unwrap();
    let mut a = Client::connect(&world, "/sync/notes", None);
    let a_channel = a.open("notes", newer, &token);
    a.until_converged(a_channel);
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
}

/// With the ticket of last time the relay says only what moved since.
#[test]
fn a_ticket_spares_the_vector() {
    let mut world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    let (mut b, b_channel) = join(&world, 2, "write");
    b.write(b_channel, 1, 5);
    b.until_converged(b_channel);
    a.write(a_channel, 1, 5);
    let vector = b.copy(b_channel).writer.vector.clone();
    a.until_holds(a_channel, &vector);
    let ticket = a.until(|event| match event {
        Event::TicketGiven { ticket, .. } if ticket.basis.mine.len() == 2 => Some(ticket.clone()),
        _ => None,
    });
    let copy = a.stores.remove(&a_channel).unwrap();
    drop(a);
    b.write(b_channel, 1, 5);
    b.until_converged(b_channel);
    world.restart();
    let token = world.token("user-1", "notes", "write");
    let mut a = Client::connect(&world, "/sync/notes", None);
    let channel = a.reopen("notes", copy, &token, Some(ticket));
    let vector = b.copy(b_channel).writer.vector.clone();
    a.until_holds(channel, &vector);
    assert!(a.haves[0].is_on_ticket);
    assert_eq!(a.haves[0].entries.len(), 1, "what b wrote since");
}

#[test]
fn one_connection_carries_many_stores() {
    let world = World::new();
    let token = world.token("ann", "team-*", "write");
    let mut client = Client::connect(&world, "/sync", Some(&token));
    let channels: Vec<ChannelId> = (0..20)
        .map(|n| {
            let mut copy = Copy::new(Site::new(9));
            copy.write(n + 1, 5);
            client.open(&format!("team-{n}"), copy, "")
        })
        .collect();
    for channel in channels {
        if !client.is_converged(channel) {
            client.until_converged(channel);
        }
    }
    let listed = world.with_token("GET", "/api/stores", &world.token("r", "*", "admin"), b"");
    assert_eq!(listed.json()["stores"].as_array().unwrap().len(), 20);
}

/// Many stores in one commit: each writer hears that its change is on disk, and is not sent it.
#[test]
fn a_first_change_is_acknowledged_and_not_sent_back() {
    let world = World::new();
    let token = world.token("ann", "team-*", "write");
    let mut client = Client::connect(&world, "/sync", Some(&token));
    let channels: Vec<ChannelId> =
        (0..64).map(|n| client.open(&format!("team-{n}"), Copy::new(Site::new(9)), "")).collect();
    for channel in &channels {
        client.until_converged(*channel);
    }
    for channel in &channels {
        client.write(*channel, 1, 5);
    }
    for channel in channels {
        client.until_converged(channel);
        let is_ack =
            |event: &Event| matches!(event, Event::Acked { channel: c, .. } if *c == channel);
        assert!(client.events.iter().any(is_ack), "of {channel}: {:?}", client.events);
        assert_eq!(client.copy(channel).deltas.len(), 1, "of {channel}");
    }
}

#[test]
fn a_change_from_the_future_is_refused_with_the_time_to_retry() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    a.copy(a_channel).writer.time_ms = now.as_millis() as u64 + 20 * 60 * 1000;
    a.copy(a_channel).write(1, 5);
    let error = a.until(|event| match event {
        Event::PeerRefused { error, .. } => Some(error.clone()),
        _ => None,
    });
    assert_eq!(error.code, ErrorCode::ClockAhead);
    let Retry::AfterMs(wait_ms) = error.retry else { panic!("{error:?}") };
    assert!((1..=10 * 60 * 1000).contains(&wait_ms), "{wait_ms}");
}

/// A database was copied, and both copies went on under one site id: what begins where both
/// were one is kept, what begins on a history that is not here is refused by name.
#[test]
fn another_history_of_a_site_is_kept_from_where_it_forked() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    let token = world.token("user-1", "notes", "write");
    let mut site = Site::new(1);
    site.salt = 8;
    let mut copy = Copy::new(site);
    copy.write(1, 5);
    copy.write(1, 5);
    let import =
        |n: usize| world.with_token("POST", "/api/stores/notes/import", &token, &copy.deltas[n][0]);
    let answer = import(1);
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("SiteReused"), "{}", answer.text());
    for n in [0, 1] {
        let answer = import(n);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(r#""stored":1"#), "{}", answer.text());
    }
}

#[test]
fn presence_is_passed_on_and_stamped() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    let (mut b, b_channel) = join(&world, 2, "presence read");
    a.until_converged(a_channel);
    b.until_converged(b_channel);
    a.session().set_presence(a_channel, Some(Bytes::from_static(b"here"))).unwrap();
    a.drain();
    let seen = |event: &Event| match event {
        Event::Presence { from: Some(who), state, .. } => Some((who.site, state.clone())),
        _ => None,
    };
    let site = a.copy(a_channel).writer.site;
    assert_eq!(b.until(seen), (site, Some(Bytes::from_static(b"here"))));
    // Who leaves without a word is seen to have left.
    drop(a);
    assert_eq!(b.until(seen), (site, None));
}

#[test]
fn receipts_say_how_far_a_change_got() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    let (mut b, b_channel) = join(&world, 2, "write");
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
    b.until_converged(b_channel);
    let (a_site, b_site) = (a.copy(a_channel).writer.site, b.copy(b_channel).writer.site);
    let change = Dot { site: a_site, version: 1 };
    // What b has said may still be on its way when a asks.
    loop {
        a.session().ask_receipts(a_channel, vec![change]).unwrap();
        let receipts = a.until(|event| match event {
            Event::Receipts { receipts, .. } => Some(receipts.clone()),
            _ => None,
        });
        assert_eq!(receipts[0].change, change);
        let places = &receipts[0].places;
        assert_eq!(places[0].role, Role::Relay, "{places:?}");
        if places.iter().any(|place| (place.site, place.role) == (b_site, Role::Peer)) {
            break;
        }
    }
}

/// Held and shown are told apart, also after a restart, and without naming a change.
#[test]
fn receipts_tell_held_from_shown_and_outlive_a_restart() {
    let mut world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 3, 5);
    a.until_converged(a_channel);
    let a_site = a.copy(a_channel).writer.site;
    let dot = |version| Dot { site: a_site, version };
    // b holds two of them, one already before it opens the channel.
    let (mut b, b_channel) = join(&world, 2, "read");
    let now = b.now();
    b.session().handle_store_event(now, b_channel, StoreEvent::Held(vec![dot(2)]));
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
    b.session().handle_store_event(now, b_channel, StoreEvent::Held(vec![dot(3)]));
    b.until_converged(b_channel);
    let b_site = b.copy(b_channel).writer.site;
    let ask = |a: &mut Client, changes: Vec<Dot>| {
        a.session().ask_receipts(a_channel, changes).unwrap();
        a.until(|event| match event {
            Event::Receipts { receipts, .. } => Some(receipts.clone()),
            _ => None,
        })
    };
    let reach = |receipts: &[Receipt]| -> Vec<(u64, Option<Reach>)> {
        let reach = |receipt: &Receipt| {
            receipt.places.iter().find(|place| place.site == b_site).map(|place| place.reach)
        };
        receipts.iter().map(|receipt| (receipt.change.version, reach(receipt))).collect()
    };
    let expected =
        [(1, Some(Reach::Shown)), (2, Some(Reach::Held)), (3, Some(Reach::Held))].to_vec();
    // What b has said may still be on its way when a asks.
    while reach(&ask(&mut a, vec![dot(1), dot(2), dot(3)])) != expected {}
    let held = [(3, Some(Reach::Held)), (2, Some(Reach::Held))];
    assert_eq!(reach(&ask(&mut a, Vec::new())), held);
    assert_eq!(reach(&ask(&mut b, Vec::new())), [], "none of its own");
    // It shows one after all.
    b.session().handle_store_event(now, b_channel, StoreEvent::Shown(vec![dot(3)]));
    b.drain();
    while reach(&ask(&mut a, Vec::new())) != [(2, Some(Reach::Held))] {}
    // b is gone, and the relay comes back: it remembers.
    drop((a, b));
    world.restart();
    let mut copy = Copy::new(Site::new(1));
    copy.write(3, 5);
    let mut a = Client::connect(&world, "/sync/notes", None);
    a.open("notes", copy, &world.token("user-1", "notes", "write"));
    a.until_converged(a_channel);
    assert_eq!(reach(&ask(&mut a, Vec::new())), [(2, Some(Reach::Held))]);
    let after = [(1, Some(Reach::Shown)), (2, Some(Reach::Held)), (3, Some(Reach::Shown))];
    assert_eq!(reach(&ask(&mut a, vec![dot(1), dot(2), dot(3)])), after);
}

#[test]
fn a_stop_says_good_bye() {
    let mut world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.until_converged(a_channel);
    let stopping = std::thread::spawn(move || world.stop());
    let error = a.until_closed();
    assert_eq!(error.code, ErrorCode::Closing);
    assert!(matches!(error.retry, Retry::AfterMs(_)), "{error:?}");
    stopping.join().unwrap();
}

/// A store is deleted while somebody is on it: they begin anew, with what they hold.
#[test]
fn a_deleted_store_closes_its_channels() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    let admin = world.token("root", "*", "admin");
    assert_eq!(world.with_token("DELETE", "/api/stores/notes", &admin, b"").status, 200);
    assert_eq!(a.until_closed().code, ErrorCode::NoStore);
    let copy = a.stores.remove(&a_channel).unwrap();
    let vector = copy.writer.vector.clone();
    let mut a = Client::connect(&world, "/sync/notes", None);
    let channel = a.open("notes", copy, &world.token("user-1", "notes", "write"));
    a.until_converged(channel);
    let (mut b, b_channel) = join(&world, 2, "read");
    b.until_holds(b_channel, &vector);
}

/// `strict-sites`: a site belongs to the subject whose Hello first named it.
#[test]
fn strict_sites_take_changes_from_their_owner_only() {
    let world = World::with(Settings { strict_sites: Some(true), ..Settings::default() });
    let (mut a, a_channel) = join(&world, 1, "write");
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    // Another subject delivers what the owner has not, and what nobody owns.
    let mut forged = a.copy(a_channel).writer.clone();
    let forged = forged.write_one();
    let unowned = Site::new(7).write_one();
    let token = world.token("mallory", "notes", "write");
    for part in [&forged, &unowned] {
        let answer = world.with_token("POST", "/api/stores/notes/import", &token, part);
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("mallory"), "{}", answer.text());
    }
    // An admin may allow one.
    let admin = world.token("root", "notes", "admin");
    let allowed = world.with_token("POST", "/api/stores/notes/import", &admin, &unowned);
    assert_eq!(allowed.status, 200, "{}", allowed.text());
}
