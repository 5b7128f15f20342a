//! A real HAProxy of a test, as the files of crm-snippets/server set it up.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually;

/// It ends with the test.
#[derive(Debug)]
pub struct Haproxy {
    /// Its socket for commands.
    pub socket: PathBuf,
    /// Where its clients connect.
    pub port: u16,
    section: String,
    process: Child,
}

impl Haproxy {
    /// Starts one with this configuration, adapted to the test: its socket, the port where it listens, and servers with these names,
    /// addresses and ports. `section` is the `listen` that has them.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(directory: &Path, configuration: &str, section: &str, port: u16, servers: &[(&str, &str, u16)]) -> Self {
        let socket = directory.join("haproxy.sock");
        let mut text = String::new();
        for line in configuration.lines() {
            let word = line.split_whitespace().next().unwrap_or_default();
            match word {
                "bind" => text += &format!("    bind 127.0.0.1:{port}\n"),
                "stats" => text += &line.replace("/run/haproxy/admin.sock", &socket.display().to_string()),
                "server" if line.contains(" lxc") => {}
                _ => text += line,
            }
            text.push('\n');
        }
        for (name, address, port) in servers {
            text += &format!("    server {name} {address}:{port}\n");
        }
        let file = directory.join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("haproxy.log")).unwrap())
            .spawn()
            .expect("the image has haproxy");
        let haproxy = Self { socket, port, section: section.to_owned(), process };
        eventually("HAProxy answers", || haproxy.ask("show info").is_ok_and(|said| said.contains("Uptime")));
        haproxy
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// What it answers to a command.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    }

    /// What it thinks of a server: `UP`, `DOWN`, `DRAIN`.
    pub fn status(&self, server: &str) -> String {
        let table = self.ask(&format!("show stat {} 4 -1", self.section)).unwrap_or_default();
        let row = table.lines().map(|line| line.split(',').collect::<Vec<_>>()).find(|row| row.get(1) == Some(&server));
        row.and_then(|row| row.get(17).map(|status| (*status).to_owned())).unwrap_or_default()
    }

    /// Whether somebody has drained a server: its `srv_admin_state`, which is 0 when nobody has set anything.
    pub fn is_drained(&self, server: &str) -> bool {
        let table = self.ask(&format!("show servers state {}", self.section)).unwrap_or_default();
        let row = table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|row| row.get(3) == Some(&server));
        row.is_some_and(|row| row.get(6).is_some_and(|state| *state != "0"))
    }

    /// Waits until a server has this status.
    #[track_caller]
    pub fn wait_status(&self, server: &str, status: &str) {
        eventually(&format!("{server} is {status} at HAProxy"), || self.status(server) == status);
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
