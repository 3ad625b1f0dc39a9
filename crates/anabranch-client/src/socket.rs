//! A WebSocket to a relay: connecting, and waiting for whichever comes first: a frame, room
//! to send, or the time given.
//!
//! The socket decides nothing. What is sent it takes from a function as long as the transport
//! has room, so that nothing is queued twice. On a slow line a frame takes minutes, so signs of
//! life are counted in bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anabranch_sync::limits::MAX_FRAME_BYTES;
use anabranch_sync::{KeepAlive, Sign, Time};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::limits::{CONNECT_MS, DEAD_AFTER_MS, PING_AFTER_MS};
use counted::Counted;

mod counted;
#[cfg(test)]
mod tests;

/// A stream of bytes, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It may work later.
    #[error("{0}")]
    Offline(String),
    /// It will not without somebody's doing.
    #[error("{0}")]
    Refused(String),
}

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A frame came.
    Frame(Bytes),
    /// The time is over.
    Time,
    /// The connection is over.
    Ended(String),
}

/// An open connection.
pub(crate) struct Socket {
    stream: WebSocketStream<Counted<Box<dyn Wire>>>,
    /// Since when times are counted.
    opened: Instant,
    alive: KeepAlive,
    /// Whether the relay is to be asked for a sign of life.
    must_ask: bool,
    /// Whether bytes have moved since it was asked last.
    has_moved: bool,
}

