//! The listening socket: who may connect, TLS, and how a relay starts and stops.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::doorstep::Waiting;
use crate::http;
#[cfg(any(target_os = "android", target_os = "linux"))]
use crate::limits::MAX_UNSENT_BYTES;
use crate::limits::{
    ACCEPT_PAUSE, BODY_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS, STOP_TIMEOUT,
    TEND_INTERVAL,
};
use crate::metrics::Counted;
use crate::patience::Patient;
use crate::relay::{Relay, StartError};
use crate::tls;

/// A relay that listens and does not answer yet.
pub struct Server {
    relay: Arc<Relay>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    first_token: Option<String>,
}

/// Opens the data directory and the socket.
///
/// # Errors
/// [`StartError`].
pub async fn bind(config: Config) -> Result<Server, StartError> {
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    // Last, so that a failed start makes no keys.
    let (relay, first_token) = Relay::open(config)?;
    relay.load().await.map_err(|error| StartError::Storage {
        path: relay.config().data.display().to_string(),
        source: error.into(),
    })?;
    Ok(Server { relay: Arc::new(relay), listener, tls, first_token })
}

impl Server {
    /// Where it listens, the port that was picked included.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether connections are encrypted here.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The admin token, if this was the first start with this data directory.
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    /// Answers until `shutdown` is ready; then stops accepting, lets connections say what they
    /// owe, and ends within [`STOP_TIMEOUT`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let tending = tokio::spawn(tend(Arc::clone(&self.relay)));
        let relay = Arc::clone(&self.relay);
        let joining = tokio::spawn(async move { relay.join_stores().await });
        let keys = Arc::clone(&self.relay);
        let keys = tokio::spawn(async move { keys.tokens().tend().await });
        let accepting = accept_all(&self.relay, &self.listener, self.tls.as_ref());
        tokio::select! {
            () = accepting => {}
            () = shutdown => {}
        }
        drop(self.listener);
        tending.abort();
        joining.abort();
        keys.abort();
        tracing::info!("stopping");
        self.relay.stop();
        if tokio::time::timeout(STOP_TIMEOUT, self.relay.tasks().all_ended()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }
}

/// What a relay does now and then.
async fn tend(relay: Arc<Relay>) {
    loop {
        relay.tend().await;
        tokio::time::sleep(TEND_INTERVAL).await;
    }
}

async fn accept_all(relay: &Arc<Relay>, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if relay.metrics().connections.value() >= relay.config().max_connections {
                    tracing::warn!(%address, "too many connections");
                    continue;
                }
                let limit = relay.config().max_address_connections;
                let Some(waiting) = relay.doorstep().enter(address.ip(), limit) else {
                    tracing::warn!(%address, "too many connections without a token");
                    continue;
                };
                spawn_connection(Arc::clone(relay), stream, (address, waiting), tls.cloned());
            }
            // Out of descriptors, mostly: others must leave first.
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn spawn_connection(
    relay: Arc<Relay>,
    stream: TcpStream,
    (address, waiting): (SocketAddr, Waiting),
    tls: Option<TlsAcceptor>,
) {
    let task = relay.tasks().enter();
    let waiting = Arc::new(waiting);
    // Here and not in the task: the next one that is accepted must see it.
    let counted = Arc::new(relay.metrics().connections.enter());
    tokio::spawn(async move {
        // Frames are small and wait for answers; where it cannot be set they come later.
        let _ = stream.set_nodelay(true);
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
        match tls {
            None => speak_http(&relay, stream, address, (counted, waiting)).await,
            Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak_http(&relay, stream, address, (counted, waiting)).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS"),
                Err(_) => tracing::debug!(%address, "no TLS in time"),
            },
        }
        drop(task);
    });
}

async fn speak_http<S>(
    relay: &Arc<Relay>,
    stream: S,
    address: SocketAddr,
    (counted, waiting): (Arc<Counted>, Arc<Waiting>),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = Arc::clone(relay);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let relay = Arc::clone(&answering);
        // A WebSocket outlives this service, and is a connection all the while.
        request.extensions_mut().insert(Arc::clone(&counted));
        request.extensions_mut().insert(Arc::clone(&waiting));
        async move { Ok::<_, std::convert::Infallible>(http::answer(relay, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(stream, BODY_TIMEOUT)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = relay.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// Runs a relay on threads of its own until the process is told to end (SIGTERM, SIGINT).
///
/// `started` is called once it listens.
///
/// # Errors
/// [`StartError`].
pub fn serve(config: Config, started: impl FnOnce(&Server)) -> Result<(), StartError> {
    let io = |source| StartError::Io { path: "threads".to_string(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(io)?;
    runtime.block_on(async {
        // Heard from the beginning: a signal before the first connection counts.
        let end = end_signal().map_err(io)?;
        let server = bind(config).await?;
        started(&server);
        server.run(end).await;
        Ok::<(), StartError>(())
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

#[cfg(unix)]
fn end_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn end_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without signals the process ends by other means.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
