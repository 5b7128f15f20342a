//! Metrics over HTTP. What a stranger can do to it is bounded: how many connect at once, how long one takes, how much he may say, how often the
//! cluster is asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

/// As many connections at once. The others wait.
const CONNECTIONS: usize = 8;
/// What a connection may take, from the first byte to the last.
const LIMIT: Duration = Duration::from_secs(10);
/// What a client may say before it is answered. Bytes.
const LONGEST_REQUEST: usize = 8 << 10;
/// For so long the last page is good, however many ask.
const FRESH: Duration = Duration::from_secs(1);
/// After an error of the listener itself, as when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// The format.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page that was made last.
type Last = Arc<Mutex<Option<(Instant, String)>>>;

/// Serves the page until the process is ended.
///
/// # Errors
/// When nothing can be served there.
pub(super) fn serve(address: SocketAddr, page: fn() -> (String, bool)) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        accept(listener, page).await
    })
}

async fn accept(listener: TcpListener, page: fn() -> (String, bool)) -> std::io::Result<()> {
    let (last, places): (Last, _) = (Last::default(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let last = Arc::clone(&last);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&last), page));
            let mut http = http1::Builder::new();
            let connection = http.keep_alive(false).max_buf_size(LONGEST_REQUEST).serve_connection(TokioIo::new(stream), answer);
            // Whoever is too slow, or speaks something else, is not answered.
            let _ = tokio::time::timeout(LIMIT, connection).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, last: Last, page: fn() -> (String, bool)) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, fresh(&last, page).await),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
    };
    let kind = if status == StatusCode::OK { TYPE } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// The page, made once for all who ask at the same time.
async fn fresh(last: &Last, page: fn() -> (String, bool)) -> String {
    let mut last = last.lock().await;
    if let Some((_, text)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
        return text.clone();
    }
    let text = tokio::task::spawn_blocking(page).await.map(|(text, _)| text).unwrap_or_default();
    *last = Some((Instant::now(), text.clone()));
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static MADE: AtomicUsize = AtomicUsize::new(0);

    fn page() -> (String, bool) {
        MADE.fetch_add(1, Ordering::SeqCst);
        ("systole_scrape_success 1\n# EOF\n".to_owned(), true)
    }

    fn said(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn one_page_is_served_to_all_and_who_says_nothing_holds_up_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
            runtime.block_on(async { accept(TcpListener::from_std(listener).unwrap(), page).await })
        });
        let silent: Vec<TcpStream> = (0..CONNECTIONS - 1).map(|_| TcpStream::connect(address).unwrap()).collect();
        let get = |path: &str| said(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let (first, second) = (get("/metrics"), get("/metrics"));
        assert!(first.starts_with("HTTP/1.1 200 OK") && first.contains(TYPE) && first.ends_with("# EOF\n"), "{first}");
        assert_eq!(first.split("\r\n\r\n").last(), second.split("\r\n\r\n").last());
        assert_eq!(MADE.load(Ordering::SeqCst), 1, "the cluster is asked once a second");
        assert!(get("/").starts_with("HTTP/1.1 404"));
        assert!(said(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").starts_with("HTTP/1.1 405"));
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LONGEST_REQUEST * 2));
        assert!(!said(address, &long).starts_with("HTTP/1.1 200"));
        drop(silent);
    }
}
