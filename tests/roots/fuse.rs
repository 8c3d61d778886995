//! A file system that stops to answer when it is told so: a network mount whose server is gone.
//!
//! It is served by a process of its own, which ends with the test, or after a while if the test
//! hangs in it: nobody can be killed who does.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A mounted one, as the test has it.
pub(crate) struct Hanging {
    server: Child,
    said: BufReader<std::process::ChildStdout>,
}

const DIR: &str = "HANGING_DIR";
const TYPE: &str = "HANGING_TYPE";

impl Hanging {
    /// Mounts an empty one; its type will be `fuse.` and the subtype.
    pub(crate) fn mount(dir: &Path, subtype: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["fuse::serves", "--exact", "--nocapture"]).env(DIR, dir).env(TYPE, subtype);
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(server.stdout.take().unwrap());
        let mut hanging = Self { server, said };
        hanging.await_done();
        hanging
    }

    /// From now on nothing is answered.
    pub(crate) fn hang(&mut self) {
        self.say("hang");
    }

    /// Everything is answered again.
    pub(crate) fn answer(&mut self) {
        self.say("answer");
    }

    /// A file appears, as if somebody on another machine had written it.
    pub(crate) fn put(&mut self, name: &str) {
        self.say(&format!("put {name}"));
    }

    fn say(&mut self, line: &str) {
        writeln!(self.server.stdin.as_ref().unwrap(), "{line}").unwrap();
        self.await_done();
    }

    fn await_done(&mut self) {
        let mut line = String::new();
        while line.trim_end() != "done" {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "the file system has ended");
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        self.server.wait().ok();
    }
}

#[derive(Default)]
struct World {
    files: Vec<String>,
    hangs: bool,
}

/// How long the server lives at most: longer than any test is patient.
const LIFE: Duration = Duration::from_secs(100);

/// The server, in a process of its own.
#[test]
#[expect(clippy::exit, reason = "whoever hangs is let go when the process is gone")]
fn serves() {
    let (Some(dir), Ok(kind)) = (std::env::var_os(DIR), std::env::var(TYPE)) else { return };
    // lock: the requests read what the orders write
    let world = Arc::new((Mutex::new(World::default()), Condvar::new()));
    serve(Path::new(&dir), &kind, world.clone());
    std::thread::spawn(|| {
        std::thread::sleep(LIFE);
        std::process::exit(1);
    });
    println!("\ndone");
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let mut state = world.0.lock().unwrap();
        match line.split_once(' ') {
            Some(("put", name)) => state.files.push(name.to_owned()),
            _ => state.hangs = line == "hang",
        }
        world.1.notify_all();
        println!("done");
    }
    std::process::exit(0);
}

fn serve(dir: &Path, kind: &str, world: Arc<(Mutex<World>, Condvar)>) {
    let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).clone();
    let mut device = options.open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(dir, &format!("fuse.{kind}"), &data);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 17];
        while let Ok(size) = device.read(&mut buffer) {
            let request = &buffer[..size];
            let (opcode, unique, node) = (at(request, 4), long(request, 8), long(request, 16));
            let mut state = world.0.lock().unwrap();
            while state.hangs {
                state = world.1.wait(state).unwrap();
            }
            let Some(answer) = answer(&state, opcode, node, &request[40..]) else { continue };
            let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
            let mut reply = Vec::new();
            reply.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
            reply.extend(error.to_ne_bytes());
            reply.extend(unique.to_ne_bytes());
            reply.extend(body);
            // Whoever asked may have given up.
            device.write_all(&reply).ok();
        }
    });
}

fn at(bytes: &[u8], from: usize) -> u32 {
    u32::from_ne_bytes(bytes[from..from + 4].try_into().unwrap())
}

fn long(bytes: &[u8], from: usize) -> u64 {
    u64::from_ne_bytes(bytes[from..from + 8].try_into().unwrap())
}

/// The body of the answer; `None` where the kernel wants none.
fn answer(world: &World, opcode: u32, node: u64, request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
    Some(match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET.
        2 | 36 | 42 => return None,
        // LOOKUP
        1 => {
            let name = request.split(|byte| *byte == 0).next().unwrap();
            match world.files.iter().position(|file| file.as_bytes() == name) {
                Some(at) => {
                    let node = at as u64 + 2;
                    let ids = [node, 1, 0, 0, 0];
                    Ok(ids.iter().flat_map(|id| id.to_ne_bytes()).chain(attr(node)).collect())
                }
                None => Err(libc::ENOENT),
            }
        }
        // GETATTR
        3 => Ok([0; 16].into_iter().chain(attr(node)).collect()),
        // OPEN, OPENDIR
        14 | 27 => Ok(vec![0; 16]),
        // READ: one byte
        15 => Ok(if long(request, 8) == 0 { b"x".to_vec() } else { Vec::new() }),
        // STATFS
        17 => Ok(vec![0; 80]),
        // RELEASE, FLUSH, RELEASEDIR
        18 | 25 | 29 => Ok(Vec::new()),
        // INIT: version 7.31
        26 => {
            let mut body = vec![0; 64];
            body[0] = 7;
            body[4] = 31;
            body[20..24].copy_from_slice(&4096u32.to_ne_bytes());
            body[24..28].copy_from_slice(&1u32.to_ne_bytes());
            Ok(body)
        }
        // READDIR
        28 => Ok(listing(world, long(request, 8))),
        _ => Err(libc::ENOSYS),
    })
}

/// The names from an offset on, as many as fit into a page.
fn listing(world: &World, from: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, name) in world.files.iter().enumerate().skip(usize::try_from(from).unwrap()) {
        let size = (24 + name.len()).next_multiple_of(8);
        if body.len() + size > 4096 {
            break;
        }
        let from = body.len();
        body.extend((at as u64 + 2).to_ne_bytes());
        body.extend((at as u64 + 1).to_ne_bytes());
        body.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
        body.extend(8u32.to_ne_bytes());
        body.extend(name.as_bytes());
        body.resize(from + size, 0);
    }
    body
}

/// Node 1 is the directory, all others are files of one byte.
fn attr(node: u64) -> Vec<u8> {
    let (mode, size): (u32, u64) = if node == 1 { (0o040_755, 0) } else { (0o100_644, 1) };
    let longs = [node, size, 0, 1, 1, 1].into_iter().flat_map(u64::to_ne_bytes);
    let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].into_iter().flat_map(u32::to_ne_bytes);
    longs.chain(words).collect()
}

#[expect(unsafe_code, reason = "the standard library does not mount")]
fn mount(dir: &Path, kind: &str, data: &str) {
    let text = |text: &[u8]| std::ffi::CString::new(text).unwrap();
    let target = text(std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()));
    let (kind, data) = (text(kind.as_bytes()), text(data.as_bytes()));
    // SAFETY: all are C strings that outlive the call.
    let done = unsafe {
        libc::mount(c"hanging".as_ptr(), target.as_ptr(), kind.as_ptr(), 0, data.as_ptr().cast())
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}
