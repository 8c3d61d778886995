//! Where a path lies in relation to the folders of triggers.
//!
//! Names, links and what the watch side knows of rules; never opens a dropped file.

use std::path::Path;

use crate::core::path::Bytes;
use crate::core::trigger::FolderSpec;
use crate::io::watch::rules;

/// The path relative to `root`, if it lies below it: by its name, or where links lead. The file
/// itself may be gone; its folder may be, too, if the name alone tells.
pub fn below(root: &Path, path: &Bytes) -> Option<Bytes> {
    lexically_below(root, path.as_path()).or_else(|| {
        let parent = path.as_path().parent()?.canonicalize().ok()?;
        let name = path.as_path().file_name()?;
        lexically_below(&root.canonicalize().ok()?, &parent.join(name))
    })
}

fn lexically_below(root: &Path, path: &Path) -> Option<Bytes> {
    let clean = |path: &Path| {
        path.components().all(|part| !matches!(part, std::path::Component::ParentDir))
    };
    let rel = path.strip_prefix(root).ok().filter(|rel| clean(rel))?;
    // `strip_prefix` compares components, so that `//` and `/./` do not matter.
    let rel: Vec<&[u8]> = rel.iter().map(std::os::unix::ffi::OsStrExt::as_bytes).collect();
    (!rel.is_empty()).then(|| Bytes::from(rel.join(&b'/')))
}

/// The rule by which a path does not count under a trigger, or `None` if it does.
pub fn rule_against(folder: &FolderSpec, rel: &Bytes) -> Option<String> {
    let by_name = folder.rejects_path(rel).map(|rule| rule.to_string());
    by_name.or_else(|| rules::against(folder, rel).map(|out| out.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::below;
    use crate::core::path::Bytes;

    #[test]
    fn names_decide_without_the_disk() {
        let root = Path::new("/nowhere/in");
        let rel = |path: &str| below(root, &Bytes::from(path));
        assert_eq!(rel("/nowhere/in/a/b"), Some("a/b".into()));
        assert_eq!(rel("/nowhere//in/./a"), Some("a".into()));
        assert_eq!(rel("/nowhere/in"), None);
        assert_eq!(rel("/nowhere/inner/a"), None);
        assert_eq!(rel("/nowhere/in/../out/a"), None);
    }

    #[test]
    fn links_lead_below() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("in");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&root, folder.path().join("link")).unwrap();
        let path = folder.path().join("link/gone.csv");
        assert_eq!(below(&root, &Bytes::from(path.as_path())), Some("gone.csv".into()));
        let path = folder.path().join("link/../in/x");
        assert_eq!(below(&root, &Bytes::from(path.as_path())), Some("x".into()));
    }
}
