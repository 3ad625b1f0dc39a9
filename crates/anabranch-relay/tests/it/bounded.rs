//! What hostile peers may cost: the relay is a process of its own, its memory is looked at while
//! they do their worst, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;

use anabranch_sync::frame::{ErrorCode, Retry};

use crate::client::{Client, Copy, dial};
use crate::deltas::{Site, with_body};
use crate::hostile::{frame, serves, until_end};
use crate::world::World;

/// A relay that has served before: what the first ones cost stays.
fn warm() -> (World, u64) {
    let world = World::process();
    for _ in 0..3 {
        serves(&world);
    }
    let before = world.memory_bytes();
    (world, before)
}

/// How much more memory it takes than before.
fn grown(world: &World, before: u64) -> u64 {
    world.memory_bytes().saturating_sub(before)
}

/// Handshakes that stall at every step, as many as one address may have.
#[test]
fn stalled_handshakes_are_bounded() {
    let (world, before) = warm();
    let begun: [&[u8]; 4] = [
        b"",
        b"GET /sync/notes HT",
        b"GET /sync/notes HTTP/1.1\r\nHost: x\r\nX: ",
        // A message of 60 kB, of which the beginning comes.
        b"",
    ];
    let mut stalled: Vec<TcpStream> = Vec::new();
    for n in 0..200 {
        let stream = match n % 4 {
            3 => {
                let mut socket = dial(&world, "/sync/notes", None).unwrap();
                let long = frame(0x82, &[1; 60_000]);
                socket.get_mut().write_all(&long[..50_000]).unwrap();
                socket.get_mut().try_clone().unwrap()
            }
            kind => {
                let mut stream = world.connect();
                stream.write_all(begun[kind]).unwrap();
                stream
            }
        };
        stalled.push(stream);
    }
    serves(&world);
    // 50 of them sent 50 kB each, which is all that is kept of them.
    assert!(grown(&world, before) < 24 << 20, "{}", grown(&world, before));
    for stream in &mut stalled {
        until_end(stream);
    }
    serves(&world);
}

/// Frames before a token, lengths up to 2^63, each on a connection of its own.
#[test]
fn what_comes_before_a_token_is_bounded() {
    let (world, before) = warm();
    for exponent in [16_u32, 20, 24, 28, 32, 40, 62, 63] {
        for less in [0, 1] {
            let claimed = (1_u64 << exponent) - less;
            let head = [&[0x82, 0xff][..], &claimed.to_be_bytes(), &[0; 4]].concat();
            let mut socket = dial(&world, "/sync/notes", None).unwrap();
            let stream = socket.get_mut();
            // It may be cut off while it is being written.
            let _ = stream.write_all(&head);
            let _ = stream.write_all(&[0; 100_000]);
            until_end(stream);
        }
    }
    assert!(grown(&world, before) < 8 << 20, "{}", grown(&world, before));
    serves(&world);
}

/// Subscribers that never read, while 60 MB are written: what they lack waits in the store.
#[test]
fn deaf_subscribers_are_bounded() {
    let (world, before) = warm();
    let token = world.token("bob", "notes", "read");
    let deaf: Vec<Client> = (0..8)
        .map(|n| {
            let mut client = Client::connect(&world, "/sync/notes", None);
            let channel = client.open("notes", Copy::new(Site::new(100 + n)), &token);
            client.until_converged(channel);
            client
        })
        .collect();
    let token = world.token("ann", "notes", "write");
    let mut writer = Client::connect(&world, "/sync/notes", None);
    let channel = writer.open("notes", Copy::new(Site::new(1)), &token);
    for _ in 0..60 {
        writer.write(channel, 10, 100_000);
        writer.until_converged(channel);
    }
    // 8 MiB may be queued to each (`MAX_QUEUED_BYTES`), and the storage has its caches; without
    // a bound these were 480 MB.
    let kept = grown(&world, before);
    println!("{} MiB for those who do not read", kept >> 20);
    assert!(kept < 128 << 20, "{kept}");
    serves(&world);
    drop(deaf);
}

/// Parts that unpack to far more than they may: 20 of them, 80 MiB each.
#[test]
fn bombs_are_bounded() {
    let (world, before) = warm();
    let admin = world.token("root", "*", "admin");
    let part = Site::new(1).write_one();
    let bomb = with_body(&part, &vec![0; 80 << 20], 64 << 20);
    for _ in 0..20 {
        let answer = world.with_token("POST", "/api/stores/notes/import", &admin, &bomb);
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert!(grown(&world, before) < 100 << 20, "{}", grown(&world, before));
    serves(&world);
}

/// Ten thousand stores named by one client, each opened and closed: none is made, none stays in
/// memory.
#[test]
fn many_stores_are_bounded() {
    let (world, before) = warm();
    let token = world.token("ann", "*", "write");
    let mut client = Client::connect(&world, "/sync", Some(&token));
    for round in 0..100 {
        let channels: Vec<_> = (0..100)
            .map(|n| client.open(&format!("s{round}-{n}"), Copy::new(Site::new(1)), ""))
            .collect();
        for channel in channels {
            if !client.is_converged(channel) {
                client.until_converged(channel);
            }
            let now = client.now();
            let done = anabranch_sync::Refusal::new(ErrorCode::Closing, Retry::Never, "done");
            client.session().close(now, channel, done);
            // A session keeps few farewells that nobody sent.
            client.drain();
        }
        // Numbers of channels come again.
        client.events.clear();
    }
    assert!(grown(&world, before) < 16 << 20, "{}", grown(&world, before));
    serves(&world);
    let admin = world.token("root", "*", "admin");
    let listed = world.with_token("GET", "/api/stores", &admin, b"").json();
    assert_eq!(listed["stores"].as_array().unwrap().len(), 0);
}

/// Answers that nobody reads: the connection is left, and costs nothing.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    let (world, before) = warm();
    let many: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = world.connect();
            stream.set_nonblocking(true).unwrap();
            // As much as goes without being read.
            while stream.write(b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").is_ok() {}
            stream
        })
        .collect();
    serves(&world);
    assert!(grown(&world, before) < 24 << 20, "{}", grown(&world, before));
    drop(many);
    serves(&world);
    let mut stream = world.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}
