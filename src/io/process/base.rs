//! The clean environment that every task starts from.
//!
//! It is the same whether dagd was started by systemd, from a shell or as a daemon: who the user is
//! comes from the password database, not from whoever started dagd. It never changes afterwards.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use super::users::Account;
use crate::io::handover::LISTEN;

/// Where programs are looked for if dagd itself was started without a `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all attempts of this dagd have in common.
#[derive(Clone, Debug)]
pub struct Base {
    /// The name of this dagd; the first part of every attempt's token.
    pub instance: String,
    /// `PATH HOME USER LOGNAME SHELL LANG` and, where dagd has them, `TZ TMPDIR`.
    pub env: Vec<(OsString, OsString)>,
    /// dagd's environment when it was started, without what tells of sockets: from it `env_pass`
    /// takes.
    pub own: Vec<(OsString, OsString)>,
}

impl Base {
    /// Reads the password database and this process's environment, once.
    pub fn from_process(instance: String) -> Self {
        let listens = |key: &OsString| key.as_bytes().starts_with(LISTEN.as_bytes());
        let own: Vec<_> = std::env::vars_os().filter(|(key, _)| !listens(key)).collect();
        let user = own_user();
        let env = clean(&own, &user);
        Self { instance, env, own }
    }
}

fn clean(own: &[(OsString, OsString)], user: &Account) -> Vec<(OsString, OsString)> {
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

/// The user that dagd runs as. One without an entry gets its number, `/` and `/bin/sh`.
fn own_user() -> Account {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let unknown = || {
        let name = uid.to_string().into();
        Account { uid, gid, name, home: "/".into(), shell: "/bin/sh".into() }
    };
    Account::of(uid).unwrap_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Account, Base, PATH_DEFAULT, clean};

    fn user() -> Account {
        let (name, home, shell) = ("ann".into(), "/home/ann".into(), "/bin/zsh".into());
        Account { uid: 7, gid: 7, name, home, shell }
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
