//! Something else that uses a core all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A loop without a pause, until it is dropped.
pub(crate) struct Loop(Arc<AtomicBool>);

impl Loop {
    pub(crate) fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Self(end)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
