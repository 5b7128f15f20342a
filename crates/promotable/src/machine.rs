//! An action of a protocol that does nothing by itself: it asks for an effect and goes on with the event that tells what came of it.
//!
//! The action is an `async fn`, which the compiler makes a state machine of; nothing else than [`Port::ask`] can be awaited in it. Whoever
//! drives it carries out the effects: the agent on a real server, a model in a world of its own. Dropped between two effects it is an agent
//! that was killed there.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ocf::Log;

/// How loud something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// What an operator may want to know afterwards.
    Notice,
    /// What should be looked at.
    Warning,
    /// What failed.
    Error,
}

impl Level {
    /// Says it.
    pub fn say(self, log: &Log, text: &str) {
        match self {
            Self::Notice => log.notice(text),
            Self::Warning => log.warning(text),
            Self::Error => log.error(text),
        }
    }
}

/// When an effect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Since the machine booted.
    pub now: Duration,
    /// Until the end of the action's time.
    pub left: Duration,
}

/// One effect on its way out, one event on its way in.
struct Exchange<E, V> {
    effect: Option<E>,
    event: Option<V>,
}

/// What an action asks through. `E`: what it may ask for. `V`: what it may be told.
pub struct Port<E, V>(Rc<RefCell<Exchange<E, V>>>);

impl<E, V> fmt::Debug for Port<E, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}

impl<E, V> Port<E, V> {
    /// Has an effect carried out, and returns what came of it.
    pub async fn ask(&self, effect: E) -> V {
        self.0.borrow_mut().effect = Some(effect);
        poll_fn(|_| match self.0.borrow_mut().event.take() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        })
        .await
    }
}

/// How far an action came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<E, T> {
    /// It wants this done, and to be told what came of it.
    Effect(E),
    /// It is over.
    Done(T),
}

/// An action on its way.
pub struct Machine<'a, E, V, T> {
    port: Port<E, V>,
    action: Pin<Box<dyn Future<Output = T> + 'a>>,
}

impl<E, V, T> fmt::Debug for Machine<'_, E, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

impl<'a, E, V, T> Machine<'a, E, V, T> {
    /// The machine of an action, which has not begun yet.
    pub fn new<F: Future<Output = T> + 'a>(action: impl FnOnce(Port<E, V>) -> F) -> Self {
        let exchange = Rc::new(RefCell::new(Exchange { effect: None, event: None }));
        let action = Box::pin(action(Port(Rc::clone(&exchange))));
        Self { port: Port(exchange), action }
    }

    /// Goes on with the event of the effect before, `None` at the beginning, up to the next effect or the end.
    pub fn step(&mut self, event: Option<V>) -> Step<E, T> {
        self.port.0.borrow_mut().event = event;
        loop {
            match self.action.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => return Step::Done(result),
                Poll::Pending => {
                    if let Some(effect) = self.port.0.borrow_mut().effect.take() {
                        return Step::Effect(effect);
                    }
                }
            }
        }
    }

    /// Carries out the whole action.
    pub fn run(mut self, mut carry_out: impl FnMut(E) -> V) -> T {
        let mut event = None;
        loop {
            match self.step(event.take()) {
                Step::Effect(effect) => event = Some(carry_out(effect)),
                Step::Done(result) => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn add(port: Port<&'static str, u32>) -> u32 {
        let mut sum = 0;
        for effect in ["first", "second"] {
            sum += port.ask(effect).await;
        }
        sum
    }

    #[test]
    fn an_action_stops_at_each_effect_and_goes_on_with_its_event() {
        let mut machine = Machine::new(add);
        assert_eq!(machine.step(None), Step::Effect("first"));
        assert_eq!(machine.step(Some(3)), Step::Effect("second"));
        assert_eq!(machine.step(Some(4)), Step::Done(7));
        assert_eq!(Machine::new(add).run(|effect| u32::try_from(effect.len()).unwrap()), 11);
    }
}
