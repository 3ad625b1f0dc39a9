//! What the relay carries, as ratios within one run: tiny here, so that it does not rot; in
//! full with `ANABRANCH_LOAD=1 cargo test --release -p anabranch-relay --test it load --
//! --nocapture --test-threads 1`.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Client, Copy};
use crate::deltas::Site;
use crate::world::World;

fn sizes(tiny: u64, full: u64) -> u64 {
    if std::env::var_os("ANABRANCH_LOAD").is_some() { full } else { tiny }
}

/// Small writes to a file of this disk, each synced: how many a second.
fn syncs_per_second(world: &World, n: u64) -> f64 {
    let mut file = std::fs::File::create(world.path().join("probe")).unwrap();
    let start = Instant::now();
    for _ in 0..n {
        file.write_all(&[7; 300]).unwrap();
        file.sync_data().unwrap();
    }
    n as f64 / start.elapsed().as_secs_f64()
}

/// `n_writers` on a store each write `n` changes, up to `window` of them unacknowledged.
fn appends_per_second(world: &World, n_writers: u64, n: u64, window: u64) -> f64 {
    let token = world.token("ann", "*", "write");
    let begin = Arc::new(Barrier::new(n_writers as usize + 1));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..n_writers)
            .map(|w| {
                let (token, begin) = (&token, Arc::clone(&begin));
                scope.spawn(move || {
                    let store = format!("w{w}-{window}-{n_writers}");
                    let mut client = Client::connect(world, &format!("/sync/{store}"), None);
                    let channel = client.open(&store, Copy::new(Site::new(1)), token);
                    client.until_converged(channel);
                    begin.wait();
                    for _ in 0..n / window {
                        for _ in 0..window {
                            client.write(channel, 1, 20);
                        }
                        client.until_converged(channel);
                        client.events.clear();
                    }
                })
            })
            .collect();
        begin.wait();
        let start = Instant::now();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        (n_writers * n) as f64 / start.elapsed().as_secs_f64()
    })
}

#[test]
fn load_of_durable_appends() {
    let world = World::process();
    let n = sizes(4, 400);
    let syncs = syncs_per_second(&world, sizes(5, 500));
    let alone = appends_per_second(&world, 1, n, 1);
    let many = appends_per_second(&world, sizes(4, 64), n, 1);
    let piped = appends_per_second(&world, sizes(4, 64), n, 4);
    println!("syncs of one file:            {syncs:9.0}/s");
    println!("1 writer, one by one:         {alone:9.0}/s");
    println!("64 writers, one by one:       {many:9.0}/s, {:.1} x one by one", many / alone);
    println!("64 writers, four at a time:   {piped:9.0}/s, {:.1} x one by one", piped / alone);
}

#[test]
fn load_of_deliveries() {
    let (n_readers, n, pace) = (sizes(3, 50), sizes(10, 1000), Duration::from_millis(sizes(0, 20)));
    let world = World::process();
    let token = world.token("ann", "notes", "write");
    let sent: Arc<Vec<Mutex<Option<Instant>>>> =
        Arc::new((0..=n).map(|_| Mutex::default()).collect());
    let late = Arc::new(Mutex::new(Vec::new()));
    let n_ready = Arc::new(AtomicU64::new(0));
    let mut writer = Client::connect(&world, "/sync/notes", None);
    let channel = writer.open("notes", Copy::new(Site::new(1)), &token);
    writer.until_converged(channel);
    let site = writer.copy(channel).writer.site;
    std::thread::scope(|scope| {
        for _ in 0..n_readers {
            let (world, token) = (&world, &token);
            let (sent, late, n_ready) =
                (Arc::clone(&sent), Arc::clone(&late), Arc::clone(&n_ready));
            scope.spawn(move || {
                let mut reader = Client::connect(world, "/sync/notes", None);
                let channel = reader.open("notes", Copy::new(Site::new(2)), token);
                reader.until_converged(channel);
                n_ready.fetch_add(1, Ordering::SeqCst);
                let mut mine = Vec::new();
                let mut held = 0;
                while held < n {
                    reader.drain();
                    let now_held = reader.copy(channel).writer.vector.version(site);
                    for version in held + 1..=now_held {
                        let at = sent[version as usize].lock().unwrap().expect("it was sent");
                        mine.push(at.elapsed());
                    }
                    held = now_held;
                    assert!(held == n || reader.read());
                }
                late.lock().unwrap().extend(mine);
            });
        }
        while n_ready.load(Ordering::SeqCst) < n_readers {
            std::thread::yield_now();
        }
        let start = Instant::now();
        for version in 1..=n {
            *sent[version as usize].lock().unwrap() = Some(Instant::now());
            writer.write(channel, 1, 20);
            writer.drain();
            // The pace of the load, not a wait for anything.
            std::thread::sleep(pace);
        }
        writer.until_converged(channel);
        let rate = (n * n_readers) as f64 / start.elapsed().as_secs_f64();
        println!("{n_readers} readers: {rate:.0} deliveries/s");
    });
    let mut late = late.lock().unwrap().clone();
    late.sort_unstable();
    assert_eq!(late.len() as u64, n * n_readers);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("late by: half {:.2} ms, 99 % {:.2} ms, all {:.2} ms", at(0.5), at(0.99), at(1.0));
}
