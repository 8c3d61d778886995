//! The answer to who waits at a socket that was handed over, when there is no daemon to serve it.
//!
//! Serves nobody. While a connection waits there, the service manager starts dagd for it, again and
//! again if it must, until it gives the socket up for good. So each is taken and told why.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::wire::Problem;

/// How long one who waits may take to ask and to take the answer.
const EACH_TIME: Duration = Duration::from_millis(100);

/// How long all of them may take; after that they are closed without a word.
const ALL_TIME: Duration = Duration::from_secs(2);

/// Connections that are taken, at most: as many as the kernel lets wait.
const WAITING_MAX: usize = 4096;

/// Bytes of a request that are read before it is refused.
const REQUEST_MAX: usize = 16 << 10;

/// Takes all who wait now and tells them why there is no daemon.
///
/// # Errors
/// The socket cannot be listened on.
pub fn refuse(listener: &UnixListener, why: &str) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + ALL_TIME;
    for _ in 0..WAITING_MAX {
        match listener.accept() {
            // Whoever left meanwhile misses nothing.
            Ok((stream, _)) if Instant::now() < deadline => drop(answer(stream, why)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn answer(mut stream: UnixStream, why: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(EACH_TIME))?;
    stream.set_write_timeout(Some(EACH_TIME))?;
    // What is asked does not matter, but it has to be taken for the answer to arrive.
    if stream.read(&mut vec![0; REQUEST_MAX])? == 0 {
        return Ok(());
    }
    let body = serde_json::to_string(&Problem { error: why.to_owned() })?;
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n";
    let length = body.len();
    write!(stream, "{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn all_who_wait_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut asking: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let silent = UnixStream::connect(&path).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        for stream in &mut asking {
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        }
        super::refuse(&listener, "no \"reason\"").unwrap();
        for mut stream in asking {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.ends_with("\r\n\r\n{\"error\":\"no \\\"reason\\\"\"}"), "{answer}");
        }
        drop(silent);
        assert!(listener.accept().is_err(), "nobody waits any more");
    }
}
