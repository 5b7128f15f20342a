//! The server's protocol (RESP2) on one connection. An exchange has one deadline, whatever it is made of.
//!
//! Written out here because a client library waits its limit for each reply of a pipeline, and knows no limit for connecting.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// More than any reply to what the agent asks.
const LONGEST_REPLY: usize = 16 * 1024 * 1024;
/// Deeper than any reply nests.
const DEEPEST_REPLY: usize = 4;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A text; empty for the null reply.
    Text(String),
    Number(i64),
    List(Vec<Reply>),
    /// An error of the server.
    Error(String),
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing listens there.
    Absent(String),
    /// Nothing was said in time.
    Late,
    /// The other side hung up.
    Closed,
    /// What came is no reply.
    Garbled(String),
}

/// A stream of either kind.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Bounds the next call. Zero would be no bound.
    fn limit(&self, until: Instant) -> Result<(), Broken> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Broken::Late);
        }
        let limit = Some(left.max(Duration::from_millis(1)));
        let set = match self {
            Self::Unix(stream) => stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)),
            Self::Tcp(stream) => stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)),
        };
        set.map_err(|e| broken(&e))
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }
}

fn broken(error: &std::io::Error) -> Broken {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Broken::Late,
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Broken::Absent(error.to_string()),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted => Broken::Closed,
        _ => Broken::Garbled(error.to_string()),
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: Stream,
    /// What was read and not used yet.
    buffer: Vec<u8>,
}

impl Connection {
    /// To a Unix socket.
    pub(crate) fn unix(connected: std::io::Result<UnixStream>) -> Result<Self, Broken> {
        // Whatever keeps us out (a path that is too long, a mode), nobody is reached there.
        let stream = connected.map_err(|e| match broken(&e) {
            Broken::Garbled(why) => Broken::Absent(why),
            other => other,
        })?;
        Ok(Self { stream: Stream::Unix(stream), buffer: Vec::new() })
    }

    /// To a port.
    pub(crate) fn tcp(address: SocketAddr, until: Instant) -> Result<Self, Broken> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let stream = TcpStream::connect_timeout(&address, left).map_err(|e| broken(&e))?;
        let _ = stream.set_nodelay(true);
        Ok(Self { stream: Stream::Tcp(stream), buffer: Vec::new() })
    }

    /// The next reply that comes, without a question.
    pub(crate) fn next(&mut self, until: Instant) -> Result<Reply, Broken> {
        self.reply(until, 0)
    }

    /// Sends commands and takes one reply for each, all before `until`. A server that hangs up may have said why before it read
    /// anything: then its error is the only reply.
    pub(crate) fn exchange(&mut self, commands: &[&[&str]], until: Instant) -> Result<Vec<Reply>, Broken> {
        match self.send(commands, until) {
            Err(Broken::Closed) => {
                return match self.reply(until, 0) {
                    Ok(reply @ Reply::Error(_)) => Ok(vec![reply]),
                    Err(garbled @ Broken::Garbled(_)) => Err(garbled),
                    _ => Err(Broken::Closed),
                };
            }
            sent => sent?,
        }
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            match self.reply(until, 0) {
                Err(Broken::Closed) if matches!(replies.last(), Some(Reply::Error(_))) => break,
                reply => replies.push(reply?),
            }
        }
        Ok(replies)
    }

    /// Sends commands and waits for nothing.
    pub(crate) fn send(&mut self, commands: &[&[&str]], until: Instant) -> Result<(), Broken> {
        let message: Vec<u8> = commands.iter().flat_map(|words| packed(words)).collect();
        let mut rest = &message[..];
        while !rest.is_empty() {
            self.stream.limit(until)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(Broken::Closed),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(&e)),
            }
        }
        Ok(())
    }

    fn fill(&mut self, until: Instant) -> Result<(), Broken> {
        if self.buffer.len() > LONGEST_REPLY {
            return Err(Broken::Garbled("a reply without an end".into()));
        }
        let mut bytes = [0; 16 * 1024];
        loop {
            self.stream.limit(until)?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Broken::Closed),
                Ok(n) => {
                    self.buffer.extend_from_slice(&bytes[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(&e)),
            }
        }
    }

    fn line(&mut self, until: Instant) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.fill(until)?;
        }
    }

    fn reply(&mut self, until: Instant, depth: usize) -> Result<Reply, Broken> {
        let line = self.line(until)?;
        // Never what came: whatever answers there may have been told a password.
        let garbled = || Broken::Garbled("what answers does not speak the protocol of Redis".into());
        let (kind, rest) = line.split_at_checked(1).ok_or_else(garbled)?;
        let number = || rest.parse::<i64>().map_err(|_| garbled());
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Number(number()?)),
            "$" => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Text(String::new())) };
                if length > LONGEST_REPLY {
                    return Err(garbled());
                }
                while self.buffer.len() < length + 2 {
                    self.fill(until)?;
                }
                let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
                self.buffer.drain(..length + 2);
                Ok(Reply::Text(text))
            }
            "*" if depth < DEEPEST_REPLY => {
                // Each element has three bytes at least, so a list without an end ends at the longest reply.
                let length = usize::try_from(number()?).unwrap_or(0);
                let mut elements = Vec::new();
                for _ in 0..length.min(LONGEST_REPLY) {
                    elements.push(self.reply(until, depth + 1)?);
                }
                Ok(Reply::List(elements))
            }
            _ => Err(garbled()),
        }
    }
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), buffer: Vec::new() }
    }
}

