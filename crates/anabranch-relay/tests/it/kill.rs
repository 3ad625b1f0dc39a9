//! kill -9 in the middle of appends: what was acknowledged is there, and nothing in part.
//! The long form: `ANABRANCH_KILLS=500`.
//!
//! The relay is this test binary again: [`the_relay`] serves when a variable names its data
//! directory, and does nothing otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_relay::{Config, Settings, TokenOrder, make_token, serve};
use rand::{RngExt, SeedableRng};

use crate::deltas::Site;
use crate::world::{PATIENCE, answer};

const DATA: &str = "ANABRANCH_RELAY_TEST_DATA";
/// Cycles, unless `ANABRANCH_KILLS` says how many.
const CYCLES: u64 = 5;
const WRITERS: u64 = 4;

#[test]
fn the_relay() {
    let Ok(data) = std::env::var(DATA) else { return };
    let settings = Settings {
        listen: Some("127.0.0.1:0".to_string()),
        data: Some(data.into()),
        ..Settings::default()
    };
    let config = Config::new(settings).unwrap();
    serve(config, |server| {
        // Past the test harness, which keeps what is printed.
        let line = format!("\naddress {}\n", server.local_addr().unwrap());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    })
    .unwrap();
}

pub(crate) fn spawn(data: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_relay", "--nocapture"])
        .env(DATA, data)
        // Who looks at its memory means what it holds. glibc learns from the first large buffer
        // that is freed to keep them, in each thread that had one: the busier the machine, the
        // more threads. With a threshold of our own they go back to the system at once.
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let address = said.by_ref().lines().find_map(|line| {
        line.unwrap().strip_prefix("address ").map(|address| address.parse().unwrap())
    });
    // The harness there says after a minute that the test runs for long, and ends the process
    // if nobody can hear it.
    child.stdout = Some(said.into_inner());
    (child, address.expect("the relay starts"))
}

/// One request; `None` if the relay went away.
fn post(address: SocketAddr, path: &str, token: &str, body: &[u8]) -> Option<u16> {
    let bytes = request(address, "POST", path, token, body).ok()?;
    bytes.windows(4).any(|four| four == b"\r\n\r\n").then(|| answer(&bytes).status)
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &[u8],
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn nothing_acknowledged_is_lost() {
    let cycles = std::env::var("ANABRANCH_KILLS").ok().and_then(|n| n.parse().ok());
    let cycles: u64 = cycles.unwrap_or(CYCLES);
    let seed = 20_261_126;
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let data = tempfile::tempdir().unwrap();
    let mut sites: Vec<Site> = (1..=WRITERS as u8).map(Site::new).collect();
    // Version up to which each writer was told that it is stored.
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    for cycle in 0..cycles {
        let (mut child, address) = spawn(data.path());
        let token = token(data.path());
        let writers: Vec<_> = sites
            .drain(..)
            .enumerate()
            .map(|(n, site)| {
                let (token, acknowledged) = (token.clone(), Arc::clone(&acknowledged));
                std::thread::spawn(move || {
                    write_until_gone(site, address, &token, &acknowledged[n])
                })
            })
            .collect();
        // A random instant: after so many acknowledgements in all.
        let sum = || acknowledged.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>();
        let until = sum() + random.random_range(1..60);
        while sum() < until && writers.iter().any(|writer| !writer.is_finished()) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        sites.extend(writers.into_iter().map(|writer| writer.join().unwrap()));

        let (mut child, address) = spawn(data.path());
        for (site, acknowledged) in sites.iter_mut().zip(acknowledged.iter()) {
            let held = vector_of(address, &token, site);
            let acknowledged = acknowledged.load(Ordering::Relaxed);
            assert!(held >= acknowledged, "seed {seed}, cycle {cycle}: {held} of {acknowledged}");
            assert!(site.version() >= held);
            site.cut(held);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn token(data: &Path) -> String {
    let order = TokenOrder {
        subject: "ann".to_string(),
        stores: vec!["*".to_string()],
        scope: vec!["write".to_string()],
        life_s: 600,
    };
    make_token(data, &order).unwrap().token
}

/// Writes change after change; what was sent last may or may not have got there.
fn write_until_gone(
    mut site: Site,
    address: SocketAddr,
    token: &str,
    acknowledged: &AtomicU64,
) -> Site {
    loop {
        let part = site.write_one();
        match post(address, "/api/stores/notes/import", token, &part) {
            Some(200) => acknowledged.store(site.version(), Ordering::Relaxed),
            Some(status) => panic!("status {status}"),
            None => return site,
        }
    }
}

/// The version that the relay holds of a site.
fn vector_of(address: SocketAddr, token: &str, site: &Site) -> u64 {
    let bytes = request(address, "GET", "/api/stores/notes", token, b"").unwrap();
    let facts = answer(&bytes);
    if facts.status == 404 {
        return 0;
    }
    facts.json()["vector"][site.site.to_string()][0].as_u64().unwrap_or(0)
}
