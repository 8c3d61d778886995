//! The table: what each producer does in its folder, and what is delivered of it.
//!
//! A row is a producer with a folder of its own. Its first step puts something there, the next ones
//! do something to it. A script finds its folder as `$D`, another one outside as `$O`, the two
//! sources as `$S` and `$T`.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, linkat};

/// What a step does.
pub(crate) enum Act {
    /// It runs a script.
    Sh(&'static str),
    /// It calls a function with `$S` and `$D`.
    Do(fn(&Path, &Path)),
}

/// What a step does, and what is delivered of it: paths below `$D`, and the names of their
/// contents. `=` is the content that the file has after the step.
pub(crate) type Step = (Act, &'static [(&'static str, &'static str)]);

/// A producer.
pub(crate) struct Row {
    /// Its folder.
    pub(crate) name: &'static str,
    /// The program that it needs, if that is none that every system has.
    pub(crate) needs: Option<&'static str>,
    /// What it does, and what is delivered of it.
    pub(crate) steps: &'static [Step],
    /// What the next scan delivers, because it makes no event that is watched.
    pub(crate) scan: &'static [(&'static str, &'static str)],
    /// What is delivered of each step where the kernel does not tell who writes, if that is not the
    /// same.
    pub(crate) untold: &'static [&'static [(&'static str, &'static str)]],
    /// Whether it can be done through FUSE, and where its folder is another file system than what is
    /// outside.
    pub(crate) fuse: bool,
}

const fn row(name: &'static str, steps: &'static [Step]) -> Row {
    Row { name, needs: None, steps, scan: &[], untold: &[], fuse: true }
}

const fn by(program: &'static str, name: &'static str, steps: &'static [Step]) -> Row {
    Row { name, needs: Some(program), steps, scan: &[], untold: &[], fuse: true }
}

use Act::{Do, Sh};

/// A file in place, for rows that are about what comes then.
const FIRST: Step = (Sh("cp $S $D/f"), &[("f", "s")]);

/// Nothing is delivered.
const NOTHING: &[(&str, &str)] = &[];

/// Programs that write under the final name, or move or link a file there.
pub(crate) const ARRIVALS: &[Row] = &[
    row("redirect", &[(Sh("cat $S > $D/f"), &[("f", "s")]), (Sh("cat $T > $D/f"), &[("f", "t")])]),
    row("cp", &[FIRST, (Sh("cp $T $D/f"), &[("f", "t")])]),
    // Modified in 2001: nothing is told by the time.
    row("cp-p", &[(Sh("cp -p $S $D/f"), &[("f", "s")]), (Sh("cp -p $T $D/f"), &[("f", "t")])]),
    row("mv", &[(Sh("cp -p $S $O/f; mv $O/f $D/f"), &[("f", "s")])]),
    row("mv-over", &[FIRST, (Sh("cp -p $T $O/f; mv $O/f $D/f"), &[("f", "t")])]),
    by(
        "unshare",
        "mv-across",
        &[(
            Sh("
                mine=-m; test $(id -u) = 0 || mine=-Urm
                unshare $mine sh -ec 'mount -t tmpfs none $O; cp --preserve=timestamps $S $O/f; mv $O/f $D/f'
            "),
            &[("f", "s")],
        )],
    ),
    Row { fuse: false, ..row("ln", &[(Sh("cp $S $O/f; ln $O/f $D/f; rm $O/f"), &[("f", "s")])]) },
    row("ln-s", &[(Sh("ln -s $S $D/f"), NOTHING)]),
    row("mkfifo", &[(Sh("mkfifo $D/f"), NOTHING)]),
    row("mkdir", &[(Sh("mkdir -p $D/a/b; cp $S $D/a/b/f"), &[("a/b/f", "s")])]),
    row(
        "mv-tree",
        &[(
            Sh("mkdir -p $O/a/b; cp $S $O/a/b/f; cp $T $O/a/g; mv $O/a $D"),
            &[("a/b/f", "s"), ("a/g", "t")],
        )],
    ),
    row(
        "tar",
        &[(
            Sh(
                "mkdir -p $O/a/b; cp -p $S $O/a/b/f; cp -p $T $O/a/g; tar -C $O -c a | tar -C $D -x",
            ),
            &[("a/b/f", "s"), ("a/g", "t")],
        )],
    ),
    row(
        "install",
        &[(Sh("install -m 640 $S $D/f"), &[("f", "s")]), (Sh("install $T $D/f"), &[("f", "t")])],
    ),
    row("dd", &[FIRST, (Sh("dd if=$T of=$D/f bs=8k conv=notrunc,fsync"), &[("f", "t")])]),
    by(
        "rsync",
        "rsync",
        &[(Sh("rsync -a $S $D/f"), &[("f", "s")]), (Sh("rsync -a $T $D/f"), &[("f", "t")])],
    ),
    by(
        "rsync",
        "rsync-tree",
        &[(
            Sh("mkdir -p $O/a/b; cp $S $O/a/b/f; cp $T $O/a/g; rsync -a $O/ $D/"),
            &[("a/b/f", "s"), ("a/g", "t")],
        )],
    ),
    by(
        "vim",
        "vim",
        &[
            (Sh("vim -es -u NONE -c 'call setline(1, \"one\")' -c wq $D/f"), &[("f", "=")]),
            (Sh("vim -es -u NONE -c 'call setline(2, \"two\")' -c wq $D/f"), &[("f", "=")]),
            // By another inode: the old one is renamed to f~, which counts as unfinished.
            (
                Sh("vim -es -u NONE -c 'set backupcopy=no' -c 'call setline(3, \"3\")' -c wq $D/f"),
                &[("f", "=")],
            ),
        ],
    ),
    Row { fuse: false, ..row("o-tmpfile", &[(Do(unnamed), &[("f", "s")])]) },
    // The kernel closes what a killed writer leaves behind. That it is not whole only a
    // checksum beside it could tell.
    row(
        "killed",
        &[
            (Sh("sh -c 'exec > $D/f; head -c 1000 $S; kill -9 $$' || :"), &[("f", "head")]),
            (Sh("cp $S $D/f"), &[("f", "s")]),
        ],
    ),
    // An empty file is complete when it has been quiet for a while.
    row("touch-new", &[(Sh("touch $D/f"), &[("f", "empty")])]),
];

/// What happens to files that were delivered: new versions, and none.
pub(crate) const CHANGES: &[Row] = &[
    row("touch", &[FIRST, (Sh("touch $D/f"), &[("f", "s")])]),
    row("rewrite", &[FIRST, (Sh("cat $S > $D/f"), &[("f", "s")])]),
    row("append", &[FIRST, (Sh("echo more >> $D/f"), &[("f", "=")])]),
    row(
        "rename",
        &[
            (Sh("cp $S $D/a.csv"), &[("a.csv", "s")]),
            (Sh("mv $D/a.csv $D/b.csv"), &[("b.csv", "s")]),
        ],
    ),
    row("drop-back", &[FIRST, (Sh("mv $D/f $O"), NOTHING), (Sh("mv $O/f $D"), &[("f", "s")])]),
    row(
        "swap",
        &[
            (Sh("cp $S $D/f; cp $T $D/g"), &[("f", "s"), ("g", "t")]),
            (Sh("mv $D/f $O; mv $D/g $D/f; mv $O/f $D/g"), &[("f", "t"), ("g", "s")]),
        ],
    ),
    row("chmod", &[FIRST, (Sh("chmod -R a+rX,o-w $D"), NOTHING), (Sh("chmod -R go= $D"), NOTHING)]),
    Row {
        fuse: false,
        ..row("cp-al", &[FIRST, (Sh("cp -al $D $O/copy"), NOTHING), (Sh("rm -r $O/copy"), NOTHING)])
    },
    by("setfattr", "setfattr", &[FIRST, (Sh("setfattr -n user.a -v b $D/f $D"), NOTHING)]),
    row(
        "not-written",
        &[
            FIRST,
            (Sh(": >> $D/f"), NOTHING),
            (Sh("perl -e 'open(F, \"+<\", \"$ENV{D}/f\") or die'"), NOTHING),
        ],
    ),
    row("read", &[FIRST, (Sh("cat $D/f > $O/f; tar -C $D -cf $O/tar ."), NOTHING)]),
    Row {
        scan: &[("f", "head")],
        ..row("truncate", &[FIRST, (Sh("perl -e 'truncate(\"$ENV{D}/f\", 1000) or die'"), NOTHING)])
    },
    // The time is set by the file's name, without opening it: forward, and back.
    row("touch-c", &[FIRST, (Sh("touch -c $D/f"), &[("f", "s")])]),
    Row {
        untold: &[&[("f", "s")], &[("f", "s")]],
        ..row("touch-back", &[FIRST, (Sh("touch -c -d 2003-02-03 $D/f"), NOTHING)])
    },
    // A database stays open for a whole session, whatever is committed meanwhile. A session that
    // only reads opens it for writing, and writes nothing.
    by(
        "sqlite3",
        "sqlite",
        &[
            (
                Sh(
                    "sqlite3 $D/f 'create table t(a); insert into t values(1); insert into t values(2)'",
                ),
                &[("f", "=")],
            ),
            (
                Sh("sqlite3 $D/f 'insert into t values(3); delete from t where a = 1'"),
                &[("f", "=")],
            ),
            (Sh("sqlite3 $D/f 'select * from t'"), NOTHING),
            (
                Sh("sqlite3 $D/f 'pragma journal_mode = wal; insert into t values(4)'"),
                &[("f", "=")],
            ),
        ],
    ),
];

/// Programs that close a file and then set its time by its name. dagd may look between the two.
pub(crate) const TIMES: &[Row] = &[
    by(
        "unzip",
        "unzip",
        &[
            (Sh("cp -p $S $O/f; cd $O; zip -q s.zip f; unzip -q s.zip -d $D"), &[("f", "s")]),
            (Sh("cp -p $T $O/f; cd $O; zip -q t.zip f; unzip -qo t.zip -d $D"), &[("f", "t")]),
        ],
    ),
    by(
        "rsync",
        "rsync-inplace",
        &[
            (Sh("rsync -a --inplace $S $D/f"), &[("f", "s")]),
            (Sh("rsync -a --inplace $T $D/f"), &[("f", "t")]),
        ],
    ),
    row("touch-d", &[(Sh("cp $S $D/f; touch -c -d 2003-02-03 $D/f"), &[("f", "s")])]),
];

/// A file that has no name until it is complete.
fn unnamed(source: &Path, folder: &Path) {
    let mut file = File::options().write(true).custom_flags(libc::O_TMPFILE).open(folder).unwrap();
    file.write_all(&std::fs::read(source).unwrap()).unwrap();
    let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, by_number, CWD, folder.join("f"), AtFlags::SYMLINK_FOLLOW).unwrap();
}
