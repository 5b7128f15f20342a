//! Visitors of a WordPress site: they log in, write articles and read them, through the site's public addresses. One child process in the
//! clients' network, like the load of a database, with the same journal: an article is a write.
//!
//! Articles and readings come at fixed times, whether those before were answered or not, as from many people. Sessions are one
//! visitor's, one request after the other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::Response;

use crate::error::{Context, Error, Result as Done};
use crate::host;
use crate::journal::{Outcome, Record};
use crate::load::{self, Load};
use crate::state::{LabPaths, LabSpec};

/// What the visitors shall do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VisitOptions {
    /// The site's public addresses, taken in turn.
    pub addresses: Vec<String>,
    /// The name by which visitors know the site, whichever address that gives them. A login is good for one name.
    pub host: String,
    /// Articles a second.
    pub articles: u32,
    /// Readings of articles a second.
    pub readings: u32,
    /// The account that makes the visitors' accounts.
    pub user: String,
    /// File with its password.
    pub password_file: PathBuf,
}

/// The process's order.
#[derive(Serialize, Deserialize)]
struct Order {
    run: String,
    journal: PathBuf,
    options: VisitOptions,
}

/// How long the visitors' accounts and logins may take. From PHP 8.4 and WordPress 6.8 (Debian 13) on, each of the twenty passwords costs a
/// processor 0.2 s (bcrypt at cost 12).
const ACCOUNTS: Duration = Duration::from_secs(180);
/// Visitors who write. WordPress keeps the logins of an account in one place: with more of them none is in another one's way.
const AUTHORS: usize = 8;
/// Visitors whose sessions are looked at.
const SESSIONS: usize = 2;
/// Requests of a session until its visitor logs in anew.
const SESSION: u32 = 20;
/// Enough for all requests that wait for a failover.
const HANDS: u32 = 48;
/// A person has more patience. These are short, so that a request of before a failover does not count as one of after it.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);

impl Load {
    /// Starts the visitors; returns when their accounts are made and the journal exists.
    pub(crate) fn visitors(paths: &LabPaths, spec: &LabSpec, options: &VisitOptions) -> Done<Load> {
        let run = format!("{:x}", host::monotonic_us());
        let journal = paths.load_dir().join(format!("visitors-{run}.jsonl"));
        let text = serde_json::to_vec_pretty(&Order { run, journal: journal.clone(), options: options.clone() })
            .context(|| "write the visitors' order".to_owned())?;
        let order = journal.with_extension("order");
        host::write_atomically(&order, &text)?;
        let load = Load::spawn(paths, spec, "visitors", "visit-worker", &order, journal, ACCOUNTS)?;
        let text = format!("load starts: {} articles and {} readings a second", options.articles, options.readings);
        paths.record_event("lab", &text)?;
        Ok(load)
    }
}

/// How the addresses of all articles of a run begin.
#[must_use]
pub fn slug_begin(run: &str) -> String {
    format!("v-{run}-")
}

/// The address of an article of a run, which says which one it is.
#[must_use]
pub fn slug(run: &str, n: u64) -> String {
    format!("{}{n}", slug_begin(run))
}

/// The child process: runs until SIGTERM.
pub(crate) fn worker(order: &Path) -> Done<()> {
    let text = std::fs::read_to_string(order).context(|| format!("read {}", order.display()))?;
    let Order { run, journal, options } = serde_json::from_str(&text).context(|| "read the visitors' order".to_owned())?;
    let file = &options.password_file;
    let password = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
    let site = Site { web: web(), options: &options, turn: AtomicU64::new(0) };
    let authors =
        site.make_accounts(&run, password.trim_end()).map_err(|why| Error::Refused(format!("accounts of the visitors: {why}")))?;
    let stop = load::until_told()?;
    let (records, writer) = load::journal_of(&journal)?;
    let target = format!("the site at {}", options.addresses.join(", "));
    let _ = records.send(Record::Start { run: run.clone(), at: host::monotonic_us(), target, wait: 0 });
    let crowd = Crowd {
        site: &site,
        run: &run,
        authors: &authors,
        slot: AtomicU64::new(0),
        newest: AtomicU64::new(0),
        begin: host::monotonic_us(),
    };
    std::thread::scope(|scope| {
        load::note_pace(scope, &records, &stop);
        for hand in 0..HANDS {
            let (records, stop, crowd) = (records.clone(), &stop, &crowd);
            scope.spawn(move || crowd.work(hand, &records, stop));
        }
        for account in &authors[AUTHORS..] {
            let (records, stop, site) = (records.clone(), &stop, &site);
            scope.spawn(move || site.follow_session(&account.name, &account.password, &records, stop));
        }
    });
    let _ = records.send(Record::End { at: host::monotonic_us() });
    drop(records);
    writer.join().unwrap_or_else(|_| Err(Error::Refused("the journal's thread panicked".to_owned())))
}

