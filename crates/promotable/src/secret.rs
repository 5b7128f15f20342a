//! Passwords in files.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ocf::{Failure, Secret};

/// More than any password: what is longer is another file. Bytes.
const LONGEST: u64 = 4096;

/// What stands in the shipped files, which everybody can read, where a password has to be written.
const PLACEHOLDERS: [&str; 3] = ["PASSWORD", "ANOTHER PASSWORD", "A THIRD PASSWORD"];

/// Whether somebody took a shipped file as it is: that password is everybody's.
pub fn is_placeholder(password: &str) -> bool {
    PLACEHOLDERS.contains(&password)
}

/// A secret from the first line of a file that [`read_private`] reads.
///
/// # Errors
/// Those of [`read_private`], and that the line is empty.
pub fn read_secret(path: &Path, parameter: &str) -> Result<Secret, Failure> {
    match read_private(path, parameter)?.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => {
            let shown = path.display();
            Err(Failure::installed(format!("{parameter} {shown}: its first line is empty; write the password there")))
        }
    }
}

/// The text of a small file that belongs to root, or to whom the agent runs as, and that nobody else can read.
///
/// Owner and mode are those of what was opened, and it is reached through no link but root's: the password in it is sent to whoever listens
/// on the server's socket, so that nobody else may choose which file of root's it is.
///
/// # Errors
/// What is wrong with the file, under the name of the parameter, with the command that mends it. Never what stands in it.
pub fn read_private(path: &Path, parameter: &str) -> Result<String, Failure> {
    let shown = path.display();
    let refuse = |why: String| Failure::permission(format!("{parameter} {shown}: {why}"));
    let (file, metadata) = process::open_by_roots_word(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::installed(format!("{parameter} {shown} is missing: create it with mode 600, or unset the parameter"))
        }
        _ => refuse(e.to_string()),
    })?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!("others can read it (mode {:o}): chmod 600 {shown}", metadata.mode() & 0o7777)));
    }
    if metadata.uid() != 0 && metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(refuse(format!("it belongs to user {}, who can change it: chown root {shown}", metadata.uid())));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(|e| refuse(e.to_string()))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::installed(format!("{parameter} {shown}: its text is not UTF-8; write the password in UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocf::Code;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_taken_from_a_private_file_only() {
        let path = std::env::temp_dir().join(format!("systole-secret-{}", std::process::id()));
        let code = |path: &Path| read_secret(path, "password_file").map_err(|failure| failure.code()).err();
        assert_eq!(code(&path), Some(Code::Installed));
        std::fs::write(&path, "hunter2\nmore\n").unwrap();
        for (mode, expected) in [(0o644, Some(Code::Permission)), (0o640, Some(Code::Permission)), (0o600, None), (0o400, None)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(code(&path), expected, "{mode:o}");
        }
        assert_eq!(read_secret(&path, "password_file").unwrap().expose(), "hunter2");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(code(&path), Some(Code::Permission), "a directory");
        std::fs::remove_dir(&path).unwrap();
    }
}
