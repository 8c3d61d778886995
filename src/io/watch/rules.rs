//! Which rule about what is on disk keeps a path from belonging to a trigger, for whoever explains or
//! asks by hand. The rules about names are in [`crate::core::scope`].
//!
//! Looks at links, mounts and ignore files on the way to the path. A file system that may not answer
//! is not touched: then only the names decide.

use std::os::fd::AsFd as _;

use crate::core::path::Bytes;
use crate::core::trigger::{FileType, FolderSpec, FollowSymlinks};
use crate::io::disk::{self, DirId};

use super::mounts::Mounts;
use super::reach::{Out, Reach, Scene};
use super::roots::Root;
use super::seek::{foreign, may_hang};
use super::way::{self, End};

/// The rule by which the path `rel`, relative to the folder's root, does not count, or `None` if it
/// does, as far as what is on the way to it tells.
pub fn against(folder: &FolderSpec, rel: &Bytes) -> Option<Out> {
    let mounts = Mounts::read().unwrap_or_default();
    let shuns = |path: &Bytes| may_hang(&mounts, path);
    let mut scene = Scene::default();
    let End::Here(base) = way::walk(&folder.root, shuns).end else {
        return None;
    };
    scene.foreign = foreign(&mounts, &base).collect();
    let mut dir = Bytes::default();
    read_ignores(folder, &base, &mut scene, &dir);
    let dirs = rel.dir().split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    for name in dirs {
        dir = dir.join(name);
        let reach = Reach { folder, base: Some(&base), scene: &scene };
        if let Some(out) = reach.against(&dir, true) {
            return Some(out);
        }
        let Some(path) = reach.path(&dir) else { break };
        if shuns(&path) {
            break;
        }
        if is_link(&path) {
            if folder.follow_symlinks != FollowSymlinks::All {
                return Some(Out::Link(dir));
            }
            let End::Here(leads) = way::walk(path.as_path(), shuns).end else { break };
            let own = reach.rel(&leads).filter(|own| reach.enters(own));
            if let Some(own) = own {
                return Some(Out::Twice { link: dir, own });
            }
            scene.foreign.extend(foreign(&mounts, &leads));
            let id = DirId { mount: 0, file: Bytes::default() };
            scene.grafts.insert(dir.clone(), Root { base: leads, id });
        }
        read_ignores(folder, &base, &mut scene, &dir);
    }
    let reach = Reach { folder, base: Some(&base), scene: &scene };
    reach.against(rel, folder.file_type == FileType::Dir).or_else(|| {
        let path = reach.path(rel).filter(|path| !shuns(path))?;
        let unfollowed = folder.follow_symlinks == FollowSymlinks::Never && is_link(&path);
        unfollowed.then(|| Out::Link(rel.clone()))
    })
}

fn is_link(path: &Bytes) -> bool {
    path.as_path().symlink_metadata().is_ok_and(|meta| meta.file_type().is_symlink())
}

fn read_ignores(folder: &FolderSpec, base: &Bytes, scene: &mut Scene, dir: &Bytes) {
    if !folder.gitignore {
        return;
    }
    let open = disk::open_root(base.as_path())
        .and_then(|root| disk::open_dir(root.as_fd(), dir, folder.follow_symlinks));
    // What cannot be read holds no rule that dagd knows.
    if let Ok((open, _)) = open
        && let Ok(fd) = open.fd()
    {
        scene.ignores.read(fd, dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::against;
    use crate::core::filter::Filter;
    use crate::core::trigger::{Folder, FolderSpec, FollowSymlinks};

    #[test]
    fn each_rule_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |rel: &str| dir.path().join(rel);
        for rel in ["in/a/b/c", "in/.git", "in/out", "elsewhere/x"] {
            fs::create_dir_all(at(rel)).unwrap();
        }
        fs::write(at("in/.gitignore"), "*.o\n").unwrap();
        fs::write(at("in/a/.ignore"), "/b\n").unwrap();
        fs::write(at("elsewhere/x/f"), "").unwrap();
        symlink("../elsewhere", at("in/away")).unwrap();
        symlink("a", at("in/alias")).unwrap();
        symlink("../elsewhere/x/f", at("in/link")).unwrap();
        let filter = Filter::new(vec!["**/*".into()], vec!["out/**".into()], true, true).unwrap();
        let mut folder = FolderSpec::new(Folder::Watch, at("in"), filter);
        let told =
            |folder: &FolderSpec, rel: &str| against(folder, &rel.into()).map(|o| o.to_string());
        assert_eq!(told(&folder, "a/x"), None);
        assert_eq!(told(&folder, "gone/x"), None);
        assert_eq!(told(&folder, "away/x/f").unwrap(), "follow_symlinks: `away` is a link");
        assert_eq!(told(&folder, "link").unwrap(), "follow_symlinks: `link` is a link");
        folder.gitignore = true;
        assert_eq!(told(&folder, "a/x.o").unwrap(), "gitignore: `*.o`");
        assert_eq!(told(&folder, "a/b/x").unwrap(), "gitignore: `/b` in `a`");
        assert_eq!(told(&folder, ".git/x").unwrap(), "gitignore: `.git`");
        folder.follow_symlinks = FollowSymlinks::All;
        assert_eq!(told(&folder, "link"), None);
        assert_eq!(told(&folder, "away/x/f"), None);
        assert_eq!(told(&folder, "away/x/f.o").unwrap(), "gitignore: `*.o`");
        let twice = told(&folder, "alias/x").unwrap();
        assert_eq!(twice, "follow_symlinks: `alias` leads to `a`, which counts by that name");
    }
}
