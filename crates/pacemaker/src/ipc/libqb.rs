//! A connection to one of Pacemaker's daemons through libqb, which is opened when the first question is asked. All that is unsafe
//! here is in this file.
//!
//! Nothing is linked: where the library or a function of it is missing, there is no connection, and the tools are asked. No call here
//! waits without a limit. `qb_ipcc_connect` does, for ever when the daemon stands still, so the connection is made in its two
//! halves; and `qb_ipcc_recv` waits by the clock on the wall, which may be set back meanwhile, so it is asked without waiting.

#![allow(unsafe_code, reason = "functions of a C library that is opened at run time")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};

/// That of libqb 2, with which Pacemaker 2.1 and 3 are built. Where an older one is, the tools are asked.
const LIBRARY: &CStr = c"libqb.so.100";
/// A daemon that has a larger buffer than this for its messages (128 KiB where nobody has set `PCMK_ipc_buffer`) is left to the tools.
const LARGEST_BUFFER: usize = 64 << 20;
/// What we would like as the longest message: what the answer to that wish takes. The daemon has what it is configured to, which is more.
const SMALLEST_BUFFER: usize = 12_336;
/// How long is slept before the answer is looked for again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The functions, as qb/qbipcc.h declares them. A connection is a pointer to what only the library looks into.
struct Library {
    connect_async: unsafe extern "C" fn(*const c_char, usize, *mut c_int) -> *mut c_void,
    connect_continue: unsafe extern "C" fn(*mut c_void) -> c_int,
    disconnect: unsafe extern "C" fn(*mut c_void),
    get_buffer_size: unsafe extern "C" fn(*mut c_void) -> i32,
    send: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> isize,
    recv: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, i32) -> isize,
}

impl Library {
    /// The library, opened at the first call and kept.
    fn get() -> Option<&'static Self> {
        static OPENED: OnceLock<Option<Library>> = OnceLock::new();
        OPENED.get_or_init(|| Self::open(LIBRARY)).as_ref()
    }

    fn open(library: &CStr) -> Option<Self> {
        // SAFETY: the name ends with a NUL. What the library runs when it is loaded expects nothing of us.
        let handle = NonNull::new(unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })?;
        let function = |name: &CStr| {
            // SAFETY: the library is open, and is never closed; the name ends with a NUL.
            NonNull::new(unsafe { libc::dlsym(handle.as_ptr(), name.as_ptr()) }).map(NonNull::as_ptr)
        };
        // SAFETY: each is a function of this type in the header of the library, in all releases with this soname that have it.
        unsafe {
            Some(Self {
                connect_async: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char, usize, *mut c_int) -> *mut c_void>(
                    function(c"qb_ipcc_connect_async")?,
                ),
                connect_continue: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(function(
                    c"qb_ipcc_connect_continue",
                )?),
                disconnect: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(function(c"qb_ipcc_disconnect")?),
                get_buffer_size: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> i32>(function(
                    c"qb_ipcc_get_buffer_size",
                )?),
                send: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> isize>(function(
                    c"qb_ipcc_send",
                )?),
                recv: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, *mut c_void, usize, i32) -> isize>(function(
                    c"qb_ipcc_recv",
                )?),
            })
        }
    }
}

/// Who serves a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The process.
    pub(super) pid: i32,
    /// Its user.
    pub(super) uid: u32,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    connection: NonNull<c_void>,
    /// What the daemon sends at once, at most.
    buffer: usize,
    /// The process that made it. One that is forked from it has none of its own.
    owner: u32,
}

impl Connection {
    /// Connects to a daemon by its name, if `accepts` agrees with who serves it.
    pub(super) fn open(name: &CStr, until: Instant, accepts: impl FnOnce(Peer) -> Result<(), String>) -> Result<Self, String> {
        let library = Library::get().ok_or("libqb.so.100 cannot be loaded")?;
        let mut socket: c_int = -1;
        // SAFETY: the name ends with a NUL, and `socket` is there to be written to. The socket is made non-blocking before it is
        // connected, so this returns at once.
        let begun = unsafe { (library.connect_async)(name.as_ptr(), SMALLEST_BUFFER, &raw mut socket) };
        let begun = NonNull::new(begun).ok_or_else(|| Errno::last().desc().to_owned())?;
        if socket < 0 {
            return Err("libqb gave no socket".into());
        }
        // SAFETY: the socket is the connection's, which lives until `connect_continue` below.
        let wait = await_answer(unsafe { BorrowedFd::borrow_raw(socket) }, until, accepts);
        if wait.is_err() {
            // So that the second half fails at once, and frees what the first half made: before it has succeeded there is no other
            // function for that.
            let _ = shutdown(socket, Shutdown::Both);
        }
        // SAFETY: this is what `connect_async` returned, and it is continued once. When it fails, the library has freed it.
        let status = unsafe { (library.connect_continue)(begun.as_ptr()) };
        if status != 0 {
            wait?;
            return Err(Errno::from_raw(status.wrapping_abs()).desc().to_owned());
        }
        // From here on it is disconnected when it is dropped.
        let mut made = Self { connection: begun, buffer: 0, owner: std::process::id() };
        wait?;
        // SAFETY: it is connected.
        let size = unsafe { (library.get_buffer_size)(begun.as_ptr()) };
        made.buffer = usize::try_from(size)
            .ok()
            .filter(|size| (SMALLEST_BUFFER..=LARGEST_BUFFER).contains(size))
            .ok_or_else(|| format!("its buffer has {size} bytes"))?;
        Ok(made)
    }

