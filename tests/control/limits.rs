//! Who may speak, how much, how long; and the socket itself.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use dagd::io::client::{Client, ClientError};
use dagd::io::control::{ASKS_MAX, Ask, Server, Socket, Sources, spawn};
use rustix::process::{Gid, Uid};

use crate::common::skip;
use crate::world::{PATIENCE, World, detail, raw};

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

#[test]
fn nonsense_is_answered_with_a_problem() {
    let world = World::new();
    let answers = [
        (post("/v1/fire", "{"), "400 Bad Request", "not the JSON expected"),
        (post("/v1/fire", "[1]"), "400 Bad Request", "not the JSON expected"),
        (post("/v1/replay", "{\"path_b64\":\"?\"}"), "400 Bad Request", "not valid base64"),
        (post("/v1/runs/x/cancel", ""), "400 Bad Request", "no run's number"),
        (post("/v1/nothing", ""), "404 Not Found", "no such path"),
        (post("/v1/status", ""), "405 Method Not Allowed", "looking is GET"),
        (b"GET /v1/runs?limit=x HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), "400 Bad Request", "limit"),
        (b"GET /v1/explain HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), "400 Bad Request", "path_b64"),
    ];
    for (request, status, words) in answers {
        let answer = raw(&world.socket(), &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("{\"error\":") && answer.contains(words), "{answer}");
    }
    assert!(raw(&world.socket(), b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(world.requests.is_empty());
}

#[test]
fn long_requests_are_cut() {
    let world = World::new();
    let body = format!("{{\"select\":\"{}\"}}", "a".repeat(9 << 20));
    let answer = raw(&world.socket(), &post("/v1/fire", &body));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let head = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(64 << 10));
    let answer = raw(&world.socket(), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    world.client().status().unwrap();
}

#[test]
fn slow_clients_hold_nobody_up_and_are_dropped() {
    let world = World::new();
    // All connections but one are taken by clients that say nothing.
    let idle: Vec<UnixStream> =
        (0..95).map(|_| UnixStream::connect(world.socket()).unwrap()).collect();
    let began = Instant::now();
    world.client().status().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // One more says half of something; then there is room for nobody until time is up.
    let mut half = UnixStream::connect(world.socket()).unwrap();
    half.write_all(b"POST /v1/fire HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").unwrap();
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    world.client().status().unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    for mut stream in idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    }
}

#[test]
fn followers_leave_room_for_others() {
    let world = World::new();
    let waiting: Vec<UnixStream> = (0..48)
        .map(|_| {
            let mut stream = UnixStream::connect(world.socket()).unwrap();
            stream.write_all(b"GET /v1/runs/50/wait HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // Requests are read in no order: ask until all of them wait.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.write_all(b"GET /v1/items/4/wait HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
    };
    assert!(refused.contains("48 clients already wait"), "{refused}");
    world.client().status().unwrap();
    drop(waiting);
}

#[test]
fn answers_that_are_not_read_take_no_more_than_their_memory() {
    let world = World::new();
    let mut large = detail(1, "succeeded", None);
    large.run.rev = "x".repeat(24 << 20);
    world.past.lock().unwrap().details.insert(1, large);
    // The first words of an answer; the rest waits for as long as the connection.
    let ask = || {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /v1/runs HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (stream, String::from_utf8_lossy(&begin).into_owned())
    };
    let mut unread: Vec<_> = (0..2).map(|_| ask()).collect();
    assert!(unread.iter().all(|(_, begin)| begin == "HTTP/1.1 200"), "{unread:?}");
    let (mut refused, begin) = ask();
    let mut rest = String::new();
    refused.read_to_string(&mut rest).unwrap();
    assert_eq!(begin, "HTTP/1.1 503");
    assert!(rest.contains("nobody has read yet take 64 MiB"), "{rest}");
    world.client().status().unwrap();
    // One is read to its end, the other is given up.
    let (mut one, _) = unread.remove(0);
    assert!(one.read_to_end(&mut Vec::new()).unwrap() > 24 << 20);
    assert_eq!(ask().1, "HTTP/1.1 200");
    drop(unread);
    // One that is larger than all of that, when there is no other.
    let mut past = world.past.lock().unwrap();
    past.details.get_mut(&1).unwrap().run.rev = "x".repeat(80 << 20);
    drop(past);
    let deadline = Instant::now() + PATIENCE;
    while ask().1 != "HTTP/1.1 200" {
        assert!(Instant::now() < deadline, "the memory is not free again");
    }
}

#[test]
fn those_who_may_only_look_and_follow_leave_all_room_to_those_who_act() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let world = World::new();
    open_to_all(world.dir.path(), &world.socket());
    let wait = |socket: &Path, clients| -> Vec<UnixStream> {
        let wait = |_| {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(b"GET /v1/runs/50/wait HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        };
        (0..clients).map(wait).collect()
    };
    let begun = |clients| {
        for waits in 0..clients {
            world.waits.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {waits} wait"));
        }
    };
    let socket = world.socket();
    let lookers = somebody(rustix::process::getegid(), move || wait(&socket, 32));
    begun(24);
    let actors = wait(&world.socket(), 47);
    begun(47);
    world.client().reload().unwrap();
    drop((lookers, actors));
}

/// Lets everybody come as far as the socket.
fn open_to_all(dir: &Path, socket: &Path) {
    for (path, mode) in [(dir, 0o755), (socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Does something as nobody, in this group.
fn somebody<T: Send + 'static>(group: Gid, work: impl FnOnce() -> T + Send + 'static) -> T {
    // The identity of this thread alone changes; the kernel tells the server that of the thread.
    let thread = std::thread::spawn(move || {
        let nobody = Uid::from_raw(65534);
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        work()
    });
    thread.join().unwrap()
}

#[test]
fn foreign_users_may_not_speak() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let world = World::new();
    open_to_all(world.dir.path(), &world.socket());
    let socket = world.socket();
    let (status, stop) = somebody(Gid::from_raw(65534), move || {
        let client = Client::new(&socket).unwrap();
        (client.status(), client.stop())
    });
    for status in [status.map(drop).unwrap_err(), stop.map(drop).unwrap_err()] {
        assert!(matches!(&status, ClientError::Refused { status: 403, .. }), "{status}");
    }
    world.client().status().unwrap();
}

/// A server without a history. Its socket, itself and its thread.
fn without_database(dir: &Path, asks: Sender<Ask>) -> (PathBuf, Server, JoinHandle<()>) {
    let sources = Sources {
        asks,
        state_dir: dir.to_owned(),
        triggers: Arc::new(Vec::new),
        reader: Arc::new(|| Err("the database is away".to_owned())),
        write_group: None,
    };
    let socket = dir.join("s");
    let (server, thread) = spawn(Socket::At(socket.clone()), sources).unwrap();
    (socket, server, thread)
}

#[test]
fn questions_of_those_who_left_keep_nobody_from_acting() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let (asks, questions) = crossbeam_channel::bounded(ASKS_MAX);
    let dir = tempfile::tempdir().unwrap();
    let (socket, server, thread) = without_database(dir.path(), asks);
    open_to_all(dir.path(), &socket);
    // The engine does not come to it, and who may look asks and leaves, again and again.
    let (place, waiting) = (socket.clone(), questions.clone());
    let refused = somebody(rustix::process::getegid(), move || {
        loop {
            let before = waiting.len();
            let mut stream = UnixStream::connect(&place).unwrap();
            stream.write_all(b"GET /v1/pending HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut answer = [0; 12];
            while waiting.len() == before {
                if stream.read_exact(&mut answer).is_ok() {
                    return answer;
                }
            }
        }
    });
    assert_eq!(&refused, b"HTTP/1.1 503");
    let full = questions.len();
    let stop = std::thread::spawn(move || Client::new(&socket).unwrap().stop().map(drop));
    while questions.len() == full {
        assert!(!stop.is_finished(), "{:?}", stop.join());
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = std::iter::from_fn(|| questions.recv_timeout(PATIENCE).ok())
        .find_map(|ask| if let Ask::Stop(reply) = ask { Some(reply) } else { None });
    told.expect("the stop is asked of the engine").send(()).unwrap();
    stop.join().unwrap().unwrap();
    drop(server);
    thread.join().unwrap();
}

#[test]
fn an_engine_that_is_gone_is_told() {
    let (asks, questions) = crossbeam_channel::bounded(1);
    drop(questions);
    let dir = tempfile::tempdir().unwrap();
    let (socket, server, thread) = without_database(dir.path(), asks);
    let client = Client::new(&socket).unwrap();
    for (outcome, words) in
        [(client.status().map(drop), "stopping"), (client.run(1).map(drop), "database is away")]
    {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, ClientError::Refused { status: 503, .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    drop(server);
    thread.join().unwrap();
    assert!(client.status().unwrap_err().is_unreachable());
}

#[test]
fn the_socket_is_private_and_goes_with_the_server() {
    let mut world = World::new();
    let mode = std::fs::metadata(world.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    world.close();
    assert!(!world.socket().exists());
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 3);
}

#[test]
fn a_socket_that_was_handed_over_stays() {
    let world = World::new();
    let (asks, _questions) = crossbeam_channel::bounded(1);
    let sources = Sources {
        asks,
        state_dir: world.dir.path().to_owned(),
        triggers: Arc::new(Vec::new),
        reader: Arc::new(|| Err("the database is away".to_owned())),
        write_group: None,
    };
    let place = world.dir.path().join("handed");
    let listener = UnixListener::bind(&place).unwrap();
    // It queues with whoever opened it, until there is somebody who serves it.
    let early = UnixStream::connect(&place).unwrap();
    let handed = Socket::Handed(listener.try_clone().unwrap());
    let (server, thread) = spawn(handed, sources).unwrap();
    assert_eq!(server.socket(), place);
    let error = Client::new(&place).unwrap().run(1).unwrap_err();
    assert!(error.to_string().contains("database is away"), "{error}");
    drop(early);
    server.close();
    thread.join().unwrap();
    assert!(UnixStream::connect(&place).is_ok(), "its owner listens on");
}

#[test]
fn stale_sockets_are_replaced_and_others_are_not() {
    let world = World::new();
    let sources = |asks| Sources {
        asks,
        state_dir: world.dir.path().to_owned(),
        triggers: Arc::new(Vec::new),
        reader: Arc::new(|| Err(String::new())),
        write_group: None,
    };
    let (asks, _questions) = crossbeam_channel::bounded(1);
    let taken = spawn(Socket::At(world.socket()), sources(asks.clone())).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "{taken}");
    world.client().status().unwrap();
    let file = world.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = spawn(Socket::At(file.clone()), sources(asks.clone())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let stale = world.dir.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(UnixStream::connect(&stale).is_err());
    let (server, thread) = spawn(Socket::At(stale.clone()), sources(asks)).unwrap();
    assert!(UnixStream::connect(&stale).is_ok());
    // Another daemon's socket at the same place is left alone.
    std::fs::remove_file(&stale).unwrap();
    let _other = UnixListener::bind(&stale).unwrap();
    server.close();
    thread.join().unwrap();
    assert!(stale.exists());
}
