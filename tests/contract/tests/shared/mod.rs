//! What the agents of both databases promise alike: the bodies of tests that each program names by [`promised!`], and so runs
//! with a server of its own. A body stands here once where only its figures differ.

pub(crate) mod disk;
pub(crate) mod history;
pub(crate) mod hostile;
pub(crate) mod killed;
pub(crate) mod secrets;
pub(crate) mod steady;
pub(crate) mod tester;
pub(crate) mod tools;
pub(crate) mod unseen;
pub(crate) mod validate;

/// Tests of this program whose bodies stand in a module here, with what that needs to be told.
macro_rules! promised {
    ($module:ident $given:tt: $($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                crate::shared::$module::$name::<crate::Here> $given;
            }
        )+
    };
}
