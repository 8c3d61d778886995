//! Secrets that the service manager keeps for dagd (`LoadCredential=`): where a task finds those that
//! it names.
//!
//! Never reads them: they are files, and a task gets the name of their folder.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::core::task::Exit;

/// The variable that holds the folder, for dagd as for its tasks.
pub const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The folder that holds all of `names`, from dagd's `own` environment; `None` if there are none.
/// The error is how the attempt ends instead.
pub fn folder<'a>(
    names: &[String],
    own: &'a [(OsString, OsString)],
) -> Result<Option<&'a OsStr>, Exit> {
    let folder = own.iter().find(|(key, _)| key == VARIABLE).map(|(_, value)| value.as_os_str());
    let lacks = |name: &&String| folder.is_none_or(|dir| !Path::new(dir).join(name).is_file());
    match names.iter().find(lacks) {
        Some(name) => Err(Exit::NotStarted(format!(
            "there is no credential `{name}`: write LoadCredential={name}:FILE in a drop-in of dagd's \
             unit (systemctl edit), and restart dagd"
        ))),
        None => Ok(folder.filter(|_| !names.is_empty())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, VARIABLE, folder};

    #[test]
    fn all_that_are_named_have_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("db"), "secret").unwrap();
        let own = [(VARIABLE.into(), dir.path().into())];
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(folder(&names(&["db"]), &own).unwrap(), Some(dir.path().as_os_str()));
        assert_eq!(folder(&[], &own).unwrap(), None);
        for (wanted, own) in [(names(&["db", "api"]), &own[..]), (names(&["db"]), &[])] {
            let Err(Exit::NotStarted(why)) = folder(&wanted, own) else { panic!("{wanted:?}") };
            let missing = wanted.last().unwrap();
            assert!(why.contains(&format!("LoadCredential={missing}:FILE")), "{why}");
        }
    }
}
