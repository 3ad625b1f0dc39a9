//! Peers that mean harm, or are broken: each is stopped, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;

use anabranch_sync::frame::{Delta, Frame};
use bytes::Bytes;

use crate::client::{Client, Copy, dial};
use crate::deltas::Site;
use crate::world::World;

/// Two copies exchange a change, so the relay serves.
pub(crate) fn serves(world: &World) {
    let token = world.token("ann", "served", "write");
    let mut client = Client::connect(world, "/sync/served", None);
    let channel = client.open("served", Copy::new(Site::new(3)), &token);
    client.until_converged(channel);
}

/// Reads until the other end closes.
pub(crate) fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let world = World::new();
    for begin in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "] {
        let mut stream = world.connect();
        stream.write_all(begin.as_bytes()).unwrap();
        serves(&world);
        until_end(&mut stream);
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let world = World::new();
    let mut stream = world.connect();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n", "y".repeat(100_000));
    // It may be cut off while it is being written.
    let _ = stream.write_all(head.as_bytes());
    let answer = String::from_utf8_lossy(&until_end(&mut stream)).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    serves(&world);
}

/// A masked frame of a client.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    // A mask of zeros leaves the bytes as they are.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Frames before a token, and what is no frame: the connection ends, whatever came.
#[test]
fn before_a_token_little_is_taken() {
    let world = World::new();
    let huge = [&[0x82, 0xff][..], &(1_u64 << 63).to_be_bytes(), &[0; 4]].concat();
    let nearly = [&[0x82, 0xff][..], &((1_u64 << 63) - 1).to_be_bytes(), &[0; 4]].concat();
    let have = frame(0x82, &[2, 0, 0, 0, 0]);
    let part = Delta::new(Bytes::from(Site::new(1).write_one())).unwrap();
    let channel = anabranch_sync::ChannelId::new(0).unwrap();
    let delta = anabranch_sync::frame::encode(channel, &Frame::Delta(part)).into_bytes();
    for (what, bytes) in [
        ("silence", Vec::new()),
        ("a length of 2^63", huge),
        ("a length just below", nearly),
        ("a Have", have),
        ("a Delta", frame(0x82, &delta)),
        ("an unknown frame", frame(0x82, &[0x70, 0])),
        ("an empty frame", frame(0x82, &[])),
        ("text", frame(0x81, b"hello")),
        ("pings without end", frame(0x89, &[0; 100]).repeat(1000)),
        ("a message larger than is taken", frame(0x82, &vec![0x80; 65_537])),
        ("small messages, larger in sum", frame(0x82, &[0x80; 8000]).repeat(10)),
        ("a message in a thousand pieces", frame(0x02, &[0x80; 100]).repeat(1000)),
        ("a frame without a mask", vec![0x82, 0x01, 0x00]),
    ] {
        let mut socket = dial(&world, "/sync/notes", None).unwrap();
        let stream = socket.get_mut();
        // It may be cut off while it is being written.
        let _ = stream.write_all(&bytes);
        let answered = until_end(stream);
        assert!(answered.len() < 100_000, "{what}");
    }
    serves(&world);
    let admin = world.token("root", "*", "admin");
    assert_eq!(world.with_token("GET", "/api/stores/notes", &admin, b"").status, 404, "not opened");
}

/// A subscriber that never reads: what it lacks waits in the store, not in memory.
#[test]
fn a_subscriber_that_never_reads_costs_nothing() {
    let world = World::new();
    let reader = world.token("bob", "notes", "read");
    let mut deaf = Client::connect(&world, "/sync/notes", None);
    let deaf_channel = deaf.open("notes", Copy::new(Site::new(2)), &reader);
    deaf.until_converged(deaf_channel);
    let token = world.token("ann", "notes", "write");
    let mut writer = Client::connect(&world, "/sync/notes", None);
    let channel = writer.open("notes", Copy::new(Site::new(1)), &token);
    // 20 MB, far more than sockets and queues hold.
    for _ in 0..20 {
        writer.write(channel, 10, 100_000);
        writer.until_converged(channel);
    }
    serves(&world);
    // It reads again, and takes everything.
    let vector = writer.copy(channel).writer.vector.clone();
    deaf.until_holds(deaf_channel, &vector);
}

/// Idle connections in check; `ANABRANCH_IDLE` holds more than some hundreds.
#[test]
fn hundreds_of_idle_connections_are_held() {
    let n = std::env::var("ANABRANCH_IDLE").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let world = World::process();
    let token = world.token("ann", "*", "read");
    let connect = || {
        let mut client = Client::connect(&world, "/sync/notes", None);
        let channel = client.open("notes", Copy::new(Site::new(1)), &token);
        client.until_converged(channel);
        client
    };
    // What the first ones cost stays: threads, caches, the allocator's arenas.
    let mut idle: Vec<Client> = (0..100).map(|_| connect()).collect();
    let before = world.memory_bytes();
    idle.extend((0..n).map(|_| connect()));
    let each = world.memory_bytes().saturating_sub(before) / n;
    println!("{n} idle connections: {each} bytes each");
    assert!(each < 20 << 10, "{each} bytes a connection");
    serves(&world);
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let settings =
        anabranch_relay::Settings { max_store_connections: Some(2), ..Default::default() };
    let world = World::with(settings);
    let token = world.token("ann", "notes", "read");
    let open = || {
        let mut client = Client::connect(&world, "/sync/notes", None);
        let channel = client.open("notes", Copy::new(Site::new(1)), &token);
        (client, channel)
    };
    let mut first: Vec<_> = (0..2).map(|_| open()).collect();
    for (client, channel) in &mut first {
        client.until_converged(*channel);
    }
    let error = open().0.until_closed();
    assert!(error.text.contains("quota store-connections"), "{error:?}");
}

