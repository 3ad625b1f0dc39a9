//! Frames from bytes, in every cut, and what is refused.

use super::*;

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let (head, n_head) = frame_head(first & 0x0f, payload.len());
    let mut bytes = head[..n_head].to_vec();
    bytes[0] = first;
    bytes[1] |= MASKED;
    let mask = [1, 2, 3, 4];
    bytes.extend_from_slice(&mask);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[start..], mask);
    bytes
}

fn read_all(bytes: &[u8], cut: usize, limit: usize) -> (Vec<Received>, SocketError) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let cut = cut.min(bytes.len());
        let io = AsyncReadExt::chain(&bytes[..cut], &bytes[cut..]);
        let mut reader = MessageReader::new(io, &[]);
        let mut received = Vec::new();
        loop {
            match reader.next(limit, u64::MAX).await {
                Ok(one) => received.push(one),
                Err(error) => return (received, error),
            }
        }
    })
}

#[test]
fn messages_survive_every_cut() {
    let large = vec![7; 70_000];
    let mut bytes = frame(0x82, b"one");
    bytes.extend(frame(0x02, b"two"));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, b", three"));
    bytes.extend(frame(0x80, b"!"));
    bytes.extend(frame(0x8a, b""));
    bytes.extend(frame(0x82, &[9; 300]));
    let n_small = bytes.len();
    bytes.extend(frame(0x82, &large));
    bytes.extend(frame(0x88, &[3, 232]));
    let message = |bytes: &[u8]| Received::Message(Bytes::copy_from_slice(bytes));
    let expected = [
        message(b"one"),
        Received::Ping(Bytes::from_static(b"ping")),
        message(b"two, three!"),
        Received::Pong,
        message(&[9; 300]),
        message(&large),
        Received::Close,
    ];
    for cut in (0..n_small + 20).chain([bytes.len() - 1]) {
        let (received, end) = read_all(&bytes, cut, 1 << 20);
        assert_eq!(received, expected, "cut at {cut}");
        assert!(matches!(end, SocketError::Ended));
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    let unmasked = vec![0x82, 1, 0];
    let long_head = vec![0x82, 0xfe, 0, 5];
    let longer_head = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 0];
    let huge = vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
    let large = vec![0x82, 0xff, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let in_pieces: Vec<u8> = (0..20).flat_map(|i| frame(u8::from(i == 0) * 2, &[0; 100])).collect();
    let inside = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
    for (bytes, code, what) in [
        (unmasked, 1002, "no mask"),
        (long_head, 1002, "a length in two bytes that fits one"),
        (longer_head, 1002, "a length in eight bytes that fits two"),
        (huge, 1002, "2^63"),
        (large, 1009, "nearly 2^63"),
        (frame(0x82, &[0; 1001]), 1009, "above the limit"),
        (in_pieces, 1009, "above the limit in pieces"),
        (frame(0xc2, b"a"), 1002, "a reserved bit"),
        (frame(0x81, b"a"), 1003, "text"),
        (frame(0x88, &[3]), 1002, "half a code"),
        (frame(0x88, &[0, 0]), 1002, "code 0"),
        (frame(0x88, &[3, 237]), 1002, "1005, which is never sent"),
        (frame(0x88, &[3, 238]), 1002, "1006, which is never sent"),
        (frame(0x88, &[3, 247]), 1002, "1015, which is never sent"),
        (frame(0x88, &[0x13, 0x88]), 1002, "5000"),
        (frame(0x88, &[3, 232, 0xff]), 1002, "a reason that is no text"),
        (frame(0x08, &[3, 232]), 1002, "a Close in pieces"),
        (frame(0x83, b"a"), 1002, "opcode 3"),
        (frame(0x8b, b"a"), 1002, "opcode 11"),
        (frame(0x80, b"a"), 1002, "a continuation of nothing"),
        (inside, 1002, "a message inside another"),
        (frame(0x09, b"a"), 1002, "a ping in pieces"),
        (frame(0x89, &[0; 126]), 1002, "a long ping"),
    ] {
        let (received, error) = read_all(&bytes, 0, 1000);
        assert!(received.is_empty(), "{what}: {received:?}");
        assert_eq!(error.code(), Some(code), "{what}: {error}");
    }
}

/// Frames that never complete a message are bytes too.
#[test]
fn bytes_are_counted_in_all() {
    let endless = [frame(0x02, b"a"), frame(0x00, b"").repeat(100)].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (in_all, code) in [(100, Some(1008)), (endless.len() as u64, None)] {
        let error = runtime.block_on(MessageReader::new(&endless[..], &[]).next(10, in_all));
        assert_eq!(error.unwrap_err().code(), code, "{in_all}");
    }
}

#[test]
fn the_example_of_the_rfc() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/// Noise, and frames with a bit of noise: an error or a message, never more memory than came.
#[test]
fn noise_is_survived() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..500 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..random.random_range(1..8) {
            let payload = vec![random.random(); random.random_range(0..300)];
            let first = [0x82, 0x02, 0x80, 0x89, 0x00][random.random_range(0..5)];
            bytes.extend(frame(first, &payload));
        }
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        let cut = random.random_range(0..bytes.len());
        let (received, _) = read_all(&bytes, cut, 1000);
        let n: usize = received
            .iter()
            .map(|one| match one {
                Received::Message(bytes) | Received::Ping(bytes) => bytes.len(),
                _ => 0,
            })
            .sum();
        assert!(n <= bytes.len(), "seed {seed}");
    }
}
