//! The configuration on disk: found, checked for who may write it, read.
//!
//! Owns the look at the files. What they mean is decided by [`crate::config`].

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::process::users;
use crate::config::{self, Diagnostics, Problem, Resolved, SourceText, Surroundings, syntax};

/// Files in `conf.d`, at most: a folder with more is not one of configurations.
const CONF_FILES_MAX: usize = 10_000;

/// A configuration and the files that it was read from.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub resolved: Resolved,
    /// The main file, then those of `conf.d` in their order.
    pub files: Vec<PathBuf>,
}

/// Reads and checks the configuration whose main file is `main`, with the `conf.d` beside it. An
/// `Err` holds everything that is wrong, files that cannot be read or that others may write
/// included.
pub fn load(main: &Path) -> Result<Loaded, Diagnostics> {
    load_printed(main).1
}

/// What was found of a configuration: as long as it stays the same, so does what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print(blake3::Hash);

/// [`load`], and what tells whether there would be any use in doing it again.
pub fn load_printed(main: &Path) -> (Print, Result<Loaded, Diagnostics>) {
    let look = look(main);
    let print = look.print();
    (print, resolve(look))
}

/// The same, but `None` if the files change meanwhile, or `is_being_written` finds them so: half of a
/// file is not read.
pub fn load_settled(
    main: &Path,
    is_being_written: impl FnOnce() -> bool,
) -> Option<(Print, Result<Loaded, Diagnostics>)> {
    let before = look(main);
    if is_being_written() {
        return None;
    }
    let look = look(main);
    let print = look.print();
    let same = before.print() == print && before.stamps == look.stamps;
    same.then(|| (print, resolve(look)))
}

fn look(main: &Path) -> Look {
    let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
    let folder = main.parent().unwrap_or(Path::new("/")).to_owned();
    let mut look = Look { uid: rustix::process::geteuid().as_raw(), ..Look::default() };
    look.folder_of(&main, &folder);
    look.file(&main);
    for path in look.conf_d(&conf_d(&main)) {
        look.file(&path);
    }
    look
}

/// The files in which the configuration is, or would be: the main file, then those of `conf.d`. The
/// look at them is [`load`].
pub fn files(main: &Path) -> Vec<PathBuf> {
    let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
    let folder = conf_d(&main);
    let mut files = vec![main];
    files.extend(Look::default().conf_d(&folder));
    files
}

/// The folder with the other files of a configuration, whether or not there is one.
pub fn conf_d(main: &Path) -> PathBuf {
    main.parent().unwrap_or(Path::new("/")).join("conf.d")
}

fn resolve(look: Look) -> Result<Loaded, Diagnostics> {
    let resolved = config::resolve_with(&look.sources, &surroundings(), look.problems)?;
    Ok(Loaded { resolved, files: look.sources.into_iter().map(|source| source.path).collect() })
}

/// The facts that defaults depend on, as they are now.
pub fn surroundings() -> Surroundings {
    let uid = rustix::process::geteuid().as_raw();
    Surroundings {
        is_root: uid == 0,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        state_directory: made("STATE_DIRECTORY"),
        runtime_directory: made("RUNTIME_DIRECTORY"),
        xdg_state_home: folder_from("XDG_STATE_HOME"),
        xdg_runtime_dir: folder_from("XDG_RUNTIME_DIR"),
        home: folder_from("HOME"),
        uid,
        group: |name| users::group(name).ok(),
    }
}

/// The main file: `explicit`, else `$DAGD_CONFIG`, else the first that exists of
/// `/etc/dagd/dagd.toml` (as root), `$XDG_CONFIG_HOME/dagd/dagd.toml` and `./dagd.toml` (never as
/// root). The error tells where it was looked for.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, Diagnostics> {
    let named = std::env::var_os("DAGD_CONFIG").filter(|path| !path.is_empty());
    if let Some(path) = explicit.map(Path::to_owned).or(named.map(PathBuf::from)) {
        return Ok(path);
    }
    let places = places(&surroundings(), folder_from("XDG_CONFIG_HOME"));
    if let Some(found) = places.iter().find(|place| place.exists()) {
        return Ok(found.clone());
    }
    let tried: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    let problem = Problem::nowhere("there is no configuration")
        .help(format!("looked for {}", tried.join(", then ")))
        .help("name one with --config FILE or $DAGD_CONFIG, or write a first one with `dagd init`");
    Err(Diagnostics::new(&[], vec![problem]))
}

