//! The stub's server. It speaks as much of Redis' protocol as the lab's writers and probers do, so that the floor is measured by the same
//! clients as the agents.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// Serves until it is killed. Writes are taken while the file is there.
pub(crate) fn serve(port: &str, promoted: PathBuf) -> Result<u8, String> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).map_err(|e| format!("port {port}: {e}"))?;
    for client in listener.incoming().flatten() {
        let promoted = promoted.clone();
        // A client that goes away ends its thread, whichever way it went.
        std::thread::spawn(move || answer_all(client, &promoted));
    }
    Ok(0)
}

fn answer_all(client: TcpStream, promoted: &Path) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut input = BufReader::new(client.try_clone()?);
    let mut output = client;
    while let Some(words) = command(&mut input)? {
        output.write_all(answer(&words, promoted.exists()).as_bytes())?;
    }
    Ok(())
}

fn answer(words: &[String], promoted: bool) -> String {
    match words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
        Some("SET") if promoted => "+OK\r\n".to_owned(),
        Some("SET") => "-READONLY this node is not promoted\r\n".to_owned(),
        Some("INFO") => {
            // A new one for every start, as in Redis.
            let info = format!("run_id:{}-{}\r\nrole:{}\r\n", host(), std::process::id(), if promoted { "master" } else { "slave" });
            format!("${}\r\n{info}\r\n", info.len())
        }
        _ => "-ERR the stub does not know this\r\n".to_owned(),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// A command, an array of strings; `None` at the end.
fn command(input: &mut impl BufRead) -> std::io::Result<Option<Vec<String>>> {
    let Some(count) = number(input, '*')? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(length) = number(input, '$')? else { return Ok(None) };
        let mut word = vec![0; length + 2];
        input.read_exact(&mut word)?;
        word.truncate(length);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(Some(words))
}

/// A line with a number behind this sign.
fn number(input: &mut impl BufRead, sign: char) -> std::io::Result<Option<usize>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let number = line.trim_end().strip_prefix(sign).and_then(|number| number.parse().ok()).filter(|number| *number <= 1 << 16);
    number.map(Some).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
}
