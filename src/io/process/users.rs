//! Users and groups as the system's databases know them.
//!
//! A look-up may ask a server on the network and take its time: none is made by the engine.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;

/// Room for one entry of a database, at most, in bytes. One that does not fit is treated as missing.
const ENTRY_MAX: usize = 1 << 20;

/// Groups of one user, at most: the kernel's own limit.
const GROUPS_MAX: usize = 65_536;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// Its name.
    pub name: OsString,
    /// Its home folder.
    pub home: OsString,
    /// Its shell.
    pub shell: OsString,
}

impl Account {
    /// The user with this number; `None` if there is no entry for it.
    pub fn of(uid: u32) -> Option<Self> {
        passwd(|entry, room, size, found| {
            #[expect(unsafe_code, reason = "getpwuid_r has no safe wrapper in our dependencies")]
            // SAFETY: all pointers are to live locals of the stated sizes; the call keeps none.
            unsafe {
                libc::getpwuid_r(uid, entry, room, size, found)
            }
        })
    }

    /// The user with this name, or this number. The error says that there is none.
    pub fn named(name: &str) -> Result<Self, String> {
        let none = || format!("there is no user `{name}`; create it, or change `user`");
        let wanted = CString::new(name).map_err(|_| none())?;
        let found = passwd(|entry, room, size, found| {
            #[expect(unsafe_code, reason = "getpwnam_r has no safe wrapper in our dependencies")]
            // SAFETY: all pointers are to live locals of the stated sizes; the call keeps none.
            unsafe {
                libc::getpwnam_r(wanted.as_ptr(), entry, room, size, found)
            }
        });
        found.or_else(|| Self::of(name.parse().ok()?)).ok_or_else(none)
    }

    /// The numbers of all groups that it is in, `gid` among them.
    #[expect(unsafe_code, reason = "getgrouplist has no safe wrapper in our dependencies")]
    pub fn groups(&self, gid: u32) -> Result<Vec<u32>, String> {
        let fault = || format!("cannot find the groups of user `{}`", self.name.display());
        let name = CString::new(self.name.as_bytes()).map_err(|_| fault())?;
        let mut size = 64;
        while size <= GROUPS_MAX {
            let mut list = vec![0; size];
            let mut count = libc::c_int::try_from(size).map_err(|_| fault())?;
            // SAFETY: the list has room for `count` numbers; the call keeps no pointer.
            let code = unsafe {
                libc::getgrouplist(name.as_ptr(), gid, list.as_mut_ptr(), &raw mut count)
            };
            if code >= 0 {
                list.truncate(usize::try_from(count).unwrap_or(0));
                return Ok(list);
            }
            size *= 4;
        }
        Err(fault())
    }
}

/// The number of the group with this name, or this number. The error says that there is none.
pub fn group(name: &str) -> Result<u32, String> {
    let none = || format!("there is no group `{name}`; create it, or change `group`");
    let wanted = CString::new(name).map_err(|_| none())?;
    let found = entry(
        |entry: *mut libc::group, room, size, found| {
            #[expect(unsafe_code, reason = "getgrnam_r has no safe wrapper in our dependencies")]
            // SAFETY: all pointers are to live locals of the stated sizes; the call keeps none.
            unsafe {
                libc::getgrnam_r(wanted.as_ptr(), entry, room, size, found)
            }
        },
        |entry| entry.gr_gid,
    );
    // A number needs no entry; the last one means no group at all to the kernel.
    let number = || name.parse().ok().filter(|gid| *gid != u32::MAX);
    found.or_else(number).ok_or_else(none)
}

fn passwd(
    look_up: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> i32,
) -> Option<Account> {
    entry(look_up, |entry| {
        let name = text(entry.pw_name, &entry.pw_uid.to_string());
        Account {
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            name,
            home: text(entry.pw_dir, "/"),
            shell: text(entry.pw_shell, "/bin/sh"),
        }
    })
}

/// Looks an entry up, with more and more room for its texts, and takes what is needed of it while
/// the texts are there.
fn entry<E, T>(
    look_up: impl Fn(*mut E, *mut libc::c_char, usize, *mut *mut E) -> i32,
    take: impl Fn(&E) -> T,
) -> Option<T> {
    let mut size = 1024;
    loop {
        let mut room = vec![0; size];
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found = std::ptr::null_mut();
        let code = look_up(entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found);
        match code {
            libc::ERANGE if size < ENTRY_MAX => size *= 4,
            libc::EINTR => {}
            0 if !found.is_null() => {
                #[expect(unsafe_code, reason = "the look-ups have no safe wrapper")]
                // SAFETY: a result that is not null points to `entry`, which the look-up filled in.
                return Some(take(unsafe { entry.assume_init_ref() }));
            }
            _ => return None,
        }
    }
}

fn text(pointer: *const libc::c_char, default: &str) -> OsString {
    if pointer.is_null() {
        return default.into();
    }
    #[expect(unsafe_code, reason = "the look-ups have no safe wrapper")]
    // SAFETY: the entry's texts end in NUL and lie in the room of the look-up, which is alive.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    if bytes.is_empty() { default.into() } else { OsStr::from_bytes(bytes).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Account, group};

    #[test]
    fn by_name_and_by_number() {
        let root = Account::named("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::named("0").as_ref(), Ok(&root));
        assert_eq!(Account::of(0), Some(root.clone()));
        assert!(root.groups(7).unwrap().contains(&7));
        assert_eq!((group("root"), group("4242424")), (Ok(0), Ok(4_242_424)));
        let none = Account::named("no such user").unwrap_err();
        assert!(none.contains("there is no user `no such user`"), "{none}");
        assert!(group("no such group").is_err() && group("4294967295").is_err());
        assert!(Account::of(4_242_424).is_none());
    }
}