fn places(around: &Surroundings, xdg_config_home: Option<PathBuf>) -> Vec<PathBuf> {
    if around.is_root {
        return vec![PathBuf::from("/etc/dagd/dagd.toml")];
    }
    let home = around.home.as_ref().map(|home| home.join(".config"));
    let user = xdg_config_home.or(home).map(|folder| folder.join("dagd/dagd.toml"));
    let here = std::path::absolute("dagd.toml").unwrap_or_else(|_| PathBuf::from("dagd.toml"));
    user.into_iter().chain([here]).collect()
}

/// The first of the folders that the service manager has made and tells of.
fn made(variable: &str) -> Option<PathBuf> {
    let all = std::env::var_os(variable)?;
    let first = all.as_bytes().split(|&byte| byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
}

/// The folder that a variable names; one that is not absolute is ignored, as the XDG
/// specification demands.
fn folder_from(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// What a look at the disk has found.
#[derive(Default)]
struct Look {
    uid: u32,
    sources: Vec<SourceText>,
    /// Of each file its size, and when it was changed.
    stamps: Vec<(u64, i64, i64)>,
    problems: Vec<Problem>,
}

impl Look {
    fn print(&self) -> Print {
        let mut hash = blake3::Hasher::new();
        for SourceText { path, text } in &self.sources {
            for part in [path.as_os_str().as_bytes(), text.as_bytes()] {
                hash.update(&part.len().to_le_bytes()).update(part);
            }
        }
        hash.update(format!("{:?}", self.problems).as_bytes());
        Print(hash.finalize())
    }

    /// Whoever may replace the file decides what it holds.
    fn folder_of(&mut self, main: &Path, folder: &Path) {
        let Ok(meta) = std::fs::metadata(folder) else { return };
        let (others, sticky) = (meta.mode() & 0o002 != 0, meta.mode() & 0o1000 != 0);
        if others && !sticky {
            let what = "everybody may replace this file: its folder is writable for all";
            let help = format!("chmod o-w {}", folder.display());
            self.problems.push(Problem::file(main, what).help(help));
        }
    }

    /// The files of `conf.d`, in the order of the bytes of their names.
    fn conf_d(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.problems.push(Problem::file(folder, format!("cannot list it: {error}")));
                return Vec::new();
            }
        };
        if let Ok(meta) = std::fs::metadata(folder) {
            self.check_owner(folder, &meta);
        }
        let mut paths = Vec::new();
        for entry in entries {
            let name = match entry {
                Ok(entry) => entry.file_name(),
                Err(error) => {
                    self.problems.push(Problem::file(folder, format!("cannot list it: {error}")));
                    break;
                }
            };
            if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
                paths.push(folder.join(name));
            }
            if paths.len() > CONF_FILES_MAX {
                let what = format!("there are more than {CONF_FILES_MAX} files in it");
                self.problems.push(Problem::file(folder, what));
                return Vec::new();
            }
        }
        paths.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        paths
    }

    /// Reads one file. What was checked is what is read: both by one open descriptor.
    fn file(&mut self, path: &Path) {
        let opened = OpenOptions::new()
            .read(true)
            // A fifo must not make dagd wait for a writer.
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.problems.push(Problem::file(path, format!("cannot open it: {error}")));
                return;
            }
        };
        if !meta.is_file() {
            let what = if meta.is_dir() {
                "this is a folder, not a configuration file"
            } else {
                "this is no regular file"
            };
            self.problems.push(Problem::file(path, what));
            return;
        }
        self.stamps.push((meta.size(), meta.ctime(), meta.ctime_nsec()));
        self.check_owner(path, &meta);
        match read(&file) {
            Ok(bytes) => self.text(path, bytes),
            Err(error) => {
                self.problems.push(Problem::file(path, format!("cannot read it: {error}")));
            }
        }
    }

    fn text(&mut self, path: &Path, bytes: Vec<u8>) {
        if bytes.len() > syntax::FILE_MAX {
            self.problems.push(syntax::too_large(path));
            return;
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.split(|&byte| byte == b'\n').count();
            let odd = error.as_bytes().get(valid.len()).copied().unwrap_or_default();
            let what = format!("byte 0x{odd:02x} in line {line} is not UTF-8");
            let help = "save the file as UTF-8; a path with other bytes cannot be written in it";
            self.problems.push(Problem::file(path, what).help(help));
            // Nothing of it is trusted, not even what comes before.
            String::new()
        });
        self.sources.push(SourceText { path: path.to_owned(), text });
    }

    /// A configuration decides what dagd runs, so nobody but root and dagd's own user may write it.
    fn check_owner(&mut self, path: &Path, meta: &Metadata) {
        let shown = path.display();
        if meta.uid() != 0 && meta.uid() != self.uid {
            let what = format!("it belongs to user {}, who is neither root nor dagd's", meta.uid());
            let help = format!("chown {} {shown}", self.uid);
            self.problems.push(Problem::file(path, what).help(help));
        }
        if meta.mode() & 0o022 != 0 {
            let what = format!("others may write it (mode {:04o})", meta.mode() & 0o7777);
            let help = format!("chmod go-w {shown}");
            self.problems.push(Problem::file(path, what).help(help));
        }
    }
}