fn web() -> Agent {
    // A connection for each request: as from people who have not been here before.
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(ANSWER))
        .build()
        .into()
}

/// A visitor's account, logged in.
struct Account {
    name: String,
    password: String,
    login: Login,
}

/// What a browser keeps of a login.
struct Login {
    cookies: String,
    /// Without it WordPress takes a request for one that somebody else made the browser send.
    nonce: String,
}

/// An answer: its status, its text, and the site's count of the session's requests.
struct Answer {
    status: u16,
    text: String,
    cookies: Vec<String>,
    counted: Option<u32>,
}

impl Answer {
    fn read(mut response: Response<ureq::Body>) -> Result<Answer, String> {
        let header = |name: &str| -> Vec<String> {
            response.headers().get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
        };
        let cookies = header("set-cookie").iter().filter_map(|c| c.split(';').next()).map(str::to_owned).collect();
        let counted = header("x-session-requests").first().and_then(|n| n.parse().ok());
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
        Ok(Answer { status, text, cookies, counted })
    }

    /// What went wrong, in a few words.
    fn complaint(&self) -> String {
        let code = serde_json::from_str::<serde_json::Value>(&self.text).ok().and_then(|v| v["code"].as_str().map(str::to_owned));
        let words = code.or_else(|| self.text.contains("establishing a database connection").then(|| "no database connection".to_owned()));
        format!("status {} {}", self.status, words.unwrap_or_default()).trim_end().to_owned()
    }
}

struct Site<'a> {
    web: Agent,
    options: &'a VisitOptions,
    turn: AtomicU64,
}

impl Site<'_> {
    /// The next address in turn, and a path there.
    fn url(&self, path: &str) -> String {
        let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        format!("http://{}{path}", self.options.addresses[turn % self.options.addresses.len()])
    }

    fn get(&self, path: &str, login: Option<&Login>) -> Result<Answer, String> {
        let request = self.web.get(self.url(path)).header("Host", &self.options.host);
        let request = login.into_iter().fold(request, |r, l| r.header("Cookie", &l.cookies).header("X-WP-Nonce", &l.nonce));
        request.call().map_err(|e| e.to_string()).and_then(Answer::read)
    }

    fn post(&self, path: &str, login: Option<&Login>, form: &[(&str, &str)]) -> Result<Answer, String> {
        let request = self.web.post(self.url(path)).header("Host", &self.options.host);
        let request = login.into_iter().fold(request, |r, l| r.header("Cookie", &l.cookies).header("X-WP-Nonce", &l.nonce));
        request.send_form(form.iter().copied()).map_err(|e| e.to_string()).and_then(Answer::read)
    }

    fn log_in(&self, name: &str, password: &str) -> Result<Login, String> {
        let answer = self.post("/wp-login.php", None, &[("log", name), ("pwd", password)])?;
        if answer.status != 302 {
            return Err(format!("login: {}", answer.complaint()));
        }
        let mut login = Login { cookies: answer.cookies.join("; "), nonce: String::new() };
        let answer = self.get("/wp-admin/admin-ajax.php?action=rest-nonce", Some(&login))?;
        if answer.status != 200 || answer.text.is_empty() {
            return Err(format!("nonce: {}", answer.complaint()));
        }
        login.nonce = answer.text;
        login.cookies = [vec![login.cookies], answer.cookies].concat().join("; ");
        Ok(login)
    }

    /// The accounts of the run: those who write, then those whose sessions are looked at.
    fn make_accounts(&self, run: &str, password: &str) -> Result<Vec<Account>, String> {
        let admin = self.log_in(&self.options.user, password)?;
        let mut seed = [0; 16];
        use std::io::Read as _;
        std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed)).map_err(|e| e.to_string())?;
        let secret: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let account = |n: usize| {
            let (name, password) = (format!("v{run}-{n}"), format!("{secret}-{n}"));
            let mail = format!("{name}@example.com");
            let form = [("username", name.as_str()), ("email", &mail), ("password", &password), ("roles", "author")];
            let answer = self.post("/?rest_route=/wp/v2/users", Some(&admin), &form)?;
            if answer.status != 201 {
                return Err(answer.complaint());
            }
            let login = self.log_in(&name, &password)?;
            Ok(Account { name, password, login })
        };
        (0..AUTHORS + SESSIONS).map(account).collect()
    }

    /// One visitor, again and again: logs in, makes requests, and looks whether the site still knows of those before.
    fn follow_session(&self, name: &str, password: &str, records: &Sender<Record>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut login = None;
            say(records, "login", || {
                login = Some(self.log_in(name, password)?);
                Ok(())
            });
            let Some(login) = login else {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            let mut known = None;
            for _ in 0..SESSION {
                std::thread::sleep(Duration::from_millis(1_500 / u64::from(self.options.articles.max(1))));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                say(records, "session", || {
                    let answer = self.get("/wp-admin/admin-ajax.php?action=rest-nonce", Some(&login))?;
                    if answer.status != 200 {
                        return Err(answer.complaint());
                    }
                    let counted = answer.counted.ok_or("the page came without its session")?;
                    let before = known.replace(counted);
                    // A request that was not answered may have been counted.
                    if before.is_some_and(|before| counted <= before) { Err(SESSION_LOST.to_owned()) } else { Ok(()) }
                });
            }
        }
    }
}

