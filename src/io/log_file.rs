//! Reading the log of an attempt: what was kept of it, and how much was not.
//!
//! A log above its limit has a hole where its middle was. Never writes a log, nor finds one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes read at once.
const CHUNK: u64 = 64 << 10;

/// A stretch of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its offset. Behind the position asked for if what lies between was not kept.
    pub start: u64,
    /// At most 64 KiB; empty at the end of the log.
    pub bytes: Vec<u8>,
}

impl Stretch {
    /// The next bytes of `file` from `position` on that were kept. Moves the offset of `file`.
    ///
    /// # Errors
    /// As reading a file.
    pub fn read(file: &File, position: u64) -> io::Result<Self> {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(Self { start: position, bytes: Vec::new() }),
            // Not every file system tells its holes.
            Err(_) => position,
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(u64::MAX);
        let wanted = end.saturating_sub(start).min(CHUNK);
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
        let read = file.read_at(&mut bytes, start)?;
        bytes.truncate(read);
        Ok(Self { start, bytes })
    }

    /// What to say in place of what was not kept between `position` and here, if anything was not.
    pub fn note(&self, position: u64) -> Option<String> {
        let left_out = self.start.checked_sub(position).filter(|&bytes| bytes > 0)?;
        Some(format!("\n[{left_out} bytes of output were not kept]\n"))
    }

    /// The position behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{FallocateFlags, fallocate};

    use super::Stretch;

    #[test]
    fn a_hole_is_told_and_never_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; 40 << 10]).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole, 8 << 10, 16 << 10).unwrap();
        let head = Stretch::read(&file, 0).unwrap();
        assert_eq!((head.start, head.bytes.len(), head.note(0)), (0, 8 << 10, None));
        let tail = Stretch::read(&file, head.end()).unwrap();
        assert_eq!((tail.start, tail.bytes.len()), (24 << 10, 16 << 10));
        assert_eq!(tail.note(head.end()).unwrap(), "\n[16384 bytes of output were not kept]\n");
        assert!(head.bytes.iter().chain(&tail.bytes).all(|&byte| byte == b'x'));
        let end = Stretch::read(&file, tail.end()).unwrap();
        assert_eq!((end.bytes.len(), end.note(tail.end())), (0, None));
    }
}