/// The whole file, or a little more than is allowed of it.
fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(syntax::FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::{load, places};
    use crate::config::Surroundings;

    /// Writes `files` into a fresh folder, for the owner only.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        mode(&folder.path().join("conf.d"), 0o700);
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            mode(&folder.path().join(name), 0o600);
        }
        folder
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(folder: &Path) -> String {
        load(&folder.join("dagd.toml")).unwrap_err().to_string()
    }

    #[test]
    fn parts_come_in_the_order_of_their_names() {
        let folder = folder(&[
            ("dagd.toml", b"[pools]\na = 1\n"),
            ("conf.d/b.toml", b"[pools]\nc = 1\n"),
            ("conf.d/a.toml", b"[pools]\nb = 1\n"),
            ("conf.d/a.toml.bak", b"nonsense"),
            ("conf.d/.a.toml", b"nonsense"),
        ]);
        let loaded = load(&folder.path().join("dagd.toml")).unwrap();
        let names: Vec<_> = loaded.files.iter().map(|file| file.file_name().unwrap()).collect();
        assert_eq!(names, ["dagd.toml", "a.toml", "b.toml"]);
        assert_eq!(loaded.resolved.model.pools.len(), 3);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let folder = folder(&[
            ("dagd.toml", b"[daemon]\nmax_parallel = 0\n"),
            ("conf.d/odd.toml", b"[pools]\n# caf\xe9\n"),
            ("conf.d/open.toml", b""),
        ]);
        std::fs::create_dir(folder.path().join("conf.d/x.toml")).unwrap();
        mode(&folder.path().join("conf.d/open.toml"), 0o620);
        let wrong = refused(folder.path());
        for part in [
            "`max_parallel` cannot be 0",
            "byte 0xe9 in line 2 is not UTF-8",
            "others may write it (mode 0620)",
            "this is a folder, not a configuration file",
        ] {
            assert!(wrong.contains(part), "{part} in\n{wrong}");
        }
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let folder = folder(&[("dagd.toml", b"")]);
        assert!(load(&folder.path().join("dagd.toml")).is_ok());
        mode(&folder.path().join("conf.d"), 0o770);
        assert!(refused(folder.path()).contains("chmod go-w"));
        mode(&folder.path().join("conf.d"), 0o700);
        mode(folder.path(), 0o777);
        assert!(refused(folder.path()).contains("everybody may replace this file"));
        mode(folder.path(), 0o1777);
        assert!(load(&folder.path().join("dagd.toml")).is_ok(), "sticky, as /tmp is");
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path().join("dagd.toml"), Some(12_345), None).unwrap();
            assert!(refused(folder.path()).contains("it belongs to user 12345"));
        }
    }

    #[test]
    fn odd_files_are_refused_without_waiting() {
        let folder = folder(&[]);
        assert!(refused(folder.path()).contains("cannot open it: No such file"));
        let fifo = folder.path().join("dagd.toml");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(refused(folder.path()).contains("this is no regular file"));
    }

    #[test]
    fn root_never_reads_the_current_folder() {
        let mut around = Surroundings {
            is_root: true,
            cpus: 1,
            state_directory: None,
            runtime_directory: None,
            xdg_state_home: None,
            xdg_runtime_dir: None,
            home: Some("/home/u".into()),
            uid: 0,
            group: |_| None,
        };
        assert_eq!(places(&around, None), [PathBuf::from("/etc/dagd/dagd.toml")]);
        around.is_root = false;
        let user = places(&around, None);
        assert_eq!(user[0], PathBuf::from("/home/u/.config/dagd/dagd.toml"));
        assert!(user[1].ends_with("dagd.toml") && user[1].is_absolute());
        let moved = places(&around, Some("/cfg".into()));
        assert_eq!(moved[0], PathBuf::from("/cfg/dagd/dagd.toml"));
    }
}