impl Socket {
    /// Connects to `ws://host:port/path` or `wss://…`.
    pub(crate) async fn connect(url: &str) -> Result<Socket, ConnectError> {
        let limit = Duration::from_millis(CONNECT_MS);
        match tokio::time::timeout(limit, connect(url)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Offline(format!("{url}: no answer in {limit:?}"))),
        }
    }

    fn new(stream: WebSocketStream<Counted<Box<dyn Wire>>>) -> Socket {
        let alive = KeepAlive::new(Time(0), PING_AFTER_MS, DEAD_AFTER_MS);
        Socket { stream, opened: Instant::now(), alive, must_ask: false, has_moved: false }
    }

    /// Sends what `next_frame` has while there is room, and waits for a frame, if
    /// `is_reading`, until `until`.
    pub(crate) async fn wait(
        &mut self,
        is_reading: bool,
        until: Instant,
        next_frame: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Wake {
        let look_at = self.opened + Duration::from_millis(self.alive.poll_timeout().0);
        let sleep = tokio::time::sleep_until(until.min(look_at));
        let mut sleep = std::pin::pin!(sleep);
        let wake = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = self.poll_send(cx, next_frame) {
                return Poll::Ready(ended);
            }
            if is_reading && let Poll::Ready(wake) = self.poll_receive(cx) {
                return Poll::Ready(wake);
            }
            sleep.as_mut().poll(cx).map(|()| Wake::Time)
        })
        .await;
        self.keep_alive(wake, is_reading)
    }

    /// A frame that is here already, or the end.
    pub(crate) fn next_here(&mut self) -> Option<Wake> {
        // Nobody is woken: the next wait asks again.
        match self.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wake) => Some(wake),
            Poll::Pending => None,
        }
    }

    /// Whether bytes came or left since this was asked last.
    pub(crate) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Says goodbye, if the transport takes it at once.
    pub(crate) async fn close(mut self) {
        let goodbye = std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_close(cx));
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }

    /// Asks whether the relay is there after a while, and gives up after another.
    fn keep_alive(&mut self, wake: Wake, is_reading: bool) -> Wake {
        let now = Time(self.opened.elapsed().as_millis() as u64);
        let traffic = self.stream.get_ref().traffic();
        let (has_moved, sign) = self.alive.look(now, traffic, is_reading);
        self.has_moved |= has_moved;
        self.must_ask |= sign == Sign::Ask;
        match (wake, sign) {
            (Wake::Time, Sign::Gone) => {
                Wake::Ended(format!("no sign of life for {} s", DEAD_AFTER_MS / 1000))
            }
            (wake, _) => wake,
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        next_frame: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Poll<Wake> {
        loop {
            match Pin::new(&mut self.stream).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(ended(&error)),
                Poll::Pending => return Poll::Pending,
            }
            let message = match std::mem::take(&mut self.must_ask) {
                true => Message::Ping(Bytes::new()),
                false => match next_frame() {
                    Some(frame) => Message::Binary(frame.into()),
                    None => break,
                },
            };
            if let Err(error) = Pin::new(&mut self.stream).start_send(message) {
                return Poll::Ready(ended(&error));
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(ended(&error)),
            _ => Poll::Pending,
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        loop {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    return Poll::Ready(Wake::Ended("the relay closed the connection".into()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(ended(&error)),
                Poll::Ready(Some(Ok(message))) => {
                    if let Message::Binary(bytes) = message {
                        return Poll::Ready(Wake::Frame(bytes));
                    }
                    // Pings are answered below us; anything else says nothing to us.
                }
            }
        }
    }
}

fn ended(error: &tungstenite::Error) -> Wake {
    Wake::Ended(match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "the relay closed the connection".into()
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the connection was cut".into()
        }
        tungstenite::Error::Io(error) => io_words(error),
        other => other.to_string(),
    })
}

/// An error of the operating system without its number.
fn io_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

async fn connect(url: &str) -> Result<Socket, ConnectError> {
    let at = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let request = url.into_client_request().map_err(|error| ConnectError::Refused(at(&error)))?;
    let host = request.uri().host().unwrap_or_default();
    let is_encrypted = request.uri().scheme_str() == Some("wss");
    let port = request.uri().port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|error| ConnectError::Offline(at(&io_words(&error))))?;
    // Changes are small and wait for nobody.
    let _ = tcp.set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(crate::limits::MAX_UNSENT_BYTES);
    let wire: Box<dyn Wire> = if is_encrypted {
        Box::new(encrypt(tcp, host).await.map_err(|error| match error {
            ConnectError::Offline(why) => ConnectError::Offline(at(&why)),
            ConnectError::Refused(why) => ConnectError::Refused(at(&why)),
        })?)
    } else {
        Box::new(tcp)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let wire = Counted::new(wire);
    let upgraded = tokio_tungstenite::client_async_with_config(request, wire, Some(config)).await;
    let (stream, _) = upgraded.map_err(|error| refused_upgrade(url, &error))?;
    Ok(Socket::new(stream))
}

/// An answer other than the upgrade says whether to come again.
fn refused_upgrade(url: &str, error: &tungstenite::Error) -> ConnectError {
    let response = match error {
        tungstenite::Error::Http(response) => response,
        tungstenite::Error::Protocol(ProtocolError::HttparseError(_)) => {
            let why = "what answers is no relay, or wants TLS (wss://)";
            return ConnectError::Offline(format!("{url}: {why}"));
        }
        error => return ConnectError::Offline(format!("{url}: {error}")),
    };
    let status = response.status();
    let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let text: String = text.trim().chars().take(200).collect();
    let why = match text.is_empty() {
        true => format!("{url}: the server answers {status}"),
        false => format!("{url}: the server answers {status}: {text}"),
    };
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => ConnectError::Offline(why),
        _ => ConnectError::Refused(why),
    }
}

async fn encrypt(
    tcp: TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string())
        .map_err(|error| ConnectError::Refused(error.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls()?));
    connector.connect(name, tcp).await.map_err(|error| {
        // A certificate that is not trusted will not be later; a cut connection may be.
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                ConnectError::Refused("what answers speaks no TLS; ws:// goes without".into())
            }
            Some(error) => ConnectError::Refused(error.to_string()),
            None => ConnectError::Offline(io_words(&error)),
        }
    })
}

/// TLS as the system trusts: its certificates, or those that `SSL_CERT_FILE` names.
fn tls() -> Result<rustls::ClientConfig, ConnectError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let why = "this system has no trusted certificates; SSL_CERT_FILE may name a file of them";
        return Err(ConnectError::Refused(why.into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
