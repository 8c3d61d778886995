//! What only looks: listings, waiting, explanations, logs.

use std::io::Write as _;
use std::time::Duration;

use dagd::core::id::RunId;
use dagd::core::path::Bytes;
use dagd::core::record::RunState;
use dagd::io::client::{ClientError, Listing};
use dagd::io::control::Told;
use dagd::io::disk::version_at;
use dagd::wire::{PathText, PendingEntry, RunFile};

use crate::world::{World, detail};

fn status_of(error: &ClientError) -> u16 {
    match error {
        ClientError::Refused { status, .. } => *status,
        other => panic!("{other}"),
    }
}

#[test]
fn runs_are_listed_newest_first() {
    let world = World::new();
    for (id, state) in [(1, "succeeded"), (2, "failed"), (3, "running")] {
        world.past.lock().unwrap().details.insert(id, detail(id, state, None));
    }
    let client = world.client();
    assert_eq!(client.status().unwrap().pid, std::process::id());
    assert!(client.pending().unwrap().is_empty());
    let ids = |listing: Listing| {
        client.runs(&listing).unwrap().into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Listing::default()), [3, 2, 1]);
    assert_eq!(ids(Listing { limit: Some(2), ..Listing::default() }), [3, 2]);
    assert_eq!(ids(Listing { state: Some("failed".into()), ..Listing::default() }), [2]);
    assert!(ids(Listing { trigger: Some("a&b=%/é".into()), ..Listing::default() }).is_empty());
    assert_eq!(client.run(2).unwrap(), detail(2, "failed", None));
    let unknown = client.run(9).unwrap_err();
    assert_eq!((status_of(&unknown), unknown.is_missing()), (404, true));
    let bad = Listing { state: Some("fine".into()), ..Listing::default() };
    assert_eq!(status_of(&client.runs(&bad).unwrap_err()), 400);
}

#[test]
fn waiting_takes_as_long_as_the_run() {
    let world = World::new();
    world.past.lock().unwrap().details.insert(4, detail(4, "cancelled", None));
    world.past.lock().unwrap().details.insert(5, detail(5, "running", None));
    let client = world.client();
    assert_eq!(client.wait(4).unwrap().state, "cancelled");
    assert_eq!(status_of(&client.wait(9).unwrap_err()), 404);
    // Known as running, but the engine dropped the question: it is going.
    assert_eq!(status_of(&client.wait(5).unwrap_err()), 503);
    assert_eq!(client.wait_item(3).unwrap().run, Some(8));
    assert_eq!(status_of(&client.wait_item(4).unwrap_err()), 404);
    let other = world.client();
    let waiter = std::thread::spawn(move || other.wait(50).unwrap().state);
    assert!(!waiter.is_finished());
    world.end_run.send(RunState::Failed).unwrap();
    // Either it was waiting by then, or the next end reaches it.
    while !waiter.is_finished() {
        world.end_run.send_timeout(RunState::Failed, Duration::from_millis(20)).ok();
    }
    assert_eq!(waiter.join().unwrap(), "failed");
}

