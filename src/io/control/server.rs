//! The socket and the connections: who may speak, how many at once, for how long.
//!
//! Knows nothing of what is asked.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::door::{Access, Door};
use super::held::Held;
use super::mark::Mark;
use super::patience::Patient;
use super::reply::{App, Fault};
use super::room::{Admitted, LOOKERS_MAX, Limits, Room};
use super::threads::THREADS_MAX;
use super::{Sources, routes};

/// Time for a request's head to arrive.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time in which a peer must take something of its answer. So long, because it may be somebody who
/// reads a log page by page.
const TAKE_TIME: Duration = Duration::from_hours(1);

/// Bytes of a request's head, at most: a path of 4 KiB in base64 and then some.
const HEAD_MAX: usize = 16 << 10;

/// Headers of a request, at most.
const HEADERS_MAX: usize = 64;

/// Time for answers in flight after [`Server::close`].
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Pause after a failed accept (out of descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long threads for requests stay when they have nothing to do: when there are no more processes
/// to be had, who looks is to be answered by those that are there.
const THREADS_KEPT: Duration = Duration::from_hours(24 * 365);

/// The running server. Dropping it closes it, too.
#[derive(Debug)]
pub struct Server {
    close: oneshot::Sender<()>,
    socket: PathBuf,
}

/// Where a server listens.
#[derive(Debug)]
pub enum Socket {
    /// At this path, on a socket of its own.
    At(PathBuf),
    /// On one that somebody else has opened, and will remove.
    Handed(std_net::UnixListener),
}

impl Server {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Takes no more connections, gives answers in flight a second, and removes the socket if it is
    /// its own. Join the thread to wait for that.
    pub fn close(self) {
        // Nobody to hear it means that the thread has ended already.
        if self.close.send(()).is_err() {
            tracing::debug!("the control thread has ended already");
        }
    }
}

/// Listens in a thread of its own. A socket of its own replaces one left behind by a dead daemon in
/// one step. Fails with `AddrInUse` if somebody answers there, and with whatever
/// the file system says; the message names the path.
pub fn spawn(socket: Socket, sources: Sources) -> io::Result<(Server, JoinHandle<()>)> {
    let door = Door::new(sources.write_group.clone());
    let (listener, path, own) = match socket {
        Socket::At(path) => {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let listener = bind(&path, &door).map_err(named)?;
            let bound = std::fs::symlink_metadata(&path)?;
            (listener, path, Some((bound.dev(), bound.ino())))
        }
        Socket::Handed(listener) => {
            listener.set_nonblocking(true)?;
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
            let nameless = || io::Error::other("the socket that was handed over has no path");
            let path = path.ok_or_else(nameless)?;
            let found = std::fs::symlink_metadata(&path)?;
            if let Some(remedy) = door.barred(found.mode(), found.gid()) {
                tracing::warn!(socket = %path.display(), "{remedy}");
            }
            (listener, path, None)
        }
    };
    let mark = Mark::set(&path).inspect_err(|error| {
        let socket = path.display();
        tracing::warn!(%error, %socket, "`dagd doctor` cannot see that the socket is served");
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .thread_keep_alive(THREADS_KEPT)
        .thread_name("dagd-reader")
        .build()?;
    let (close, closed) = oneshot::channel();
    let socket = path.clone();
    let thread = std::thread::Builder::new().name("dagd-control".to_owned()).spawn(move || {
        // The first of them.
        drop(runtime.spawn_blocking(|| ()));
        if let Err(error) = runtime.block_on(serve(listener, sources, door, closed)) {
            tracing::error!(%error, "the control socket cannot be served");
        }
        runtime.shutdown_timeout(CLOSE_TIME);
        drop(mark);
        if let Some(own) = own {
            remove_own(&path, own);
        }
    })?;
    Ok((Server { close, socket }, thread))
}

/// Binds under another name and renames, so that the socket appears with its mode set.
fn bind(socket: &Path, door: &Door) -> io::Result<std_net::UnixListener> {
    match std::fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there; remove it or choose another place",
            ));
        }
        Ok(_) if std_net::UnixStream::connect(socket).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        Ok(_) | Err(_) => {}
    }
    let own = socket.with_file_name(format!(".{}", std::process::id()));
    match std::fs::remove_file(&own) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std_net::UnixListener::bind(&own)?;
    // Between the two nobody can connect who may not: the mode is what the umask left, and nobody
    // knows the name.
    let placed = give_to(&own, door.group())
        .and_then(|()| set_mode(&own, door.mode()))
        .and_then(|()| std::fs::rename(&own, socket))
        .and_then(|()| listener.set_nonblocking(true));
    if let Err(error) = placed {
        drop(std::fs::remove_file(&own));
        return Err(error);
    }
    Ok(listener)
}

