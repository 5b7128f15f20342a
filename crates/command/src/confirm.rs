//! What an operator has to type before something is done that cannot be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Asks for a word at the terminal. `false` when another was typed.
///
/// # Errors
/// When nobody is there to be asked: with the `option` that says it in a script.
pub(crate) fn typed(question: &str, word: &str, option: &str) -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!("nobody is there to confirm it; in a script say: {option}"));
    }
    eprint!("{question} ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| format!("what was typed cannot be read: {e}"))?;
    Ok(line.trim() == word)
}
