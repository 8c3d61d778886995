//! Signals from a real sender to the channel. A signal is sent to a process, so each test runs in a
//! process of its own: this program, started again with the real-time signals blocked from the
//! first thread on, as `main` does it.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dagd::io::signals::{Seen, Signals, block_realtime, spawn};

const CHILD: &str = "DAGD_TEST_SIGNALS_CHILD";
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `body` in a child of this test.
fn apart(test: &str, body: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    // On a thread of its own: the mask is for the child only.
    let output = std::thread::scope(|scope| {
        let child = scope.spawn(|| {
            block_realtime().unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap()
        });
        child.join().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1 passed"), "{}: {:?}\n{said}", output.status, output.status.signal());
}

struct Lanes {
    signals: Signals,
    out: Receiver<Seen>,
    urgent: Receiver<Seen>,
}

fn listen(standard: &[i32], lane: (Sender<Seen>, Receiver<Seen>)) -> Lanes {
    let (urgent_in, urgent) = unbounded();
    let signals = spawn(standard, true, lane.0, urgent_in).unwrap();
    Lanes { signals, out: lane.1, urgent }
}

fn next(lane: &Receiver<Seen>) -> Seen {
    lane.recv_timeout(PATIENCE).expect("a signal arrives")
}

#[expect(unsafe_code, reason = "sends a signal to this process")]
fn raise(signo: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signo) }, 0);
}

/// Queues a signal; the error number if the kernel refuses.
#[expect(unsafe_code, reason = "sends a signal to this process")]
fn queue(signo: i32, value: i32) -> Result<(), i32> {
    let bits = usize::try_from(value.cast_unsigned()).unwrap();
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(bits) };
    // SAFETY: takes numbers; the pointer is a number, too, and is not followed.
    match unsafe { libc::sigqueue(libc::getpid(), signo, value) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

fn own() -> (Option<i32>, Option<u32>) {
    (Some(std::process::id().cast_signed()), Some(rustix::process::getuid().as_raw()))
}

#[test]
fn a_thousand_values_arrive_in_order() {
    apart("a_thousand_values_arrive_in_order", || {
        // Fewer places than signals: the kernel's queue holds the rest.
        let lanes = listen(&[], bounded(8));
        let signo = libc::SIGRTMIN() + 1;
        for value in -500..500 {
            queue(signo, value).unwrap();
        }
        let (pid, uid) = own();
        for value in -500..500 {
            assert_eq!(next(&lanes.out), Seen::Trigger { signo, value: Some(value), pid, uid });
        }
        raise(signo);
        assert_eq!(next(&lanes.out), Seen::Trigger { signo, value: None, pid, uid });
        lanes.signals.close();
    });
}

#[test]
fn a_sender_feels_that_nobody_reads() {
    apart("a_sender_feels_that_nobody_reads", || {
        let limit = rustix::process::Resource::Sigpending;
        let few = rustix::process::Rlimit { current: Some(32), maximum: Some(32) };
        rustix::process::setrlimit(limit, few).unwrap();
        let lanes = listen(&[], bounded(1));
        let mut sent = 0;
        let refused = loop {
            match queue(libc::SIGRTMIN(), sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 1000, "the kernel refuses at some point");
        };
        assert_eq!(refused, libc::EAGAIN);
        for expected in 0..sent {
            let Seen::Trigger { value, .. } = next(&lanes.out) else { panic!("no trigger") };
            assert_eq!(value, Some(expected));
        }
    });
}

#[test]
fn standard_signals_carry_their_sender() {
    apart("standard_signals_carry_their_sender", || {
        let lanes = listen(&[libc::SIGUSR1], unbounded());
        let (pid, uid) = own();
        raise(libc::SIGUSR1);
        let seen = Seen::Trigger { signo: libc::SIGUSR1, value: None, pid, uid };
        assert_eq!(next(&lanes.out), seen);
        // Not wanted: handled, so that it does not end the process, and not reported.
        raise(libc::SIGUSR2);
        raise(libc::SIGWINCH);
        lanes.signals.set(&[libc::SIGALRM]).unwrap();
        raise(libc::SIGUSR1);
        raise(libc::SIGALRM);
        let seen = Seen::Trigger { signo: libc::SIGALRM, value: None, pid, uid };
        // What was still in the handler's store when the set changed is judged by the new set.
        assert_eq!(next(&lanes.out), seen);
        lanes.signals.set(&[libc::SIGUSR2]).unwrap();
        raise(libc::SIGALRM);
        raise(libc::SIGUSR2);
        let seen = Seen::Trigger { signo: libc::SIGUSR2, value: None, pid, uid };
        assert_eq!(next(&lanes.out), seen);
    });
}

#[test]
fn a_stop_passes_a_flood() {
    apart("a_stop_passes_a_flood", || {
        // Nobody takes from this lane, and it has no room.
        let lanes = listen(&[libc::SIGUSR1], bounded(0));
        for value in 0..100 {
            raise(libc::SIGUSR1);
            queue(libc::SIGRTMAX(), value).unwrap();
        }
        for (signo, seen) in [
            (libc::SIGHUP, Seen::Reload),
            (libc::SIGTERM, Seen::Terminate),
            (libc::SIGINT, Seen::Terminate),
        ] {
            raise(signo);
            assert_eq!(next(&lanes.urgent), seen);
        }
    });
}

#[test]
fn closing_ends_the_threads() {
    apart("closing_ends_the_threads", || {
        let lanes = listen(&[], bounded(1));
        lanes.signals.close();
        // The senders are gone when the threads are.
        assert!(lanes.urgent.recv_timeout(PATIENCE).unwrap_err().is_disconnected());
        assert!(lanes.out.recv_timeout(PATIENCE).unwrap_err().is_disconnected());
        // Still not deadly.
        raise(libc::SIGUSR1);
        raise(libc::SIGRTMIN());
    });
}

#[test]
fn what_cannot_be_handled_is_an_error() {
    let (out, _out) = unbounded();
    assert!(spawn(&[libc::SIGKILL], false, out.clone(), out).is_err());
}