/// Gives a file to a group. Nothing is asked of the system if it is that group's already: a service
/// manager may forbid the question.
fn give_to(path: &Path, group: u32) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.gid() == group {
        return Ok(());
    }
    std::os::unix::fs::chown(path, None, Some(group))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Removes the socket unless another daemon has put its own there by now.
fn remove_own(socket: &Path, own: (u64, u64)) {
    let there = std::fs::symlink_metadata(socket).map(|found| (found.dev(), found.ino()));
    if there.is_ok_and(|there| there == own)
        && let Err(error) = std::fs::remove_file(socket)
    {
        tracing::warn!(%error, socket = %socket.display(), "the control socket stays behind");
    }
}

async fn serve(
    listener: std_net::UnixListener,
    sources: Sources,
    door: Door,
    mut closed: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let routers = Routers::new(sources, &door);
    let room = Room::new();
    loop {
        let place = tokio::select! {
            place = room.place() => place.map_err(io::Error::other)?,
            _ = &mut closed => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut closed => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let access = door.access(&stream);
                let (router, taken) = match room.admit(place, access) {
                    Admitted::Served(taken) => (routers.of(access), taken),
                    Admitted::Crowded(taken) => (routers.crowded.clone(), taken),
                    Admitted::Closed => continue,
                };
                tokio::spawn(async move {
                    converse(stream, router).await;
                    drop(taken);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    room.empty(CLOSE_TIME).await;
    Ok(())
}

/// What is answered, by what a peer may do.
struct Routers {
    all: Router,
    looking: Router,
    none: Router,
    /// For those who may look and find no room.
    crowded: Router,
}

impl Routers {
    fn new(sources: Sources, door: &Door) -> Self {
        let sources = Arc::new(sources);
        let router = |limits| {
            let held = Held::new();
            routes::router(App::new(Arc::clone(&sources), limits))
                .layer(middleware::map_response(move |answer| held.clone().count(answer)))
        };
        let all = router(Limits::ACTING);
        let (acting, closed) = (door.clone(), door.clone());
        let look = move |request: Request, next: Next| {
            let fault = (request.method() != Method::GET).then(|| acting.only_looking());
            async move {
                match fault {
                    Some(fault) => fault.into_response(),
                    None => next.run(request).await,
                }
            }
        };
        let looking = router(Limits::LOOKING).layer(middleware::from_fn(look));
        let none = Router::new().fallback(async move || closed.closed());
        let crowded = Router::new().fallback(async || {
            Fault::unavailable(format!(
                "{LOOKERS_MAX} clients who may look and not act are there already; try again when \
                 one has left"
            ))
        });
        Self { all, looking, none, crowded }
    }

    fn of(&self, access: Access) -> Router {
        match access {
            Access::Write => &self.all,
            Access::Read => &self.looking,
            Access::None => &self.none,
        }
        .clone()
    }
}

/// One request, one answer.
async fn converse(stream: UnixStream, router: Router) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false);
    let stream = TokioIo::new(Patient::new(stream, TAKE_TIME));
    let served = builder.serve_connection(stream, TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a control connection broke");
    }
}
