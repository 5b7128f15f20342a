//! What the parameters of both databases have in common. The parameters themselves are declared by each agent: their names are those of the
//! agents that they take the place of.

use ocf::{Failure, Parameter, Values};

/// A text, `None` for an empty one.
pub fn optional(values: &Values, parameter: &Parameter) -> Option<String> {
    Some(values.text(parameter).to_owned()).filter(|text| !text.is_empty())
}

/// A password that is given itself and in a file: which of them holds would be a guess.
pub fn both_given(values: &Values, password: &Parameter, file: &Parameter) -> Option<Failure> {
    let both = values.is_given(password) && values.is_given(file);
    both.then(|| values.contradiction(format!("{} and {} are both given: keep {}", password.name, file.name, file.name)))
}
