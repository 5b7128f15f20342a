//! Metrics over HTTP. What a stranger can do to it is bounded: how many connect at once, how long one takes, how much he may say, how often the
//! cluster is asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
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
use tokio::sync::{Mutex, Notify, Semaphore};

/// As many connections at once. The others wait.
const CONNECTIONS: u32 = 8;
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

/// A program that runs, and where it lies.
#[derive(Clone, Debug)]
struct Program {
    path: PathBuf,
    identity: (u64, u64),
}

impl Program {
    /// This process's.
    fn running() -> Option<Self> {
        let identity = identity(Path::new("/proc/self/exe"))?;
        Some(Self { path: std::env::current_exe().ok()?, identity })
    }

    /// Whether another file lies there now. One that is gone could not be started, so this one goes on.
    fn is_replaced(&self) -> bool {
        identity(&self.path).is_some_and(|now| now != self.identity)
    }
}

/// What a file is by: its device and its inode. A package puts another file in its place.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// What is served.
struct Served {
    page: fn() -> (String, bool),
    /// The page that was made last.
    last: Mutex<Option<(Instant, String)>>,
    program: Option<Program>,
    /// The program was replaced.
    replaced: Notify,
}

/// Serves the page until the process is ended, or its program is replaced.
///
/// # Errors
/// When nothing can be served there, and when the program was replaced: an upgrade leaves running what it replaces.
pub(super) fn serve(address: SocketAddr, page: fn() -> (String, bool)) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        accept(listener, page, Program::running()).await
    })
}

async fn accept(listener: TcpListener, page: fn() -> (String, bool), program: Option<Program>) -> std::io::Result<()> {
    let served = Arc::new(Served { page, last: Mutex::default(), program, replaced: Notify::new() });
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let accepting = tokio::spawn(answer_all(listener, Arc::clone(&served), Arc::clone(&places)));
    served.replaced.notified().await;
    accepting.abort();
    // Whoever has asked is answered.
    let _ = tokio::time::timeout(LIMIT, places.acquire_many(CONNECTIONS)).await;
    Err(std::io::Error::other("another systole was installed in the place of the one that runs; start it again"))
}

async fn answer_all(listener: TcpListener, served: Arc<Served>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&served)));
            let mut http = http1::Builder::new();
            let connection = http.keep_alive(false).max_buf_size(LONGEST_REQUEST).serve_connection(TokioIo::new(stream), answer);
            // Whoever is too slow, or speaks something else, is not answered.
            let _ = tokio::time::timeout(LIMIT, connection).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, served: Arc<Served>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, fresh(&served).await),
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
async fn fresh(served: &Served) -> String {
    let mut last = served.last.lock().await;
    if let Some((_, text)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
        return text.clone();
    }
    let text = tokio::task::spawn_blocking(served.page).await.map(|(text, _)| text).unwrap_or_default();
    if served.program.as_ref().is_some_and(Program::is_replaced) {
        served.replaced.notify_one();
    }
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

    fn listening() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        (listener, address)
    }

    fn accepting(
        listener: std::net::TcpListener,
        page: fn() -> (String, bool),
        program: Option<Program>,
    ) -> std::thread::JoinHandle<std::io::Result<()>> {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
            runtime.block_on(async { accept(TcpListener::from_std(listener).unwrap(), page, program).await })
        })
    }

    /// An upgrade left it running, and what it told was the code of before.
    #[test]
    fn who_was_replaced_answers_once_more_and_ends_with_an_error() {
        let directory = std::env::temp_dir().join(format!("systole-replaced-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, new) = (directory.join("systole"), directory.join("systole.new"));
        std::fs::write(&path, "old").unwrap();
        let program = Program { path: path.clone(), identity: identity(&path).unwrap() };
        let (listener, address) = listening();
        let serving = accepting(listener, || ("systole_scrape_success 1\n# EOF\n".to_owned(), true), Some(program.clone()));
        let get = || said(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let next_page = || std::thread::sleep(FRESH + Duration::from_millis(50));
        assert!(get().starts_with("HTTP/1.1 200 OK"));
        // In the middle of an upgrade there may be none for a moment.
        std::fs::rename(&path, directory.join("aside")).unwrap();
        next_page();
        assert!(get().starts_with("HTTP/1.1 200 OK") && !program.is_replaced() && !serving.is_finished());
        std::fs::write(&new, "new").unwrap();
        std::fs::rename(&new, &path).unwrap();
        next_page();
        assert!(get().ends_with("# EOF\n"), "who asked is answered");
        assert!(serving.join().unwrap().unwrap_err().to_string().contains("another systole was installed"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn this_program_was_not_replaced() {
        assert!(!Program::running().unwrap().is_replaced());
    }

    #[test]
    fn one_page_is_served_to_all_and_who_says_nothing_holds_up_nobody() {
        let (listener, address) = listening();
        accepting(listener, page, None);
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
