//! Writers that take their time: the file is delivered when the last of them has let go, once.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread::{scope, sleep};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::world::{SIZE, World, one};

/// Parts in which a writer writes, and its pause before each: three seconds in all.
pub(crate) const PARTS: usize = 12;
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Were completeness inferred from quiet, nothing would be delivered while this test lasts.
const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
stability_threshold = "1h"
"#;

#[test]
fn a_file_that_stays_open_is_delivered_once_and_whole() {
    let mut world = World::new(TRIGGER);
    world.env.start();
    if world.readiness("in") != "proved" {
        return crate::common::skip("the folder for tests is on a file system without leases");
    }
    let text = fs::read(world.source()).unwrap();
    let (inside, outside) = (world.env.at("in"), world.env.at("out"));
    // The last part is not written before the files were seen half-written: nothing is ever sent,
    // but the sender goes.
    let (waits, seen) = bounded(0);
    scope(|scope| {
        let waits = waits;
        scope.spawn(|| plainly(&inside.join("plain"), &text, &seen));
        scope.spawn(|| in_full_size(&inside.join("allocated"), &text, &seen));
        scope.spawn(|| by_another_name(&outside.join("f"), &inside.join("linked"), &text, &seen));
        scope.spawn(|| through_memory(&inside.join("mapped"), &text, &seen));
        for name in ["plain", "allocated", "linked", "mapped"] {
            world.waits(&format!("in/{name}"), "open for writing");
        }
        drop(waits);
    });
    world.delivers(["plain", "allocated", "linked", "mapped"].map(|name| one(name, "s")));
}

/// Calls `write` with each part and where it begins.
fn in_parts(text: &[u8], seen: &Receiver<()>, mut write: impl FnMut(usize, &[u8])) {
    let size = SIZE.div_ceil(PARTS);
    for (n, part) in text.chunks(size).enumerate() {
        sleep(PAUSE);
        if n == PARTS - 1 {
            seen.recv().unwrap_err();
        }
        write(n * size, part);
    }
}

fn plainly(path: &Path, text: &[u8], seen: &Receiver<()>) {
    let mut file = File::create(path).unwrap();
    in_parts(text, seen, |_, part| file.write_all(part).unwrap());
}

/// The size is final from the beginning.
fn in_full_size(path: &Path, text: &[u8], seen: &Receiver<()>) {
    let mut file = File::create(path).unwrap();
    file.set_len(SIZE as u64).unwrap();
    in_parts(text, seen, |_, part| file.write_all(part).unwrap());
}

/// The writer has it open by a name outside of the folder: its close is not told of.
fn by_another_name(path: &Path, linked: &Path, text: &[u8], seen: &Receiver<()>) {
    let mut file = File::create(path).unwrap();
    in_parts(text, seen, |at, part| {
        if at == 0 {
            fs::hard_link(path, linked).unwrap();
        }
        file.write_all(part).unwrap();
    });
}

/// The file is closed while its memory is still written to.
#[expect(unsafe_code, reason = "a mapping is what the test is about")]
fn through_memory(path: &Path, text: &[u8], seen: &Receiver<()>) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(SIZE as u64).unwrap();
    let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: a new mapping at an address of the kernel's choice, of a file of that size.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, fd, 0) };
    assert_ne!(map, libc::MAP_FAILED);
    drop(file);
    in_parts(text, seen, |at, part| {
        // SAFETY: the parts lie within the mapping, which nobody else refers to.
        unsafe { map.cast::<u8>().add(at).copy_from_nonoverlapping(part.as_ptr(), part.len()) };
    });
    // SAFETY: the mapping was made with this size, and nothing refers to it any more.
    assert_eq!(unsafe { libc::munmap(map, SIZE) }, 0);
}