    /// Whether this process made it.
    pub(super) fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Sends a message and waits for one. After an error it is not known whether the message was read, and the connection is good for
    /// nothing any more: the answer may come yet.
    pub(super) fn exchange(&mut self, message: &[u8], until: Instant) -> Result<Vec<u8>, Failed> {
        let library = Library::get().ok_or(Failed::Broken("libqb.so.100 cannot be loaded".into()))?;
        if message.len() > self.buffer {
            return Err(Failed::Broken(format!("the question has {} bytes", message.len())));
        }
        let mut pauses = Pauses::until(until);
        loop {
            // SAFETY: it is connected and not shared, and as many bytes can be read at the pointer. It only waits when the daemon has
            // not read hundreds of messages, and we send none before the one before is answered.
            let sent = unsafe { (library.send)(self.connection.as_ptr(), message.as_ptr().cast(), message.len()) };
            match errno(sent) {
                Ok(_) => break,
                // The daemon has more to do than it wants.
                Err(Errno::EAGAIN) => pauses.pause()?,
                Err(e) => return Err(Failed::Broken(e.desc().into())),
            }
        }
        let mut answer = vec![0; self.buffer];
        loop {
            // SAFETY: as above, and as many bytes can be written at the pointer. With a time of 0 nothing is waited for.
            let length = unsafe { (library.recv)(self.connection.as_ptr(), answer.as_mut_ptr().cast(), answer.len(), 0) };
            match errno(length) {
                Ok(0) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => pauses.pause()?,
                Ok(length) => {
                    answer.truncate(length);
                    return Ok(answer);
                }
                Err(e) => return Err(Failed::Broken(e.desc().into())),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // In a process that was forked the daemon would take the other one's connection for closed.
        if let (true, Some(library)) = (self.is_ours(), Library::get()) {
            // SAFETY: it is connected, and nobody uses it any more.
            unsafe { (library.disconnect)(self.connection.as_ptr()) };
        }
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The connection is of no use.
    Broken(String),
    /// There was none in time.
    Late,
}

/// Sleeps in between looks, a little longer each time.
struct Pauses {
    until: Instant,
    next: Duration,
}

impl Pauses {
    fn until(until: Instant) -> Self {
        Self { until, next: FIRST_PAUSE }
    }

    fn pause(&mut self) -> Result<(), Failed> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failed::Late);
        }
        std::thread::sleep(self.next.min(left));
        self.next = (self.next * 3 / 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// A number of bytes, or the error that a negative one stands for.
fn errno(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_raw(i32::try_from(result.unsigned_abs()).unwrap_or(0)))
}

/// Waits until the daemon has said something to a connection that was begun.
fn await_answer(socket: BorrowedFd<'_>, until: Instant, accepts: impl FnOnce(Peer) -> Result<(), String>) -> Result<(), String> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials).map_err(|e| e.desc().to_owned())?;
    accepts(Peer { pid: peer.pid(), uid: peer.uid() })?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("it accepts no connection in time".into());
        }
        // Rounded up: a wait of 0 ms would spin through the last fraction.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], wait) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e.desc().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_or_another_one_is_none() {
        assert!(Library::open(c"libqb.so.0-is-not-there").is_none());
        assert!(Library::open(c"libc.so.6").is_none(), "it has none of the functions");
    }

    #[test]
    fn negative_results_are_errors_of_the_system() {
        assert_eq!(errno(40), Ok(40));
        assert_eq!(errno(-110), Err(Errno::ETIMEDOUT));
        assert_eq!(errno(isize::MIN), Err(Errno::UnknownErrno));
    }

    /// Whether the library is there or not.
    #[test]
    fn where_nobody_serves_there_is_no_connection() {
        let until = Instant::now() + Duration::from_secs(60);
        assert!(Connection::open(c"systole-serves-nothing-of-this-name", until, |_| Ok(())).is_err());
        assert!(Instant::now() < until);
    }
}
