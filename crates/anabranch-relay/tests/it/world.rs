//! A relay that runs in this process, with a data directory of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anabranch_relay::{Config, Settings, TokenOrder, bind, make_token};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long a test waits for an answer before it fails; no test waits for time to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) data: TempDir,
    settings: Settings,
    running: Option<Running>,
}

struct Running {
    address: SocketAddr,
    relay: Relay,
}

enum Relay {
    /// In this process, to be stopped as by SIGTERM.
    Thread(oneshot::Sender<()>, std::thread::JoinHandle<()>),
    /// This test binary again, to be killed.
    Process(Child),
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> World {
        let data = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: Some("127.0.0.1:0".to_string()),
            data: Some(data.path().to_path_buf()),
            ..settings
        };
        let mut world = World { data, settings, running: None };
        world.start();
        world
    }

    pub(crate) fn start(&mut self) {
        let config = Config::new(self.settings.clone()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (started, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let server = bind(config).await.unwrap();
                started.send(server.local_addr().unwrap()).unwrap();
                // A dropped sender stops it too.
                server.run(async { drop(stopped.await) }).await;
            });
        });
        let address = address.recv().expect("the relay starts");
        self.running = Some(Running { address, relay: Relay::Thread(stop, thread) });
    }

    /// A relay in a process of its own.
    pub(crate) fn process() -> World {
        let data = tempfile::tempdir().unwrap();
        let (child, address) = crate::kill::spawn(data.path());
        let running = Running { address, relay: Relay::Process(child) };
        World { data, settings: Settings::default(), running: Some(running) }
    }

    /// Kills the process with -9, and starts another on the same data.
    pub(crate) fn kill(&mut self) {
        self.stop();
        let (child, address) = crate::kill::spawn(self.data.path());
        self.running = Some(Running { address, relay: Relay::Process(child) });
    }

    /// Whether a blob has come whole.
    pub(crate) fn has_blob(&self, blob: &[u8; 32]) -> bool {
        let name = data_encoding::HEXLOWER.encode(blob);
        self.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(&name).is_file()
    }

    /// Resident memory of the relay's process in bytes; 0 where it cannot be told.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let Some(Running { relay: Relay::Process(child), .. }) = &self.running else { return 0 };
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", child.id()));
        let pages = statm.ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    }

    /// Stops it as SIGTERM would, or kills its process.
    pub(crate) fn stop(&mut self) {
        match self.running.take().map(|running| running.relay) {
            Some(Relay::Thread(stop, thread)) => {
                let _ = stop.send(());
                thread.join().unwrap();
            }
            Some(Relay::Process(mut child)) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            None => {}
        }
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address
    }

    pub(crate) fn path(&self) -> &Path {
        self.data.path()
    }

    /// A token made with the relay's key.
    pub(crate) fn token(&self, subject: &str, stores: &str, scope: &str) -> String {
        self.token_for(subject, stores, scope, 3600)
    }

    pub(crate) fn token_for(
        &self,
        subject: &str,
        stores: &str,
        scope: &str,
        life_s: u64,
    ) -> String {
        let order = TokenOrder {
            subject: subject.to_string(),
            stores: stores.split(' ').map(str::to_string).collect(),
            scope: scope.split_whitespace().map(str::to_string).collect(),
            life_s,
        };
        make_token(self.path(), &order).unwrap().token
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub(crate) fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // Who is refused early need not read the rest.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        answer(&bytes)
    }

    pub(crate) fn with_token(&self, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
        self.http(method, path, &[("Authorization", &format!("Bearer {token}"))], body)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let at = at.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = &bytes[at + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head, body: if is_chunked { unchunked(body) } else { body.to_vec() } }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + len]);
        bytes = &bytes[end + 2 + len + 2..];
        if len == 0 {
            break;
        }
    }
    body
}
