//! Who may come in: looking and acting, by the credentials that the kernel tells of a peer.
//!
//! Knows users and groups by number; nothing of what is asked.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use axum::http::StatusCode;
use tokio::net::UnixStream;

use super::reply::Fault;
use crate::config::Group;

/// Groups of a peer, at most: the kernel's own limit.
const GROUPS_MAX: usize = 65_536;

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Look and act.
    Write,
    /// Look.
    Read,
    /// Neither.
    None,
}

/// Who is let in.
#[derive(Clone, Debug)]
pub(super) struct Door {
    user: u32,
    group: u32,
    write_group: Option<Group>,
}

impl Door {
    /// For the user and the group that this process runs as.
    pub(super) fn new(write_group: Option<Group>) -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Self { user, group, write_group }
    }

    /// The mode of the socket, which belongs to dagd's own group: nobody who may do nothing can
    /// connect at all, unless there are two groups that can. Then everybody can, and is told.
    pub(super) fn mode(&self) -> u32 {
        let another = self.write_group.as_ref().is_some_and(|group| group.id != self.group);
        if another { 0o666 } else { 0o660 }
    }

    /// The group of the socket.
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    /// What to do so that the write group can connect to a socket that somebody else made with this
    /// mode for this group; `None` if it can.
    pub(super) fn barred(&self, mode: u32, group: u32) -> Option<String> {
        let Group { name, id } = self.write_group.as_ref()?;
        let may = mode & 0o002 != 0 || (group == *id && mode & 0o020 != 0);
        (!may).then(|| {
            format!(
                "group `{name}` may act and cannot connect: `systemctl edit dagd.socket`, write \
                 [Socket] and below it SocketMode=0666, then `systemctl restart dagd.socket`; dagd \
                 itself tells others apart"
            )
        })
    }

    /// What the other end may do.
    pub(super) fn access(&self, stream: &UnixStream) -> Access {
        let Ok(peer) = stream.peer_cred() else { return Access::None };
        if peer.uid() == 0 || peer.uid() == self.user {
            return Access::Write;
        }
        // Without them there is the first group still.
        let mut groups = groups(stream).unwrap_or_default();
        groups.push(peer.gid());
        if self.write_group.as_ref().is_some_and(|group| groups.contains(&group.id)) {
            Access::Write
        } else if groups.contains(&self.group) {
            Access::Read
        } else {
            Access::None
        }
    }

    /// Why somebody who may look may not act.
    pub(super) fn only_looking(&self) -> Fault {
        forbidden(match &self.write_group {
            Some(Group { name, .. }) => format!(
                "you may look and not act: that is for root, user {} and group `{name}`; `usermod \
                 -aG {name} NAME` adds somebody to it, from the next login on",
                self.user
            ),
            None => format!(
                "you may look and not act: that is for root and user {}; [control] write_group \
                 names a group that may act as well",
                self.user
            ),
        })
    }

    /// Why somebody may do nothing.
    pub(super) fn closed(&self) -> Fault {
        let acting = match &self.write_group {
            Some(Group { name, .. }) => format!("group `{name}` may act"),
            None => "[control] write_group names a group that may act".to_owned(),
        };
        forbidden(format!(
            "only root and user {} may control dagd; {acting}, and its own group {} may look; \
             `usermod -aG GROUP NAME` adds somebody, from the next login on",
            self.user, self.group
        ))
    }
}

fn forbidden(error: String) -> Fault {
    Fault { status: StatusCode::FORBIDDEN, error }
}

/// Makes the folder of the socket if it is not there. Everybody may pass through it, because the
/// socket itself tells who may; what is not for everybody lies in folders of its own within.
///
/// # Errors
/// It cannot be made, or is another user's, who could put another socket there.
pub fn make_folder(dir: &Path) -> io::Result<()> {
    let there = dir.is_dir();
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let user = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(dir)?.uid();
    if user != 0 && owner != 0 && owner != user {
        let why = format!("it belongs to user {owner}, not to user {user} or root");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    if !there {
        // Whatever the umask took away.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// All groups of the process at the other end, as they were when it connected, but its first one.
#[expect(unsafe_code, reason = "SO_PEERGROUPS has no safe wrapper in our dependencies")]
fn groups(stream: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut size = 32;
    loop {
        let mut groups = vec![0_u32; size];
        let mut bytes = libc::socklen_t::try_from(size * size_of::<u32>())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the buffer is alive and has room for `bytes` bytes of numbers, for which any bits
        // are valid; the call keeps no pointer.
        let code = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if code == 0 {
            groups.truncate(usize::try_from(bytes).unwrap_or(0) / size_of::<u32>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || size >= GROUPS_MAX {
            return Err(error);
        }
        size = GROUPS_MAX;
    }
}
