//! Where things are: the configuration, the daemon's socket, the state folder.
//!
//! `status` and `stop` must find their daemon although the configuration is broken, so that what
//! is read of it here is read leniently: two keys, and defaults where even they cannot be read.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use crate::io::client::Client;
use crate::io::config_files;
use crate::io::control::is_served;

/// Name of the socket in the runtime folder.
pub const SOCKET: &str = "dagd.sock";

/// Name of the configuration file.
pub const CONFIG: &str = "dagd.toml";

/// A variable by its name.
pub type Environment = Box<dyn Fn(&str) -> Option<OsString>>;

/// What decides where to look.
pub struct Finder {
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The environment.
    pub var: Environment,
    /// Whether it is root who asks.
    pub root: bool,
}

impl Finder {
    /// With the process's own environment.
    pub fn new(socket: Option<PathBuf>, config: Option<PathBuf>) -> Self {
        let var = Box::new(|name: &str| std::env::var_os(name));
        // A daemon goes elsewhere before it listens.
        let socket = socket.map(|socket| std::path::absolute(&socket).unwrap_or(socket));
        Self { socket, config, var, root: rustix::process::geteuid().is_root() }
    }

    fn var_path(&self, name: &str) -> Option<PathBuf> {
        (self.var)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The configuration that was named, absolute.
    fn named_config(&self) -> Option<PathBuf> {
        let named = self.config.clone().or_else(|| self.var_path("DAGD_CONFIG"))?;
        Some(std::path::absolute(&named).unwrap_or(named))
    }

    /// The daemon's configuration, absolute: as named, else the first of the usual places where
    /// there is one.
    pub fn config(&self) -> Result<PathBuf, Failure> {
        if let Some(named) = self.named_config() {
            return Ok(named);
        }
        let usual = if self.root {
            vec![Path::new("/etc/dagd").join(CONFIG)]
        } else {
            let home = || self.var_path("HOME").map(|home| home.join(".config"));
            let own = self.var_path("XDG_CONFIG_HOME").or_else(home);
            own.map(|own| own.join("dagd").join(CONFIG))
                .into_iter()
                .chain([CONFIG.into()])
                .collect()
        };
        if let Some(found) = usual.iter().find(|path| path.exists()) {
            return Ok(std::path::absolute(found).unwrap_or_else(|_| found.clone()));
        }
        let tried: Vec<String> = usual.iter().map(|path| path.display().to_string()).collect();
        let remedy = if self.root && Path::new(CONFIG).exists() {
            "name one with --config; root takes ./dagd.toml only as `--config dagd.toml`"
        } else {
            "name one with --config, or make one with `dagd init`"
        };
        let tried = tried.join(" or ");
        Err(Failure::configuration(format!("there is no configuration at {tried}; {remedy}")))
    }

    /// Where the daemon's socket may be, best first.
    pub fn sockets(&self) -> Vec<PathBuf> {
        if let Some(socket) = self.socket.clone().or_else(|| self.var_path("DAGD_SOCKET")) {
            return vec![socket];
        }
        if let Some(config) = self.named_config() {
            return vec![self.runtime_dir(&config).join(SOCKET)];
        }
        let own = self.var_path("XDG_RUNTIME_DIR").map(|own| own.join("dagd").join(SOCKET));
        let usual = [Some(Path::new("/run/dagd").join(SOCKET)), own];
        // Last, what the configuration says that a daemon started here would take.
        let here = self.config().ok().map(|config| self.runtime_dir(&config).join(SOCKET));
        let mut sockets = Vec::new();
        for socket in usual.into_iter().flatten().chain(here) {
            if !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        sockets
    }

    /// A client for the first daemon that answers.
    pub fn client(&self) -> Result<Client, Failure> {
        self.answering().map_err(|failure| {
            let remedy =
                "`dagd run` or `dagd start` starts one, --socket or --config names another";
            match failure.exit {
                Exit::Unreachable => Failure { text: format!("{failure}; {remedy}"), ..failure },
                _ => failure,
            }
        })
    }

    /// The same, where a daemon is not needed: the failure names no remedy.
    pub fn answering(&self) -> Result<Client, Failure> {
        first_of(&self.sockets())
    }

    /// The same, and nobody is woken: a socket at which the service manager waits in the place of a
    /// daemon is left alone.
    pub fn awake(&self) -> Result<Client, Failure> {
        let mut sockets = self.sockets();
        // Where nobody can be seen to serve it, it is asked.
        sockets.retain(|socket| is_served(socket).unwrap_or(true));
        first_of(&sockets)
    }

    /// The folder of the socket, under the configuration at `config`.
    pub fn runtime_dir(&self, config: &Path) -> PathBuf {
        if let Ok(loaded) = config_files::load(config) {
            return loaded.resolved.settings.runtime_dir;
        }
        lenient(config, "runtime_dir").unwrap_or_else(|| {
            let own = || self.var_path("XDG_RUNTIME_DIR").map(|own| own.join("dagd"));
            if self.root { None } else { own() }.unwrap_or_else(|| "/run/dagd".into())
        })
    }

    /// The state folder, under the configuration in use, or where it is without one.
    pub fn state_dir(&self) -> PathBuf {
        let config = self.config().ok();
        if let Some(config) = &config {
            if let Ok(loaded) = config_files::load(config) {
                return loaded.resolved.settings.state_dir;
            }
            if let Some(dir) = lenient(config, "state_dir") {
                return dir;
            }
        }
        let home = || self.var_path("HOME").map(|home| home.join(".local/state"));
        let own = || self.var_path("XDG_STATE_HOME").or_else(home).map(|own| own.join("dagd"));
        if self.root { None } else { own() }.unwrap_or_else(|| "/var/lib/dagd".into())
    }
}

/// A client for the first of these at which a daemon answers.
fn first_of(sockets: &[PathBuf]) -> Result<Client, Failure> {
    let (mut tried, mut denied) = (Vec::new(), None);
    for socket in sockets {
        match UnixStream::connect(socket) {
            Ok(_) => return Client::new(socket).map_err(Failure::from),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                denied = Some(socket);
            }
            Err(error) => tried.push(format!("{} ({error})", socket.display())),
        }
    }
    if let Some(socket) = denied {
        return Err(Failure::failed(format!(
            "{}: permission denied; a daemon answers root, the user that it runs as and \
             members of its group, and [control] write_group names a group whose members may \
             act",
            socket.display()
        )));
    }
    let text = format!("no daemon answers at {}", tried.join(" or "));
    Err(Failure { exit: Exit::Unreachable, text })
}

/// A path under `[daemon]` of a configuration that need not be valid.
fn lenient(config: &Path, key: &str) -> Option<PathBuf> {
    let dir = config.parent()?;
    let parts = std::fs::read_dir(dir.join("conf.d")).into_iter().flatten().flatten();
    let toml = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "toml");
    let parts = parts.map(|entry| entry.path()).filter(toml);
    std::iter::once(config.to_owned()).chain(parts).find_map(|file| {
        let table: toml::Table = std::fs::read_to_string(&file).ok()?.parse().ok()?;
        let path = table.get("daemon")?.get(key)?.as_str()?;
        Some(file.parent()?.join(path))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Finder;

    fn finder(vars: &'static [(&str, &str)]) -> Finder {
        let var = move |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        Finder { socket: None, config: None, var: Box::new(var), root: false }
    }

    #[test]
    fn the_nearest_socket_wins() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("dagd.toml");
        std::fs::write(&config, "[daemon]\nruntime_dir = \"run\"\n[tasks.a]\nneeds = 5\n").unwrap();
        let mut all = finder(&[("DAGD_SOCKET", "/env.sock"), ("XDG_RUNTIME_DIR", "/xdg")]);
        all.socket = Some("/flag.sock".into());
        all.config = Some(config.clone());
        assert_eq!(all.sockets(), [PathBuf::from("/flag.sock")]);
        all.socket = None;
        assert_eq!(all.sockets(), [PathBuf::from("/env.sock")]);
        let mut named = finder(&[("XDG_RUNTIME_DIR", "/xdg")]);
        assert_eq!(
            named.sockets(),
            [PathBuf::from("/run/dagd/dagd.sock"), PathBuf::from("/xdg/dagd/dagd.sock")]
        );
        // Broken, and found all the same.
        named.config = Some(config.clone());
        assert_eq!(named.sockets(), [folder.path().join("run/dagd.sock")]);
        std::fs::write(&config, "[[[").unwrap();
        assert_eq!(named.sockets(), [PathBuf::from("/xdg/dagd/dagd.sock")]);
    }

    #[test]
    fn empty_variables_name_nothing() {
        let empty = finder(&[("DAGD_SOCKET", ""), ("DAGD_CONFIG", ""), ("XDG_RUNTIME_DIR", "")]);
        assert_eq!(empty.sockets(), [PathBuf::from("/run/dagd/dagd.sock")]);
    }

    #[test]
    fn no_daemon_is_told_with_every_place() {
        let none = finder(&[("DAGD_SOCKET", "/nowhere/dagd.sock")]);
        let failure = none.client().unwrap_err();
        assert_eq!(failure.exit, super::Exit::Unreachable);
        assert!(failure.text.contains("/nowhere/dagd.sock (No such file"), "{failure}");
    }
}
