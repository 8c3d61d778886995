//! The ledger: what each record means for what is remembered of a path.

use dagd::core::candidate::{Kind, Row, Version};
use dagd::core::disposition::MoveResult;
use dagd::core::id::RunId;
use dagd::core::ledger::Placed;
use dagd::core::path::Bytes;
use dagd::core::record::{Record, RunState};
use dagd::io::store::{Reader, Store, Story};
use tempfile::TempDir;

use crate::common::{
    World, at, claim, created, moved, over, reader, run, store, version, whole_run,
};

struct Setup {
    _dir: TempDir,
    world: World,
    store: Store,
    reader: Reader,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let reader = reader(dir.path());
        Self { _dir: dir, world: World::new(), store, reader }
    }

    fn commit(&mut self, records: &[Record]) {
        self.store.commit(records, &self.world).unwrap();
    }

    fn claim(&mut self, id: u64, rel: &[u8], n: u64) {
        let record = created(run(&self.world, id, vec![claim(rel, n)]));
        self.commit(&[record]);
    }

    fn story(&mut self, rel: &[u8]) -> Option<Story> {
        let (rel, of) = (Bytes::from(rel), "orders");
        let story = self.reader.ledger_story(of, &rel).unwrap();
        let row = self.reader.ledger_row(of, &rel).unwrap();
        assert_eq!(story.as_ref().map(|story| &story.row), row.as_ref());
        story
    }

    /// State, open, run, location.
    fn brief(&mut self, rel: &[u8]) -> Option<(String, bool, Option<u64>, Option<String>)> {
        let story = self.story(rel)?;
        let location = story.location.map(|path| path.lossy().into_owned());
        Some((story.state, story.row.open, story.row.run.map(|run| run.0), location))
    }
}

fn departed(rel: &str) -> Record {
    Record::FileDeparted { trigger: "orders".into(), rel: rel.into(), at: at(9) }
}

fn noted(rel: &str, n: u64) -> Record {
    Record::FileNoted {
        why: dagd::core::ledger::Noted::Baseline,
        trigger: "orders".into(),
        rel: rel.into(),
        version: version(n),
        at: at(0),
    }
}

fn to(path: &str) -> MoveResult {
    MoveResult::Moved { to: path.into(), version: version(1) }
}

#[test]
fn claimed_moved_ended() {
    let mut s = Setup::new();
    assert_eq!(s.story(b"a.csv"), None);
    s.claim(1, b"a.csv", 1);
    let row = Row { version: version(1), open: true, run: Some(RunId(1)) };
    assert_eq!(s.story(b"a.csv").unwrap().row, row);
    assert_eq!(s.brief(b"a.csv"), Some(("running".into(), true, Some(1), None)));
    s.commit(&[moved(1, 0, to("/srv/done/a.csv"))]);
    let there = Some("/srv/done/a.csv".to_owned());
    assert_eq!(s.brief(b"a.csv"), Some(("running".into(), false, Some(1), there.clone())));
    s.commit(&[over(1, RunState::Succeeded)]);
    assert_eq!(s.brief(b"a.csv"), Some(("succeeded".into(), false, Some(1), there)));
    let located = s.reader.find_located(&"/srv/done/a.csv".into()).unwrap();
    assert_eq!((located.len(), &*located[0].trigger), (1, "orders"));
    assert_eq!(located[0].rel, Bytes::from("a.csv"));
    assert!(s.reader.find_located(&"/srv/done/b.csv".into()).unwrap().is_empty());
    assert_eq!(s.reader.ledger_row("other", &"a.csv".into()).unwrap(), None);
    s.claim(2, b"a.csv", 2);
    assert_eq!(s.brief(b"a.csv"), Some(("running".into(), true, Some(2), None)));
}

#[test]
fn a_time_that_was_set_back() {
    let mut s = Setup::new();
    s.claim(1, b"a", 7);
    let set = |run, mtime_ns| Record::FileStamped {
        trigger: "orders".into(),
        rel: "a".into(),
        version: Version { mtime_ns, ..version(7) },
        run,
        at: at(3),
    };
    s.commit(&[set(Some(RunId(1)), -8)]);
    let row = |mtime_ns| {
        let version = Version { mtime_ns, ..version(7) };
        Row { version, open: true, run: Some(RunId(1)) }
    };
    assert_eq!(s.story(b"a").unwrap().row, row(-8));
    s.commit(&[over(1, RunState::Succeeded)]);
    let source = s.reader.retry_source(RunId(1)).unwrap().unwrap();
    assert_eq!(source.files[0].claim.version, row(-8).version, "the history tells the last one");
    s.commit(&[set(None, -9)]);
    assert_eq!(s.story(b"a").unwrap().row, row(-9));
    // Another size is another version.
    let other = Version { mtime_ns: -10, ..version(7) };
    let other = Version { size: 8, ..other };
    let (trigger, rel) = ("orders".into(), "a".into());
    s.commit(&[Record::FileStamped { trigger, rel, version: other, run: None, at: at(3) }]);
    assert_eq!(s.story(b"a").unwrap().row, row(-9));
}