#[test]
fn logs_come_as_they_are() {
    let world = World::new();
    let log = world.dir.path().join("1.load.1.log");
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    std::fs::write(&log, &bytes).unwrap();
    world.past.lock().unwrap().details.insert(1, detail(1, "succeeded", Some(&log)));
    world.past.lock().unwrap().details.insert(2, detail(2, "succeeded", None));
    let client = world.client();
    let read = |run: u64, task: &str, attempt: Option<u32>| {
        let mut read = Vec::new();
        client.log((run, task), attempt, false, &mut |bytes| {
            read.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok::<_, ClientError>(read)
    };
    assert_eq!(read(1, "load", None).unwrap(), bytes);
    assert_eq!(read(1, "load", Some(1)).unwrap(), bytes);
    assert_eq!(read(2, "load", None).unwrap(), b"");
    assert_eq!(status_of(&read(1, "load", Some(2)).unwrap_err()), 404);
    assert_eq!(status_of(&read(1, "nope/../x", None).unwrap_err()), 404);
    assert_eq!(status_of(&read(9, "load", None).unwrap_err()), 404);
    std::fs::remove_file(&log).unwrap();
    assert!(matches!(read(1, "load", None), Err(ClientError::Broken(_))));
}

#[test]
fn what_was_not_kept_of_a_log_is_told() {
    let world = World::new();
    let log = world.dir.path().join("hole.log");
    let mut file = std::fs::File::create(&log).unwrap();
    file.write_all(b"head\n").unwrap();
    file.set_len(8 << 20).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"tail\n").unwrap();
    world.past.lock().unwrap().details.insert(1, detail(1, "succeeded", Some(&log)));
    let mut read = Vec::new();
    let mut sink = |bytes: &[u8]| {
        read.extend_from_slice(bytes);
        Ok(())
    };
    world.client().log((1, "load"), None, false, &mut sink).unwrap();
    let text = String::from_utf8(read).unwrap();
    assert!(text.len() < 1 << 20, "{}", text.len());
    assert!(text.starts_with("head\n") && text.ends_with("tail\n"));
    assert!(text.contains("bytes of output were not kept]"));
}

#[test]
fn a_log_is_followed_to_the_end_of_its_attempt() {
    let world = World::new();
    let spare = world.dir.path().join("spare.log");
    let mut file = std::fs::File::create(&spare).unwrap();
    world.past.lock().unwrap().details.insert(1, detail(1, "running", None));
    let key = (1, "load".to_owned(), 1);
    world.present.lock().unwrap().live.insert(key.clone(), spare.clone());
    let client = world.client();
    let (sender, receiver) = std::sync::mpsc::channel();
    let follower = std::thread::spawn(move || {
        client.log((1, "load"), None, true, &mut |bytes| {
            sender.send(bytes.to_vec()).unwrap();
            Ok(())
        })
    });
    for line in ["one\n", "two\n"] {
        file.write_all(line.as_bytes()).unwrap();
        assert_eq!(receiver.recv_timeout(crate::world::PATIENCE).unwrap(), line.as_bytes());
    }
    // The attempt ends: its log gets its own name, and a last line that nobody has read yet.
    file.write_all(b"three\n").unwrap();
    let log = world.dir.path().join("1.load.1.log");
    std::fs::rename(&spare, &log).unwrap();
    world.past.lock().unwrap().details.insert(1, detail(1, "succeeded", Some(&log)));
    world.present.lock().unwrap().live.remove(&key);
    follower.join().unwrap().unwrap();
    assert_eq!(receiver.iter().flatten().collect::<Vec<_>>(), b"three\n");
}

#[test]
fn a_spare_log_of_the_next_attempt_is_not_shown() {
    let world = World::new();
    let spare = world.dir.path().join("spare.log");
    std::fs::write(&spare, "").unwrap();
    world.past.lock().unwrap().details.insert(1, detail(1, "running", None));
    let key = (1, "load".to_owned(), 1);
    world.present.lock().unwrap().live.insert(key.clone(), spare.clone());
    let client = world.client();
    let follower = std::thread::spawn(move || {
        let mut read = Vec::new();
        let mut sink = |bytes: &[u8]| {
            read.extend_from_slice(bytes);
            Ok(())
        };
        client.log((1, "load"), None, true, &mut sink).map(|()| read)
    });
    world.past.lock().unwrap().details.insert(1, detail(1, "succeeded", None));
    world.present.lock().unwrap().live.remove(&key);
    std::fs::write(&spare, "of another attempt\n").unwrap();
    assert_eq!(follower.join().unwrap().unwrap(), b"");
}

/// What the ledger tells of a file whose run 12 has failed.
fn failed(path: &Bytes) -> Told {
    Told {
        version: version_at(path.as_path()).unwrap().unwrap(),
        open: true,
        run: Some(RunId(12)),
        state: "failed".to_owned(),
        quarantined: false,
        location: None,
        outcome: None,
    }
}

#[test]
fn paths_are_explained() {
    let world = World::new();
    let client = world.client();
    let verdict = |path: &Bytes| {
        let explained = client.explain(path).unwrap();
        let told = explained.triggers.into_iter();
        told.map(|one| (one.trigger, one.verdict, one.text, one.run)).collect::<Vec<_>>()
    };
    let one = |path: &Bytes| {
        let all = verdict(path);
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    };
    assert!(verdict(&Bytes::from("/elsewhere/x")).is_empty());

    let (_, judged, text, _) = one(&world.write("in/a.txt", "x"));
    assert_eq!(judged, "ignored");
    assert!(text.contains("include: no pattern matches"), "{text}");
    let (_, judged, text, _) = one(&world.path("in/sub/a.csv"));
    assert_eq!((judged.as_str(), text.contains("recursive: false")), ("ignored", true));
    std::fs::create_dir(world.dir.path().join("tree/.git")).unwrap();
    let (_, judged, text, _) = one(&world.write("tree/.git/index", "x"));
    assert_eq!((judged.as_str(), text.contains("hidden: folder `.git`")), ("ignored", true));

    let a = world.write("in/a.csv", "x");
    assert_eq!(one(&a).1, "unseen");
    let told = failed(&a);
    let key = ("orders".to_owned(), Bytes::from("a.csv"));
    world.past.lock().unwrap().told.insert(key.clone(), told.clone());
    let (_, judged, text, run) = one(&a);
    assert_eq!((judged.as_str(), run), ("delivered", Some(12)));
    assert!(
        text.starts_with("it was delivered to run 12, which failed; the same version"),
        "{text}"
    );

    let entry = PendingEntry {
        trigger: Some("orders".to_owned()),
        file: Some(PathText::from(&a)),
        stage: "pending".to_owned(),
        reason: "writer_open".to_owned(),
        since: "2026-01-01T00:00:00.000000000Z".to_owned(),
        run: None,
    };
    world.present.lock().unwrap().pending = vec![entry];
    let (_, judged, text, _) = one(&a);
    assert_eq!((judged.as_str(), text.contains("writer_open")), ("pending", true));
    world.present.lock().unwrap().pending.clear();

    // A new version, then one that the run has moved away.
    let a = world.write("in/a.csv", "longer");
    assert_eq!(one(&a).1, "unseen");
    let done = world.write("done/a.csv", "x");
    std::fs::remove_file(a.as_path()).unwrap();
    assert_eq!(client.explain(&a).unwrap().now, "absent");
    assert_eq!(client.explain(&world.path("in")).unwrap().now, "other");
    let moved = Told { open: false, location: Some(done.clone()), ..told };
    world.past.lock().unwrap().told.insert(key, moved);
    world
        .past
        .lock()
        .unwrap()
        .located
        .insert(done.clone(), vec![("orders".into(), "a.csv".into())]);
    let (_, judged, text, _) = one(&a);
    assert_eq!(judged, "delivered");
    assert!(text.contains("it was moved to"), "{text}");
    let (trigger, judged, text, run) = one(&done);
    assert_eq!((trigger.as_str(), judged.as_str(), run), ("orders", "delivered", Some(12)));
    assert!(text.contains("moved it here; it had come in as a.csv"), "{text}");
}

#[test]
fn what_cannot_be_moved_yet_is_told_of_its_run() {
    let world = World::new();
    let mut moving = detail(3, "running", None);
    let path = PathText::from(&world.path("in/a.csv"));
    moving.run.files = ["moved", "moving"]
        .map(|outcome| RunFile {
            path: path.clone(),
            rel: "a.csv".to_owned(),
            kind: "created".to_owned(),
            size: 1,
            moved_to: None,
            move_error: None,
            outcome: Some(outcome.to_owned()),
        })
        .into();
    world.past.lock().unwrap().details.insert(3, moving);
    world.present.lock().unwrap().stuck = vec![(1, "moving: no space".to_owned())];
    let told = world.client().run(3).unwrap().run.files;
    let errors: Vec<Option<&str>> = told.iter().map(|file| file.move_error.as_deref()).collect();
    assert_eq!(errors, [None, Some("moving: no space")]);
}

#[test]
fn what_failed_and_stays_is_in_quarantine() {
    let world = World::new();
    let client = world.client();
    let a = world.write("in/a.csv", "x");
    let told = Told { quarantined: true, ..failed(&a) };
    let key = ("orders".to_owned(), Bytes::from("a.csv"));
    world.past.lock().unwrap().told.insert(key, told);
    let explained = client.explain(&a).unwrap();
    let one = &explained.triggers[0];
    assert_eq!((one.verdict.as_str(), one.run_state.as_deref()), ("quarantined", Some("failed")));
    assert!(one.text.contains("it is quarantined by run 12"), "{}", one.text);
    world.past.lock().unwrap().quarantined = vec![("orders".into(), 3), ("tree".into(), 5)];
    let counts: Vec<u64> =
        client.status().unwrap().triggers.iter().map(|trigger| trigger.quarantined).collect();
    assert_eq!(counts, [3, 0], "a watched tree has no such files");
}
