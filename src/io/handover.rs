//! What the service manager hands over at the start: the control socket, and capabilities.
//!
//! Taken before any thread and any child, so that nothing of it reaches a task: sockets close when
//! a program starts, capabilities stay with dagd. The variables that tell of sockets stay in dagd's
//! own environment, of which tasks see what they name (`env_pass`), and these never.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use tracing::warn;

/// The name of the control socket (`FileDescriptorName=`).
pub const CONTROL: &str = "control";

/// Variables that tell of sockets begin so. They are for this process alone.
pub const LISTEN: &str = "LISTEN_";

/// No program that is started from here on has a capability of dagd's because dagd has it. To be
/// called before any thread is started: each thread has a set of its own. Errors: a kernel that
/// knows nothing of this.
pub fn keep_capabilities() -> io::Result<()> {
    Ok(rustix::thread::clear_ambient_capability_set()?)
}

/// The control socket, if the service manager has opened it. Others are closed, and it is said which.
/// The second call finds nothing. Errors: what was handed over is not what it is said to be.
pub fn control_socket() -> io::Result<Option<UnixListener>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    let mut control = None;
    for (number, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: the numbers are open, or the line above had failed. Who started this process says
        // that they are for it, so nothing else in it has them; they are taken once.
        #[expect(unsafe_code, reason = "descriptors are handed over as numbers")]
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        if name != CONTROL || control.is_some() {
            warn!(
                "a socket named `{name}` is closed: dagd takes one, FileDescriptorName={CONTROL}"
            );
            continue;
        }
        control = Some(listener(socket)?);
    }
    Ok(control)
}

fn listener(socket: OwnedFd) -> io::Result<UnixListener> {
    let unix = socket_domain(&socket)? == AddressFamily::UNIX;
    if !unix || socket_type(&socket)? != SocketType::STREAM || !socket_acceptconn(&socket)? {
        let what = "the socket named `control` is no Unix stream socket that listens \
                    (ListenStream=/run/dagd/dagd.sock, Accept=no)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::listener;

    #[test]
    fn only_a_listening_stream_socket_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let good = UnixListener::bind(&path).unwrap();
        assert!(listener(good.into()).is_ok());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let bad: [OwnedFd; 3] =
            [tcp.into(), stream.into(), UnixDatagram::unbound().unwrap().into()];
        for bad in bad {
            assert!(listener(bad).unwrap_err().to_string().contains("ListenStream="));
        }
    }
}