#[test]
fn what_disposing_comes_to() {
    let mut s = Setup::new();
    for (id, result, open) in [
        (1, MoveResult::Superseded, true),
        // Whether it is gone, or only its file system is away, is for a look to tell.
        (2, MoveResult::Gone, true),
        (3, MoveResult::Failed("EXDEV".into()), true),
        (4, MoveResult::Kept, true),
        (5, MoveResult::Deleted, false),
    ] {
        let rel = format!("sub/{id}");
        s.claim(id, rel.as_bytes(), id);
        s.commit(&[moved(id, 0, result), over(id, RunState::Failed)]);
        let state = if open { "quarantined" } else { "failed" };
        assert_eq!(s.brief(rel.as_bytes()), Some((state.into(), open, Some(id), None)));
        assert_eq!(s.story(rel.as_bytes()).unwrap().row.version, version(id));
    }
}

#[test]
fn the_end_of_an_older_run_leaves_a_newer_delivery_alone() {
    let mut s = Setup::new();
    s.claim(1, b"a", 1);
    s.claim(2, b"a", 2);
    s.commit(&[moved(1, 0, MoveResult::Gone), over(1, RunState::Failed)]);
    assert_eq!(s.brief(b"a"), Some(("running".into(), true, Some(2), None)));
    s.commit(&[over(2, RunState::Cancelled)]);
    assert_eq!(s.brief(b"a"), Some(("cancelled".into(), true, Some(2), None)));
}

#[test]
fn a_deleted_file_is_remembered_as_not_there() {
    let mut s = Setup::new();
    s.commit(&[noted("a", 1)]);
    assert_eq!(s.brief(b"a"), Some(("baseline".into(), true, None, None)));
    let mut gone = claim(b"a", 1);
    gone.kind = Kind::Deleted;
    let record = created(run(&s.world, 1, vec![gone]));
    s.commit(&[record]);
    assert_eq!(s.brief(b"a"), Some(("running".into(), false, Some(1), None)));
}

#[test]
fn departed_rows_close_or_go() {
    let mut s = Setup::new();
    s.commit(&[noted("baseline", 1), departed("baseline"), departed("never seen")]);
    assert_eq!(s.story(b"baseline"), None, "it has nothing left to tell");
    s.claim(1, b"live", 1);
    s.commit(&[departed("live")]);
    assert_eq!(s.brief(b"live"), Some(("running".into(), false, Some(1), None)));
    s.commit(&[over(1, RunState::Succeeded)]);
    assert_eq!(s.brief(b"live"), Some(("succeeded".into(), false, Some(1), None)));
    let records = whole_run(&s.world, 2, vec![claim(b"ended", 1)]);
    s.commit(&records);
    s.commit(&[departed("ended")]);
    assert_eq!(s.brief(b"ended"), Some(("succeeded".into(), false, Some(2), None)));
}

#[test]
fn a_change_that_is_no_work_replaces_the_version() {
    let mut s = Setup::new();
    s.claim(1, b"a", 1);
    s.commit(&[noted("a", 2), over(1, RunState::Succeeded)]);
    assert_eq!(s.brief(b"a"), Some(("baseline".into(), true, None, None)));
    assert_eq!(s.story(b"a").unwrap().row.version, version(2));
}

#[test]
fn a_repeated_run_takes_the_row_along() {
    let mut s = Setup::new();
    s.claim(1, b"a", 1);
    s.commit(&[moved(1, 0, to("/srv/failed/a")), over(1, RunState::Failed)]);
    let mut again = claim(b"a", 1);
    (again.in_place, again.path) = (false, "/srv/failed/a".into());
    let record = created(run(&s.world, 2, vec![again]));
    s.commit(&[record]);
    let failed = Some("/srv/failed/a".to_owned());
    assert_eq!(s.brief(b"a"), Some(("running".into(), false, Some(2), failed)));
    s.commit(&[moved(2, 0, to("/srv/done/a")), over(2, RunState::Succeeded)]);
    let done = Some("/srv/done/a".to_owned());
    assert_eq!(s.brief(b"a"), Some(("succeeded".into(), false, Some(2), done)));
    let first = s.reader.retry_source(RunId(1)).unwrap().unwrap();
    assert_eq!(first.files[0].location, Bytes::from("/srv/done/a"), "both know where it is");
    // Another file is delivered from the same place meanwhile: a late repeat leaves its row alone.
    s.claim(3, b"a", 3);
    let mut late = claim(b"a", 1);
    (late.in_place, late.path) = (false, "/srv/done/a".into());
    let record = created(run(&s.world, 4, vec![late]));
    s.commit(&[record, moved(4, 0, MoveResult::Superseded), over(4, RunState::Failed)]);
    assert_eq!(s.brief(b"a"), Some(("running".into(), true, Some(3), None)));
    let first = s.reader.retry_source(RunId(1)).unwrap().unwrap();
    assert_eq!(first.files[0].location, Bytes::from("/srv/failed/a"), "as far as its run knows");
}

