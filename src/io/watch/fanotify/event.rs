//! Reads what the kernel writes to a fanotify group: events with a directory's handle and a name.
//!
//! Looks at bytes only. What does not add up is told as such and ends the reading; nothing is taken
//! on trust, and nothing panics.

use crate::io::watch::dirty::How;

/// What is listened to: names that come and go, writers that close, attributes for the sake of
/// times that are set. No reads and no plain writes, for the reasons that the other backend has.
pub const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

/// The size of the metadata of an event (`FAN_EVENT_METADATA_LEN`), in bytes.
pub const METADATA_LEN: usize = 24;

/// The version of that layout.
const VERSION: u8 = 3;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Something happened to a name in a directory.
    Name(At<'a>, How),
    /// What concerns no name: the attributes of a directory itself, or nothing that is known.
    Nothing,
    /// Events were lost, or what was read makes no sense.
    Lost,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// The number of the file system, as `statvfs` tells it.
    pub fsid: u64,
    /// The type of the directory's handle.
    pub kind: i32,
    /// Its bytes.
    pub handle: &'a [u8],
    /// The name.
    pub name: &'a [u8],
}

/// The events in what was read.
pub struct Events<'a>(&'a [u8]);

impl<'a> Events<'a> {
    /// Of the bytes that one read gave.
    pub fn new(read: &'a [u8]) -> Self {
        Self(read)
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let parted = number(self.0, 0)
            .map(u32::from_ne_bytes)
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len >= METADATA_LEN)
            .and_then(|len| self.0.split_at_checked(len));
        // Where the next one begins is not known then.
        let (event, rest) = parted.unwrap_or_default();
        self.0 = rest;
        Some(read(event).unwrap_or(Event::Lost))
    }
}

/// An event from its bytes: `len u32, version u8, reserved u8, metadata_len u16, mask u64, fd i32,
/// pid i32`, and records. `None` if it is none.
fn read(event: &[u8]) -> Option<Event<'_>> {
    let metadata = u16::from_ne_bytes(number(event, 6)?);
    let mask = u64::from_ne_bytes(number(event, 8)?);
    if event.get(4) != Some(&VERSION) || mask & libc::FAN_Q_OVERFLOW != 0 {
        return None;
    }
    let mut records = event.get(usize::from(metadata)..)?;
    // Each record has a length of its own, which is not 0.
    while !records.is_empty() {
        let len = usize::from(u16::from_ne_bytes(number(records, 2)?));
        let (record, rest) = records.split_at_checked(len).filter(|_| len > 0)?;
        if record.first() == Some(&libc::FAN_EVENT_INFO_TYPE_DFID_NAME) {
            let at = at(record)?;
            // A directory tells of itself by this name.
            let itself = at.name == b"." || at.name.is_empty();
            return Some(if itself { Event::Nothing } else { Event::Name(at, how(mask)) });
        }
        records = rest;
    }
    Some(Event::Nothing)
}

/// A record: `type u8, pad u8, len u16, fsid [i32; 2], handle_bytes u32, handle_type i32`, the
/// handle, and the name with a byte 0 behind it.
fn at(record: &[u8]) -> Option<At<'_>> {
    let [low, high] = [number(record, 4)?, number(record, 8)?].map(u32::from_ne_bytes);
    let len = usize::try_from(u32::from_ne_bytes(number(record, 12)?)).ok()?;
    let kind = i32::from_ne_bytes(number(record, 16)?);
    let (handle, name) = record.get(20..)?.split_at_checked(len)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let fsid = u64::from(high) << 32 | u64::from(low);
    Some(At { fsid, kind, handle, name: name.get(..end)? })
}

fn how(mask: u64) -> How {
    How {
        gone: mask & (libc::FAN_DELETE | libc::FAN_MOVED_FROM) != 0,
        closed: mask & libc::FAN_CLOSE_WRITE != 0,
        stamped: mask & MASK & !libc::FAN_ONDIR == libc::FAN_ATTRIB,
    }
}

/// The bytes of a number that begins at `from`.
fn number<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::{At, Event, Events, How, METADATA_LEN};

    /// An event as the kernel writes it.
    fn event(mask: u64, name: Option<&[u8]>) -> Vec<u8> {
        let mut record = Vec::new();
        if let Some(name) = name {
            record.extend([libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 0, 0, 0]);
            for number in [7u32, 9, 8, 1] {
                record.extend(number.to_ne_bytes());
            }
            record.extend(*b"HANDLE!!");
            record.extend(name);
            record.push(0);
            record.resize(record.len().next_multiple_of(4), 0);
            let len = u16::try_from(record.len()).unwrap();
            record[2..4].copy_from_slice(&len.to_ne_bytes());
        }
        let len = u32::try_from(METADATA_LEN + record.len()).unwrap();
        let mut all = len.to_ne_bytes().to_vec();
        all.extend([3, 0]);
        all.extend(24u16.to_ne_bytes());
        all.extend(mask.to_ne_bytes());
        all.extend([(-1i32).to_ne_bytes(), 1i32.to_ne_bytes()].concat());
        all.extend(record);
        all
    }

    fn at(name: &[u8]) -> At<'_> {
        At { fsid: 9 << 32 | 7, kind: 1, handle: b"HANDLE!!", name }
    }

    #[test]
    fn what_happened_to_a_name() {
        let close = How { closed: true, ..How::default() };
        let gone = How { gone: true, ..How::default() };
        let stamped = How { stamped: true, ..How::default() };
        let all = [
            event(libc::FAN_CREATE | libc::FAN_ONDIR, Some(b"dir")),
            event(libc::FAN_CREATE | libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB, Some(b"\xff")),
            event(libc::FAN_DELETE, Some(b"a")),
            event(libc::FAN_ATTRIB, Some(b"a")),
            event(libc::FAN_ATTRIB | libc::FAN_ONDIR, Some(b".")),
            event(libc::FAN_ATTRIB, None),
            event(libc::FAN_Q_OVERFLOW, None),
        ]
        .concat();
        let wanted = [
            Event::Name(at(b"dir"), How::default()),
            Event::Name(at(b"\xff"), close),
            Event::Name(at(b"a"), gone),
            Event::Name(at(b"a"), stamped),
            Event::Nothing,
            Event::Nothing,
            Event::Lost,
        ];
        assert_eq!(Events::new(&all).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn what_makes_no_sense_is_lost_and_ends() {
        let whole = event(libc::FAN_CREATE, Some(b"name"));
        for cut in 1..whole.len() {
            let events: Vec<_> = Events::new(&whole[..cut]).collect();
            assert_eq!(events, [Event::Lost], "{cut}");
        }
        // Whatever a byte is, there is an end, and nothing panics.
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut odd = whole.clone();
                odd[at] = byte;
                assert!(Events::new(&[odd, whole.clone()].concat()).count() <= 3);
            }
        }
    }
}