/// What is said of a session that is there and does not know what it knew.
pub const SESSION_LOST: &str = "the session has forgotten requests";

/// Those who write and read.
struct Crowd<'a> {
    site: &'a Site<'a>,
    run: &'a str,
    authors: &'a [Account],
    /// The next moment to do something at.
    slot: AtomicU64,
    /// The newest article that was acknowledged, and one more; 0 for none.
    newest: AtomicU64,
    begin: u64,
}

impl Crowd<'_> {
    fn work(&self, hand: u32, records: &Sender<Record>, stop: &AtomicBool) {
        let VisitOptions { articles, readings, .. } = *self.site.options;
        let rate = u64::from(articles + readings);
        loop {
            let slot = self.slot.fetch_add(1, Ordering::Relaxed);
            let due = self.begin + slot * 1_000_000 / rate;
            while host::monotonic_us() < due {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(due.saturating_sub(host::monotonic_us()).min(50_000)));
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // Spread evenly: of `rate` moments in a row `articles` are for writing.
            if slot * u64::from(articles) % rate < u64::from(articles) {
                self.write(hand, slot, records);
            } else {
                self.read(records);
            }
        }
    }

    fn write(&self, t: u32, n: u64, records: &Sender<Record>) {
        let author = &self.authors[usize::try_from(n).unwrap_or(0) % AUTHORS];
        let slug = slug(self.run, n);
        let text = format!("What visitor {} had to say.", author.name);
        let form = [("title", slug.as_str()), ("slug", &slug), ("status", "publish"), ("content", &text)];
        let sent = host::monotonic_us();
        let answer = self.site.post("/?rest_route=/wp/v2/posts&_fields=slug", Some(&author.login), &form);
        let done = host::monotonic_us();
        let (outcome, error) = match answer {
            Ok(answer) if answer.status == 201 && answer.text.contains(&slug) => (Outcome::Ok, None),
            // The site may have said no after the article was there.
            Ok(answer) => (Outcome::Unknown, Some(answer.complaint())),
            Err(error) => (Outcome::Unknown, Some(error)),
        };
        if outcome == Outcome::Ok {
            self.newest.fetch_max(n + 1, Ordering::Relaxed);
        }
        let _ = records.send(Record::Write { t, n, sent, done, outcome, server: None, error });
    }

    fn read(&self, records: &Sender<Record>) {
        let Some(n) = self.newest.load(Ordering::Relaxed).checked_sub(1) else { return };
        let slug = slug(self.run, n);
        say(records, "read", || {
            let answer = self.site.get(&format!("/?rest_route=/wp/v2/posts&_fields=slug&slug={slug}"), None)?;
            if answer.status == 200 && answer.text.contains(&slug) { Ok(()) } else { Err(answer.complaint()) }
        });
    }
}

/// Does it and writes down how it went.
fn say(records: &Sender<Record>, what: &str, act: impl FnOnce() -> Result<(), String>) {
    let sent = host::monotonic_us();
    let error = act().err();
    let _ = records.send(Record::Visit { what: what.to_owned(), sent, done: host::monotonic_us(), ok: error.is_none(), error });
}