#[test]
fn rows_are_walked_folder_by_folder_with_any_bytes_in_names() {
    let mut s = Setup::new();
    let names: [&[u8]; 9] = [
        b"top",
        b"d/a",
        b"d/b\n",
        b"d/\xc3\xa9",
        b"d/\xff",
        b"d/\xff\xfe",
        b"d/e/deep",
        b"z\xff/x",
        b"-/x",
    ];
    let files = (0u64..).zip(names).map(|(n, rel)| claim(rel, n)).collect();
    let record = created(run(&s.world, 1, files));
    s.commit(&[record, departed("d/a")]);
    for (n, rel) in (0u64..).zip(names) {
        assert_eq!(s.story(rel).unwrap().row.version, version(n), "{}", rel.escape_ascii());
    }
    let (mut after, mut walked) = (Vec::new(), Vec::new());
    loop {
        let rows = s.reader.open_rows("orders", b"d", "", &after, 2).unwrap();
        let Some((last, _)) = rows.last() else { break };
        after = last.as_bytes().to_vec();
        walked.extend(rows.into_iter().map(|(name, row)| (name, row.version.size)));
    }
    let expected: [(&[u8], u64); 4] =
        [(b"b\n", 2), (b"\xc3\xa9", 3), (b"\xff", 4), (b"\xff\xfe", 5)];
    assert_eq!(walked, expected.map(|(name, n)| (Bytes::from(name), n)));
    assert_eq!(s.reader.open_rows("orders", b"", "", b"", 9).unwrap().len(), 1, "the root itself");

    let all: Vec<Bytes> = [&b"-"[..], b"d", b"d/e", b"z\xff"].map(Bytes::from).into();
    assert_eq!(s.reader.dirs("orders", b"", 100).unwrap(), all);
    assert_eq!(s.reader.dirs("orders", b"d", 1).unwrap(), all[2..3]);
    assert_eq!(s.reader.dirs("orders", b"z\xff", 100).unwrap(), []);
    assert_eq!(s.reader.dirs("none", b"", 100).unwrap(), []);
}

#[test]
fn rows_know_on_which_file_system_their_files_lay() {
    let mut s = Setup::new();
    let places = |places: &[(&str, &str)]| Record::FilesPlaced {
        trigger: "orders".into(),
        places: places
            .iter()
            .map(|(dir, what)| Placed { dir: (*dir).into(), what: (*what).to_owned() })
            .collect(),
        at: at(1),
    };
    // Nobody knows of the first; it may be anywhere.
    s.claim(1, b"m/first", 1);
    s.commit(&[places(&[("", "/"), ("m", "tmpfs"), ("m/n", "ext4 UUID=1")])]);
    for (run, rel) in (2u64..).zip([&b"top"[..], b"m/a", b"mm/b", b"m/n/c", b"m/n/d/e"]) {
        s.claim(run, rel, run);
    }
    s.commit(&[places(&[("", "/")]), noted("m/bare", 9)]);
    let mut rows = |dir: &[u8], place: &str| -> Vec<String> {
        let rows = s.reader.open_rows("orders", dir, place, b"", 9).unwrap();
        rows.into_iter().map(|(name, _)| name.lossy().into_owned()).collect()
    };
    assert_eq!(rows(b"", "/"), ["top"]);
    assert_eq!(rows(b"m", "/"), ["bare", "first"]);
    assert_eq!(rows(b"m", "tmpfs"), ["a", "first"]);
    assert_eq!(rows(b"m", "another"), ["first"]);
    assert_eq!(rows(b"mm", "/"), ["b"]);
    assert_eq!(rows(b"m/n", "ext4 UUID=1"), ["c"]);
    assert_eq!(rows(b"m/n/d", "ext4 UUID=1"), ["e"]);
    assert_eq!(rows(b"m/n/d", "/"), [""; 0]);
}
