//! Signals: from the kernel to the engine, with sender and value.
//!
//! Standard signals come through handlers and are merged by the kernel while one is pending. Those
//! that stop or reload dagd have a thread and a lane of their own, so that no flood of the others
//! can hold them up. Real-time signals are blocked in every thread and read one by one, so that the
//! kernel's queue is the queue: when nobody reads, it fills up and the sender gets `EAGAIN`.
//!
//! Nothing here decides what a signal means.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, retry_on_intr, write};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};
use signal_hook::iterator::{Handle, SignalsInfo};

/// Handled from the start: each would end a daemon, or end it once it is a trigger no more.
const ALWAYS: [i32; 3] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Bytes of stack of a thread of this module.
const STACK: usize = 256 << 10;

/// The greatest signal number.
const SIGNALS_MAX: i32 = 64;

/// A signal, as seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
    /// A signal that may be a trigger's.
    Trigger {
        /// Its number.
        signo: i32,
        /// The value that was queued with it; real-time signals only.
        value: Option<i32>,
        /// The sender's process, where the kernel tells.
        pid: Option<i32>,
        /// The sender's user, where the kernel tells.
        uid: Option<u32>,
    },
}

/// The threads that listen.
#[derive(Debug)]
pub struct Signals {
    urgent: Handle,
    standard: Handle,
    /// Bit `n` is set if standard signal `n` is reported.
    wanted: Arc<AtomicU64>,
    /// Readable once the real-time thread is to end.
    closing: Option<Arc<OwnedFd>>,
}

/// Blocks all real-time signals in this thread and in those that it starts from now on. The first
/// thing in `main`: a real-time signal that meets a thread without the block ends dagd.
#[expect(unsafe_code, reason = "signal masks have no safe wrapper in our dependencies")]
pub fn block_realtime() -> io::Result<()> {
    let set = realtime_set();
    // SAFETY: reads an initialised set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Listens from now on. `standard` are the standard signals that triggers want, which go to `out`;
/// with `realtime` all real-time signals go there, too, and the reader waits while `out` is full.
/// Termination and reload go to `urgent`. Fails if one of `standard` cannot be handled.
pub fn spawn(
    standard: &[i32],
    realtime: bool,
    out: Sender<Seen>,
    urgent: Sender<Seen>,
) -> io::Result<Signals> {
    check(standard)?;
    let wanted = Arc::new(AtomicU64::new(mask(standard)));
    let stop = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    let stop = SignalsInfo::<WithOrigin>::new(stop)?;
    let others = ALWAYS.iter().chain(standard).filter(|&&signo| !is_urgent(signo));
    let others = SignalsInfo::<WithOrigin>::new(others)?;
    let handles = (stop.handle(), others.handle());
    let closing = if realtime { Some(Arc::new(closing()?)) } else { None };
    if let Some(closing) = &closing {
        let (fd, closing, out) = (signalfd()?, Arc::clone(closing), out.clone());
        start("dagd-rtsig", move || read_realtime(&fd, &closing, &out))?;
    }
    start("dagd-signals", move || {
        serve(stop, |origin| {
            let reload = origin.signal == libc::SIGHUP;
            urgent.send(if reload { Seen::Reload } else { Seen::Terminate }).is_ok()
        });
    })?;
    let reported = Arc::clone(&wanted);
    start("dagd-usr", move || {
        serve(others, |origin| {
            let unwanted = reported.load(Ordering::Acquire) & mask(&[origin.signal]) == 0;
            unwanted || out.send(trigger(&origin)).is_ok()
        });
    })?;
    Ok(Signals { urgent: handles.0, standard: handles.1, wanted, closing })
}

impl Signals {
    /// After a reload: these are the standard signals that triggers want now. The others keep their
    /// handlers, and do nothing: they must not end the daemon.
    pub fn set(&self, standard: &[i32]) -> io::Result<()> {
        check(standard)?;
        for &signo in standard.iter().filter(|&&signo| !is_urgent(signo)) {
            self.standard.add_signal(signo)?;
        }
        self.wanted.store(mask(standard), Ordering::Release);
        Ok(())
    }

    /// Ends the threads, each when it has handed over what it holds. Handlers and mask stay.
    pub fn close(&self) {
        self.urgent.close();
        self.standard.close();
        if let Some(closing) = &self.closing {
            // It cannot fail short of 2^64 calls.
            write(closing, &1_u64.to_ne_bytes()).ok();
        }
    }
}

/// Refuses what signal-hook would panic at.
fn check(standard: &[i32]) -> io::Result<()> {
    let bad = |signo: &&i32| !(1..SIGNALS_MAX).contains(*signo) || FORBIDDEN.contains(signo);
    standard.iter().find(bad).map_or(Ok(()), |signo| {
        let text = format!("signal {signo} cannot be handled by a program; choose another");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    })
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(STACK).spawn(body).map(drop)
}

/// Hands over what comes until it is closed or nobody takes it any more.
fn serve(mut signals: SignalsInfo<WithOrigin>, mut take: impl FnMut(Origin) -> bool) {
    for origin in &mut signals {
        if !take(origin) {
            break;
        }
    }
}

fn is_urgent(signo: i32) -> bool {
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].contains(&signo)
}