/// A burst of connections, and WebSockets among them: none gets around the limit.
#[test]
fn all_connections_are_counted() {
    let settings = anabranch_relay::Settings { max_connections: Some(5), ..Default::default() };
    let world = World::with(settings);
    let token = world.token("ann", "notes", "read");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&world, "/sync/notes", None);
        let channel = client.open("notes", Copy::new(Site::new(1)), &token);
        client.until_converged(channel);
        held.push(client);
    }
    // Accepted at once, before any of them has said a word.
    let mut burst: Vec<TcpStream> = (0..30).map(|_| world.connect()).collect();
    let n_answered = burst
        .iter_mut()
        .map(|stream| {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut byte = [0];
            usize::from(stream.read(&mut byte).is_ok_and(|n| n == 1))
        })
        .sum::<usize>();
    assert_eq!(n_answered, 1);
    drop(burst);
    // Whoever leaves makes room.
    held.pop();
    while dial_health(&world).is_none() {}
}

/// Whoever opens many connections and shows no token takes no place from others; those that
/// have shown one do not count.
#[test]
fn an_address_has_few_places_without_a_token() {
    let settings =
        anabranch_relay::Settings { max_address_connections: Some(3), ..Default::default() };
    let world = World::with(settings);
    let token = world.token("ann", "notes", "read");
    let held: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = Client::connect(&world, "/sync/notes", None);
            let channel = client.open("notes", Copy::new(Site::new(1)), &token);
            client.until_converged(channel);
            client
        })
        .collect();
    let silent: Vec<_> = (0..2).map(|_| dial(&world, "/sync/notes", None).unwrap()).collect();
    let third = world.connect();
    // One too many, though there are places.
    let mut stream = world.connect();
    assert_eq!(until_end(&mut stream), b"");
    drop(third);
    while dial_health(&world).is_none() {}
    drop((silent, held));
}

fn dial_health(world: &World) -> Option<u8> {
    let mut stream = world.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

/// Deltas that are never finished, and deltas that bring nothing new: the store's quota holds
/// for their files too.
#[test]
fn files_of_deltas_that_are_never_stored_are_bounded() {
    const QUOTA: u64 = 2_000_000;
    let settings = anabranch_relay::Settings { max_store_bytes: Some(QUOTA), ..Default::default() };
    let world = World::with(settings);
    let token = world.token("ann", "notes", "write");
    let import =
        |body: &[u8]| world.with_token("POST", "/api/stores/notes/import", &token, body).status;
    assert_eq!(import(&Site::new(1).write_one()), 200);
    let mut statuses = std::collections::BTreeSet::new();
    for n in 1..30 {
        // Version 1 of this site is there: another text under it is nothing new.
        statuses.insert(import(&Site::new(1).write(1, 200_000 + n)[0]));
        // And a delta of several parts ends after the first.
        let parts = Site::new(2).write(30 + n as u64, 200_000);
        assert!(parts.len() > 1);
        statuses.insert(import(&parts[0]));
    }
    assert!(statuses.contains(&507), "{statuses:?}");
    let n_bytes = bytes_below(&world.path().join("blobs"));
    assert!(n_bytes <= QUOTA, "{n_bytes} bytes");
    assert_eq!(import(&Site::new(3).write_one()), 200, "what is stored is counted apart");
}

/// A data directory that others may look into: what is in it they may not.
#[cfg(unix)]
#[test]
fn files_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new();
    world.stop();
    for name in ["relay.db", "relay.key", "blobs"] {
        let path = world.path().join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

/// The Close frame is the last one, gives the reason, and is the only one.
#[test]
fn a_broken_frame_is_answered_with_one_close() {
    let world = World::new();
    for (what, bytes, code) in [
        ("text", frame(0x81, b"hello"), 1003_u16),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a Close with half a code", frame(0x88, &[3]), 1002),
        ("a Close", frame(0x88, &[3, 232]), 1000),
        ("a message larger than is taken", frame(0x82, &vec![0x80; 65_537])[..20].to_vec(), 1009),
    ] {
        let mut socket = dial(&world, "/sync/notes", None).unwrap();
        let stream = socket.get_mut();
        stream.write_all(&bytes).unwrap();
        let [high, low] = code.to_be_bytes();
        assert_eq!(until_end(stream), [0x88, 2, high, low], "{what}");
    }
}