/// A command as it is sent.
fn packed(words: &[&str]) -> Vec<u8> {
    let mut message = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        message.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A connection to somebody who has said `text` and hung up.
    fn told(text: &[u8]) -> Connection {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(text).unwrap();
        Connection::from(ours)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(500)
    }

    #[test]
    fn each_kind_of_reply() {
        let mut connection = told(b"+OK\r\n-ERR no\r\n:42\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n$1\r\nx\r\n:1\r\n");
        let replies: Vec<Reply> = (0..6).map(|_| connection.reply(soon(), 0).unwrap()).collect();
        let text = |t: &str| Reply::Text(t.into());
        let list = Reply::List(vec![text("x"), Reply::Number(1)]);
        assert_eq!(replies, [text("OK"), Reply::Error("ERR no".into()), Reply::Number(42), text("a\r\n"), text(""), list]);
        assert_eq!(connection.reply(soon(), 0), Err(Broken::Closed));
    }

    /// With no connection left, the server says so and hangs up without reading what was sent to it.
    #[test]
    fn the_reason_of_one_who_hangs_up_at_once_is_read() {
        let error = vec![Reply::Error("ERR max number of clients reached".into())];
        for commands in [&[&["PING"][..]][..], &[&["PING"], &["PING"]]] {
            assert_eq!(told(b"-ERR max number of clients reached\r\n").exchange(commands, soon()), Ok(error.clone()));
            assert_eq!(told(b"").exchange(commands, soon()), Err(Broken::Closed));
        }
    }

    /// A limit of 3 s took 6 s where each reply of a pipeline was waited for.
    #[test]
    fn an_exchange_has_one_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection { stream: Stream::Unix(ours), buffer: Vec::new() };
        let begin = Instant::now();
        let answer = connection.exchange(&[&["INFO"], &["CONFIG", "GET", "x"]], begin + Duration::from_millis(100));
        assert_eq!(answer, Err(Broken::Late));
        assert!(begin.elapsed() >= Duration::from_millis(100) && begin.elapsed() < Duration::from_millis(190), "{:?}", begin.elapsed());
    }

    /// One that says a byte now and then is late all the same.
    #[test]
    fn a_trickle_does_not_prolong_the_deadline() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            while theirs.write_all(b"+").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut connection = Connection { stream: Stream::Unix(ours), buffer: Vec::new() };
        let begin = Instant::now();
        assert_eq!(connection.exchange(&[&["PING"]], begin + Duration::from_millis(100)), Err(Broken::Late));
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        drop(connection);
        trickle.join().unwrap();
    }

    #[test]
    fn what_is_no_reply_is_refused_and_not_repeated() {
        for text in [&b"HTTP/1.1 400 hunter2\r\n"[..], b"$99999999999\r\n", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", b":x\r\n", b"\r\n"] {
            match told(text).exchange(&[&["PING"]], soon()) {
                Err(Broken::Garbled(why)) => assert!(!why.contains("hunter2")),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = told(&bytes).reply(soon(), 0);
        }

        #[test]
        fn replies_are_read_without_a_panic(text in "([-+:$*][-0-9a-z]{0,3}\r\n){0,6}") {
            let _ = told(text.as_bytes()).reply(soon(), 0);
        }
    }
}