fn mask(standard: &[i32]) -> u64 {
    let known = standard.iter().filter(|&&signo| (1..SIGNALS_MAX).contains(&signo));
    known.fold(0, |mask, signo| mask | 1 << signo)
}

fn trigger(origin: &Origin) -> Seen {
    Seen::Trigger {
        signo: origin.signal,
        value: None,
        pid: origin.process.map(|process| process.pid),
        uid: origin.process.map(|process| process.uid),
    }
}

fn read_realtime(fd: &OwnedFd, closing: &OwnedFd, out: &Sender<Seen>) {
    loop {
        let mut fds = [PollFd::new(closing, PollFlags::IN), PollFd::new(fd, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut fds, None)).is_err() || !fds[0].revents().is_empty() {
            return;
        }
        match read_one(fd) {
            Ok(seen) if out.send(seen).is_err() => return,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "cannot read real-time signals any more");
                return;
            }
        }
    }
}

/// The next queued signal: the lowest number first, those of one number in the order of sending.
fn read_one(fd: &OwnedFd) -> Result<Seen, Errno> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    if read(fd, &mut bytes)? != bytes.len() {
        return Err(Errno::IO);
    }
    Ok(decode(&bytes))
}

#[expect(unsafe_code, reason = "the kernel's answer is a C structure")]
fn decode(bytes: &[u8; size_of::<libc::signalfd_siginfo>()]) -> Seen {
    // SAFETY: the structure consists of integers, for which all bytes are valid, and the array has
    // its size; the read does not ask for alignment.
    let info = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<libc::signalfd_siginfo>()) };
    let sent = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&info.ssi_code);
    Seen::Trigger {
        signo: info.ssi_signo.cast_signed(),
        value: (info.ssi_code == libc::SI_QUEUE).then_some(info.ssi_int),
        pid: sent.then_some(info.ssi_pid.cast_signed()),
        uid: sent.then_some(info.ssi_uid),
    }
}

fn closing() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

#[expect(unsafe_code, reason = "signalfd has no safe wrapper in our dependencies")]
fn signalfd() -> io::Result<OwnedFd> {
    let set = realtime_set();
    // SAFETY: reads an initialised set and returns a new descriptor or -1.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "signal sets have no safe wrapper in our dependencies")]
fn realtime_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialised by the first call; the numbers are those of real signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signo in libc::SIGRTMIN()..=libc::SIGRTMAX() {
            libc::sigaddset(set.as_mut_ptr(), signo);
        }
        set.assume_init()
    }
}
