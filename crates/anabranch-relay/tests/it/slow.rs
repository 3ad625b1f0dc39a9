//! Slow lines and dead ones: the relay on a clock that goes when it is told to, and peers that
//! take or give so many bytes a second.

use std::time::Duration;

use anabranch_core::site::SiteId;
use anabranch_relay::{Config, Settings, TokenOrder, bind, make_token};
use anabranch_sync::ChannelId;
use anabranch_sync::frame::{
    Capabilities, Decoded, Delta, Frame, Have, Hello, Role, StoreName, Turn, decode, encode,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::deltas::Site;
use crate::hostile::frame;

/// Bytes that pass in a second: 100 kbit/s.
const LINE_BYTES: usize = 12_500;

/// Runs a test beside a relay whose time passes by [`tokio::time::advance`] only; the test
/// gets its address and a token that may do everything.
fn in_told_time(test: impl AsyncFnOnce(std::net::SocketAddr, String)) {
    let data = tempfile::tempdir().unwrap();
    let settings = Settings {
        listen: Some("127.0.0.1:0".to_string()),
        data: Some(data.path().to_path_buf()),
        ..Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    // While somebody works elsewhere a paused clock does not go by itself.
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    runtime.block_on(async {
        let server = bind(Config::new(settings).unwrap()).await.unwrap();
        let address = server.local_addr().unwrap();
        let order = TokenOrder {
            subject: "ann".to_string(),
            stores: vec!["*".to_string()],
            scope: vec!["admin".to_string()],
            life_s: 3600,
        };
        let token = make_token(data.path(), &order).unwrap().token;
        tokio::spawn(server.run(std::future::pending()));
        test(address, token).await;
    });
    drop(release);
}

/// A peer on a line of its own, which counts what it takes.
struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Connects, opens channel 0 for the store and says what it holds: nothing. The first
    /// frames of the relay are taken.
    async fn open(address: std::net::SocketAddr, token: &str, site: &Site) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let head = "GET /sync/notes HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{:?}", String::from_utf8_lossy(&answer));
        let mut peer = Peer { stream };
        let turn = Turn::Open { token: token.to_string().into(), ticket: Bytes::new() };
        peer.say(&Frame::Hello(Hello {
            capabilities: Capabilities(0),
            role: Role::Peer,
            site: site.site,
            store: StoreName::new("notes").unwrap(),
            turn,
        }))
        .await;
        assert!(matches!(peer.hear().await, Frame::Hello(_)));
        assert!(matches!(peer.hear().await, Frame::Have(_)));
        peer.say(&Frame::Have(Have::default())).await;
        peer
    }

    async fn say(&mut self, said: &Frame) {
        self.stream.write_all(&message(said)).await.unwrap();
    }

    /// The next message, as fast as it comes.
    async fn hear(&mut self) -> Frame {
        let n_bytes = self.head().await.expect("no ping yet");
        let mut bytes = vec![0; n_bytes];
        self.stream.read_exact(&mut bytes).await.unwrap();
        match decode(&bytes.into()).unwrap() {
            Decoded::Frame(_, frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// Reads a frame's head: the bytes of a message, or `None` of a ping.
    async fn head(&mut self) -> Option<usize> {
        let (first, length) =
            (self.stream.read_u8().await.unwrap(), self.stream.read_u8().await.unwrap());
        match (first, length) {
            (0x89, 0) => None,
            (0x82, 126) => Some(self.stream.read_u16().await.unwrap().into()),
            (0x82, 127) => Some(self.stream.read_u64().await.unwrap() as usize),
            (0x82, length) => Some(length.into()),
            other => panic!("{other:?}"),
        }
    }
}

/// A masked message of channel 0.
fn message(said: &Frame) -> Vec<u8> {
    frame(0x82, &encode(ChannelId::new(0).unwrap(), said).into_bytes())
}

/// A delta of one part that is almost as long as one may be.
fn long_part(site: &mut Site) -> Bytes {
    let mut parts = site.write(1, 4_000_000);
    assert_eq!(parts.len(), 1);
    parts.remove(0).into()
}

async fn import(address: std::net::SocketAddr, token: &str, part: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/stores/notes/import HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        part.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(part).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

async fn a_second_passes() {
    tokio::time::advance(Duration::from_secs(1)).await;
    // Whoever was woken gets to run.
    tokio::task::yield_now().await;
}

/// A part that takes minutes to leave, to a peer that says nothing meanwhile: not even the
/// answer to a question, for the question is behind the part.
#[test]
fn a_peer_that_takes_slowly_is_served() {
    in_told_time(async |address, token| {
        let part = long_part(&mut Site::new(1));
        import(address, &token, &part).await;
        let mut peer = Peer::open(address, &token, &Site::new(2)).await;
        let began = Instant::now();
        let mut n_left = peer.head().await.expect("a message");
        assert!(n_left > part.len());
        let mut taken = vec![0; LINE_BYTES];
        while n_left > 0 {
            let n = n_left.min(LINE_BYTES);
            peer.stream.read_exact(&mut taken[..n]).await.unwrap();
            n_left -= n;
            a_second_passes().await;
        }
        assert!(began.elapsed() > Duration::from_secs(300));
    });
}

/// A part that takes minutes to come; the peer, which hears nothing of its own, is shown that
/// somebody is there, and is answered in the end.
#[test]
fn a_peer_that_gives_slowly_is_heard() {
    in_told_time(async |address, token| {
        let mut site = Site::new(1);
        let mut peer = Peer::open(address, &token, &site).await;
        let part = Delta::new(long_part(&mut site)).unwrap();
        for piece in message(&Frame::Delta(part)).chunks(LINE_BYTES) {
            peer.stream.write_all(piece).await.unwrap();
            a_second_passes().await;
        }
        let mut n_pings = 0;
        let n_bytes = loop {
            match peer.head().await {
                None => n_pings += 1,
                Some(n_bytes) => break n_bytes,
            }
        };
        assert!((8..=11).contains(&n_pings), "{n_pings}");
        let mut ack = vec![0; n_bytes];
        peer.stream.read_exact(&mut ack).await.unwrap();
        let Ok(Decoded::Frame(_, Frame::Ack(ack))) = decode(&ack.into()) else {
            panic!("no acknowledgement")
        };
        let held: Vec<(SiteId, u64)> =
            ack.entries.iter().map(|(site, held)| (*site, held.version)).collect();
        assert_eq!(held, [(site.site, 1)]);
    });
}

/// Who neither gives nor takes is cut off, also in the middle of a part.
#[test]
fn a_dead_peer_is_cut_off() {
    for is_sent_something in [false, true] {
        in_told_time(async |address, token| {
            if is_sent_something {
                import(address, &token, &long_part(&mut Site::new(1))).await;
            }
            let mut peer = Peer::open(address, &token, &Site::new(2)).await;
            for _ in 0..180 {
                a_second_passes().await;
            }
            // What is left in the sockets, then the end.
            let mut rest = Vec::new();
            let _ = peer.stream.read_to_end(&mut rest).await;
            assert!(rest.len() < 2 << 20, "{}", rest.len());
        });
    }
}
