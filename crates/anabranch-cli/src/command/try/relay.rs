//! The relay of the live part: `ana serve` on a free port of this machine, from nothing.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use super::PATIENCE;
use super::process::Process;
use crate::failure::{Exit, Failure, Result, io_at};

/// The relay's folder, beside the databases.
pub(super) const RELAY_FOLDER: &str = "relay";
/// The store that both sync with.
pub(super) const STORE: &str = "airports";
/// Longest answer that is read: a page of facts about one store.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// A relay that runs.
pub(super) struct Relay {
    process: Process,
    address: String,
    url: String,
    token: String,
}

impl Relay {
    /// Starts it, with an empty folder of its own.
    pub(super) fn start(folder: &Path) -> Result<Relay> {
        let words = ["serve", "--listen", "127.0.0.1:0", "--log-level", "off", "--data"];
        let mut words = words.map(OsString::from).to_vec();
        words.push(folder.join(RELAY_FOLDER).into());
        let mut process = Process::start("the relay", &words, "")?;
        let said = process.wait_for(|line| line["url"].is_string())?;
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_string();
        let url = format!("{}{STORE}", text("url"));
        Ok(Relay { process, address: text("listen"), url, token: text("token") })
    }

    /// Where the store is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The admin token of the first start.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What the relay says of the store (`GET /api/stores/…`).
    pub(super) fn facts(&self) -> Result<Value> {
        let answer = self.ask(&format!("/api/stores/{STORE}"));
        let answer = answer.map_err(|error| io_at("the relay", error))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let is_good = answer.split_whitespace().nth(1) == Some("200");
        serde_json::from_str(body).ok().filter(|_| is_good).ok_or_else(|| {
            let first = answer.lines().next().unwrap_or("nothing");
            Failure::new(Exit::Refused, format!("the relay answered {first}"))
        })
    }

    /// One request; head and body of the answer.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer ends where the connection does.
        let token = &self.token;
        write!(stream, "GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
