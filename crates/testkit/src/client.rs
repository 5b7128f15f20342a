//! A client of Redis in fifty lines: what a user of the server sees, without the agent's own client library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Connects to a port of this machine, as users of the data do.
    ///
    /// # Errors
    /// What the system says.
    pub fn tcp(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { reader: BufReader::new(Box::new(stream.try_clone()?)), writer: Box::new(stream) })
    }

    /// Connects to a socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn unix(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { reader: BufReader::new(Box::new(stream.try_clone()?)), writer: Box::new(stream) })
    }

    /// Sends a command and returns its reply; the elements of a list stand on lines of their own.
    ///
    /// # Errors
    /// The server's error, or that of the connection.
    pub fn ask(&mut self, words: &[&str]) -> Result<String, String> {
        let mut message = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            message.extend(format!("${}\r\n", word.len()).bytes());
            message.extend(word.bytes());
            message.extend(b"\r\n");
        }
        self.writer.write_all(&message).map_err(|e| e.to_string())?;
        self.reply()
    }

    fn reply(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).map_err(|e| e.to_string())?;
        let line = line.trim_end();
        let Some((kind, rest)) = line.split_at_checked(1) else { return Err("the connection was closed".into()) };
        let number = || rest.parse::<i64>().map_err(|e| format!("{line}: {e}"));
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(rest.to_owned()),
            "$" => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(String::new()) };
                let mut bytes = vec![0; length + 2];
                self.reader.read_exact(&mut bytes).map_err(|e| e.to_string())?;
                bytes.truncate(length);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let elements = (0..number()?).map(|_| self.reply()).collect::<Result<Vec<_>, _>>()?;
                Ok(elements.join("\n"))
            }
            _ => Err(format!("not a reply: {line}")),
        }
    }
}
