//! HTTP for whoever scrapes: `GET /metrics`, `/healthz` and `/readyz`, on a Unix socket and, if the site wants it, on a
//! loopback port. Nothing is read from a client but a request line and bounded headers; one request a connection.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exposition;
use crate::control::listener::Listener;
use crate::control::server::places::{Places, Silent};
use crate::control::status::{Status, WatchState};

/// What a client may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time; more are closed at once.
    pub clients: usize,
    /// How long a connection may last, from accepted to closed.
    pub time: Duration,
    /// Bytes of a request's line and headers.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 16,
            time: Duration::from_secs(10),
            // hyper's least.
            bytes: 8192,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200 or 503.
    pub ok: bool,
    /// The text.
    pub text: String,
}

/// Makes the pages.
pub trait Pages: Send + Sync + 'static {
    /// Everything for Prometheus.
    fn metrics(&self) -> impl Future<Output = Page> + Send;
    /// Whether the service is alive.
    fn health(&self) -> impl Future<Output = Page> + Send;
    /// Whether it takes files.
    fn readiness(&self) -> impl Future<Output = Page> + Send;
}

/// Whether files of every drop directory are taken: a line for each that is not.
pub fn readiness(status: &Status) -> Page {
    let bad: Vec<String> = status
        .watches
        .iter()
        .filter_map(|watch| {
            let state = match watch.state {
                WatchState::Online => return None,
                WatchState::Offline => "offline",
                WatchState::Held => "held",
            };
            Some(format!("{}: {state}\n", watch.name))
        })
        .collect();
    let ok = bad.is_empty() && status.model.is_some();
    let text = if ok {
        "ready\n".to_owned()
    } else {
        bad.concat()
    };
    Page { ok, text }
}

/// Serves the Unix socket until `stop`; then removes it.
pub async fn serve_unix<P: Pages>(
    listener: Listener,
    pages: Arc<P>,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let socket: UnixListener = listener.to_tokio()?;
    accept(
        || async { Ok(socket.accept().await?.0) },
        pages,
        limits,
        stop,
    )
    .await;
    Ok(())
}

/// Serves the loopback port until `stop`.
pub async fn serve_tcp<P: Pages>(
    listener: TcpListener,
    pages: Arc<P>,
    limits: Limits,
    stop: CancellationToken,
) {
    accept(
        || async { Ok(listener.accept().await?.0) },
        pages,
        limits,
        stop,
    )
    .await;
}

async fn accept<S, F, P>(
    next: impl Fn() -> F,
    pages: Arc<P>,
    limits: Limits,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
    P: Pages,
{
    let places = Places::new(limits.clients);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next() => accepted,
        };
        match accepted {
            Ok(stream) => {
                // One too many takes the place of the longest silent, or is closed: a scraper tries again.
                let Some(place) = places.take().await else {
                    continue;
                };
                let (pages, silent) = (Arc::clone(&pages), places.silent());
                tokio::spawn(async move {
                    let _place = place;
                    converse(stream, &pages, silent, limits).await;
                });
            }
            // Out of descriptors, usually: try again when that has passed.
            Err(error) => {
                tracing::warn!(%error, "the metrics listener cannot take a client");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    }
}

/// Serves a client, which gives way to others until it has asked for something.
async fn converse<P: Pages>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    pages: &Arc<P>,
    silent: Silent,
    limits: Limits,
) {
    let to_give_way = silent.to_give_way();
    let silent = Mutex::new(Some(silent));
    let speaks = || silent.lock().unwrap_or_else(PoisonError::into_inner).take();
    let answer = service_fn(|request: Request<Incoming>| {
        drop(speaks());
        async move { Ok::<_, Infallible>(answer(&request, &**pages).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.time)
        .max_buf_size(limits.bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    let gives_way = async {
        to_give_way.cancelled().await;
        if speaks().is_none() {
            std::future::pending::<()>().await; // it has just asked, and stays
        }
    };
    tokio::select! {
        () = gives_way => {}
        served = timeout(limits.time, connection) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a metrics client has gone"),
            Err(_) => tracing::debug!("a metrics client took too long"),
        },
    }
}

async fn answer<P: Pages>(request: &Request<Incoming>, pages: &P) -> Response<Full<Bytes>> {
    let reading = [Method::GET, Method::HEAD].contains(request.method());
    let page = match request.uri().path() {
        "/metrics" | "/healthz" | "/readyz" if !reading => {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD only\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        "/metrics" => pages.metrics().await,
        "/healthz" => pages.health().await,
        "/readyz" => pages.readiness().await,
        _ => {
            let there = "there are /metrics, /healthz and /readyz\n";
            return plain(StatusCode::NOT_FOUND, there);
        }
    };
    let code = if page.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    plain(code, page.text)
}

fn plain(code: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    // Also right for the other pages: it is plain text.
    let format = HeaderValue::from_static(exposition::CONTENT_TYPE);
    headers.insert(CONTENT_TYPE, format);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    use super::*;

    /// Makes its page when it is let.
    #[derive(Default)]
    struct Slow {
        asked: Notify,
        let_go: Notify,
    }

    impl Pages for Slow {
        async fn metrics(&self) -> Page {
            self.asked.notify_one();
            self.let_go.notified().await;
            self.health().await
        }

        async fn health(&self) -> Page {
            let text = "a page\n".into();
            Page { ok: true, text }
        }

        async fn readiness(&self) -> Page {
            self.health().await
        }
    }

    #[tokio::test]
    async fn whoever_is_being_served_keeps_its_place_and_whoever_is_silent_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pages, limits) = (
            Arc::<Slow>::default(),
            Limits {
                clients: 1,
                ..Limits::default()
            },
        );
        let stop = CancellationToken::new();
        tokio::spawn(serve_tcp(
            listener,
            Arc::clone(&pages),
            limits,
            stop.clone(),
        ));
        let connect = async || TcpStream::connect(address).await.unwrap();
        let mut silent = connect().await;
        let mut served = connect().await;
        served
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        pages.asked.notified().await;
        let mut text = String::new();
        assert_eq!(silent.read_to_string(&mut text).await.unwrap(), 0);
        // One too many, while everybody is being served.
        assert_eq!(connect().await.read_to_string(&mut text).await.unwrap(), 0);
        pages.let_go.notify_one();
        served.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("a page\n"), "{text}");
        stop.cancel();
    }
}
