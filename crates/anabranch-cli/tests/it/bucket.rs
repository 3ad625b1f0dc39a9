//! `sync` with a bucket of a local S3 server: moto, a Python package that `cargo xtask setup`
//! puts into the target folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::ana::{Ana, Run, run};
use crate::hosts::{extension, missing};

/// A server that runs, with a bucket `bucket`.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// `None`, told loudly, where moto cannot be had.
    fn start() -> Option<Server> {
        let program = std::env::var_os("ANABRANCH_MOTO").map_or_else(
            || extension().ancestors().nth(3).unwrap().join("moto/bin/moto_server"),
            PathBuf::from,
        );
        if !program.is_file() {
            missing("moto (a local S3 server); `cargo xtask setup` installs it");
            return None;
        }
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.by_ref().map(|line| line.unwrap());
        let address = line.filter_map(|line| Some(line.split_once("http://")?.1.to_string()));
        let address = { address }.next().unwrap();
        let address = address.split_whitespace().next().unwrap().trim_end_matches('/').to_string();
        // What it prints of each request must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Server { process, address };
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let request = "PUT /bucket HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
                       Connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Some(server)
    }

    fn sync(&self, ana: &Ana, db: &str, url: &str) -> Run {
        let mut command = ana.command(&["sync", db, url]);
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1");
        run(&mut command, b"")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn two_copies_meet_in_a_bucket() {
    let Some(server) = Server::start() else { return };
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'from a')"]);
    // More than one request takes.
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                INSERT INTO note SELECT 'b' || i, hex(randomblob(5000)) FROM n";
    ana.ok(&["sql", "b.db", fill]);
    for db in ["a.db", "b.db", "a.db", "b.db"] {
        let run = server.sync(&ana, db, "s3://bucket/some/notes");
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{db}: {}", run.out);
    }
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    let run = server.sync(&ana, "a.db", "s3://no-such-bucket/x");
    assert_eq!(run.status, 4, "{}{}", run.out, run.err);
    let address = server.address.clone();
    drop(server);
    let gone = Server { process: Command::new("true").spawn().unwrap(), address };
    let run = gone.sync(&ana, "a.db", "s3://bucket/some/notes");
    assert_eq!(run.status, 3, "{}{}", run.out, run.err);
}
