//! File handles: what tells a file from all that the file system had or will have.
//!
//! Asks for them and writes them down; opens none.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::core::path::Bytes;

/// The largest handle that the kernel makes (`MAX_HANDLE_SZ`), in bytes.
const HANDLE_MAX: usize = 128;

/// `struct file_handle` with room for the largest handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; HANDLE_MAX],
}

/// The handle of what is open, as [`put`] writes it; `None` where the file system makes none.
#[expect(unsafe_code, reason = "rustix has no name_to_handle_at")]
pub fn of(fd: BorrowedFd<'_>) -> Option<Bytes> {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; HANDLE_MAX] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the path is a valid C string; `handle` is laid out as `struct file_handle` followed
    // by the 128 bytes that its first field announces; `mount` is a valid int. The kernel writes
    // within those bounds and keeps no pointer.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    let data = handle.data.get(..usize::try_from(handle.bytes).ok()?)?;
    (done == 0).then(|| {
        let mut id = Vec::new();
        put(&mut id, handle.kind, data);
        Bytes::from(id)
    })
}

/// Appends a handle of a type, with a mark that tells it from what stands for it where there is
/// none.
pub fn put(id: &mut Vec<u8>, kind: i32, data: &[u8]) {
    id.push(b'h');
    id.extend_from_slice(&kind.to_le_bytes());
    id.extend_from_slice(data);
}
