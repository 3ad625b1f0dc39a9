//! Slow lines and dead ones: a relay of bytes on the loopback, and a clock that goes when it
//! is told to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::accept_async;

use super::*;

/// Bytes that pass in a second: 100 kbit/s.
const LINE_BYTES: usize = 12_500;
const FRAME_BYTES: usize = 4 << 20;

/// Runs a test whose time passes by [`tokio::time::advance`] only.
fn in_told_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    // While somebody works elsewhere a paused clock does not go by itself.
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    let result = runtime.block_on(test);
    drop(release);
    result
}

/// A listener that takes few bytes that nobody reads.
fn narrow() -> (TcpListener, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let url = format!("ws://{}/sync/notes", listener.local_addr().unwrap());
    (listener, url)
}

/// Accepts a WebSocket, and gives back the stream below it.
async fn accept(listener: TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    accept_async(stream).await.unwrap().into_inner()
}

/// Waits for a frame or the end; what it was, and after how many seconds.
async fn wait(socket: &mut Socket, mut sends: Option<Vec<u8>>) -> (Wake, u64) {
    let began = Instant::now();
    loop {
        let until = Instant::now() + Duration::from_secs(1);
        match socket.wait(true, until, &mut || sends.take()).await {
            Wake::Time => {}
            wake => return (wake, began.elapsed().as_secs()),
        }
    }
}

/// A part that takes minutes comes, though no message comes whole meanwhile; and the relay,
/// which hears nothing of its own, is shown that somebody is there.
#[test]
fn a_long_frame_on_a_slow_line_comes() {
    in_told_time(async {
        let (listener, url) = narrow();
        let relay = tokio::spawn(async move {
            let mut stream = accept(listener).await;
            let mut frame = vec![0x82, 127];
            frame.extend_from_slice(&(FRAME_BYTES as u64).to_be_bytes());
            frame.resize(frame.len() + FRAME_BYTES, 7);
            for piece in frame.chunks(LINE_BYTES) {
                stream.write_all(piece).await.unwrap();
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            // A masked ping without bytes, at least every 30 s.
            let mut pings = vec![0; 6 * (FRAME_BYTES / LINE_BYTES / 30)];
            stream.read_exact(&mut pings).await.unwrap();
            assert!(pings.chunks(6).all(|ping| ping[..2] == [0x89, 0x80]), "{pings:?}");
            stream
        });
        let mut socket = Socket::connect(&url).await.unwrap();
        let (wake, seconds) = wait(&mut socket, None).await;
        assert!(matches!(&wake, Wake::Frame(frame) if frame.len() == FRAME_BYTES), "{wake:?}");
        assert!(seconds > 300, "{seconds}");
        relay.await.unwrap();
    });
}

/// A part that takes minutes goes, though the relay cannot answer a question behind it.
#[test]
fn a_long_frame_on_a_slow_line_goes() {
    in_told_time(async {
        let (listener, url) = narrow();
        tokio::spawn(async move {
            let mut stream = accept(listener).await;
            let mut taken = vec![0; LINE_BYTES];
            for _ in 0..FRAME_BYTES / LINE_BYTES {
                stream.read_exact(&mut taken).await.unwrap();
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            stream.write_all(&[0x82, 1, 9]).await.unwrap();
            // Stays until the other end leaves.
            while stream.read(&mut taken).await.is_ok_and(|n| n > 0) {}
        });
        let mut socket = Socket::connect(&url).await.unwrap();
        let (wake, seconds) = wait(&mut socket, Some(vec![7; FRAME_BYTES])).await;
        assert!(matches!(&wake, Wake::Frame(frame) if frame[..] == [9]), "{wake:?}");
        assert!(seconds > 300, "{seconds}");
    });
}

/// Who neither sends nor takes is gone, also in the middle of a frame.
#[test]
fn a_dead_line_is_left() {
    for sends in [None, Some(vec![7; FRAME_BYTES])] {
        in_told_time(async {
            let (listener, url) = narrow();
            let relay = tokio::spawn(async move {
                let _silent = accept(listener).await;
                loop {
                    tokio::time::advance(Duration::from_secs(1)).await;
                    tokio::task::yield_now().await;
                }
            });
            let mut socket = Socket::connect(&url).await.unwrap();
            let (wake, seconds) = wait(&mut socket, sends).await;
            assert!(matches!(&wake, Wake::Ended(why) if why.contains("50 s")), "{wake:?}");
            assert!((50..=100).contains(&seconds), "{seconds}");
            relay.abort();
        });
    }
}
