//! The clean environment that every task starts from.
//!
//! It is the same whether dagd was started by systemd, from a shell or as a daemon: who the user is
//! comes from the password database, not from whoever started dagd. It never changes afterwards.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Where programs are looked for if dagd itself was started without a `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Room for one entry of the password database, at most, in bytes. Entries are a line each; one
/// that does not fit is treated as missing.
const PASSWD_MAX: usize = 1 << 20;

/// What all attempts of this dagd have in common.
#[derive(Clone, Debug)]
pub struct Base {
    /// The name of this dagd; the first part of every attempt's token.
    pub instance: String,
    /// `PATH HOME USER LOGNAME SHELL LANG` and, where dagd has them, `TZ TMPDIR`.
    pub env: Vec<(OsString, OsString)>,
    /// dagd's environment when it was started, from which `env_pass` takes.
    pub own: Vec<(OsString, OsString)>,
}

impl Base {
    /// Reads the password database and this process's environment, once.
    pub fn from_process(instance: String) -> Self {
        let own: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let user = User::of_process();
        let env = clean(&own, &user);
        Self { instance, env, own }
    }
}

fn clean(own: &[(OsString, OsString)], user: &User) -> Vec<(OsString, OsString)> {
    let mine = |name: &str| {
        let found = own.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let mut env = vec![
        ("PATH".into(), mine("PATH").unwrap_or_else(|| PATH_DEFAULT.into())),
        ("HOME".into(), user.home.clone()),
        ("USER".into(), user.name.clone()),
        ("LOGNAME".into(), user.name.clone()),
        ("SHELL".into(), user.shell.clone()),
        ("LANG".into(), mine("LANG").unwrap_or_else(|| "C.UTF-8".into())),
    ];
    for name in ["TZ", "TMPDIR"] {
        env.extend(mine(name).map(|value| (name.into(), value)));
    }
    env
}

/// The user that dagd runs as.
struct User {
    name: OsString,
    home: OsString,
    shell: OsString,
}

impl User {
    /// From the password database. A user without an entry gets its number, `/` and `/bin/sh`.
    fn of_process() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let mut size = 1024;
        loop {
            match Self::look_up(uid, size) {
                Ok(Some(user)) => return user,
                Err(libc::ERANGE) if size < PASSWD_MAX => size *= 4,
                Ok(None) | Err(_) => break,
            }
        }
        Self { name: uid.to_string().into(), home: "/".into(), shell: "/bin/sh".into() }
    }

    /// One try with `size` bytes of room; an `Err` is an errno.
    #[expect(unsafe_code, reason = "getpwuid_r has no safe wrapper in our dependencies")]
    fn look_up(uid: u32, size: usize) -> Result<Option<Self>, i32> {
        let mut room = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to live locals of the stated sizes; the call keeps none of them.
        let code = unsafe {
            libc::getpwuid_r(uid, entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found)
        };
        if code != 0 {
            return Err(code);
        }
        if found.is_null() {
            return Ok(None);
        }
        // SAFETY: a result that is not null points to `entry`, now filled in.
        let entry = unsafe { entry.assume_init() };
        let text = |pointer: *const libc::c_char, default: &str| {
            if pointer.is_null() {
                return OsString::from(default);
            }
            // SAFETY: the entry's strings end in NUL and lie in `room`, which is still alive.
            let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
            if bytes.is_empty() { default.into() } else { OsStr::from_bytes(bytes).to_owned() }
        };
        Ok(Some(Self {
            name: text(entry.pw_name, &uid.to_string()),
            home: text(entry.pw_dir, "/"),
            shell: text(entry.pw_shell, "/bin/sh"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Base, PATH_DEFAULT, User, clean};

    fn user() -> User {
        User { name: "ann".into(), home: "/home/ann".into(), shell: "/bin/zsh".into() }
    }

    fn text(env: &[(OsString, OsString)]) -> String {
        let lines = env.iter().map(|(key, value)| format!("{}={}", key.display(), value.display()));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_named_variables_come_through() {
        let own = [("PATH", "/opt/bin"), ("HOME", "/elsewhere"), ("TZ", "UTC"), ("SECRET", "x")]
            .map(|(key, value)| (key.into(), value.into()));
        assert_eq!(
            text(&clean(&own, &user())),
            "PATH=/opt/bin HOME=/home/ann USER=ann LOGNAME=ann SHELL=/bin/zsh LANG=C.UTF-8 TZ=UTC"
        );
        assert!(text(&clean(&[], &user())).starts_with(&format!("PATH={PATH_DEFAULT} ")));
    }

    #[test]
    fn the_password_database_knows_this_user() {
        let base = Base::from_process("test".into());
        let home = base.env.iter().find(|(key, _)| key == "HOME").map(|(_, value)| value.clone());
        assert!(home.is_some_and(|home| home.to_string_lossy().starts_with('/')));
    }
}
