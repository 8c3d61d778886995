//! What acts: starts by hand, retries, replays, cancels, and all that is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use dagd::core::candidate::{Kind, Version};
use dagd::core::effect::Reply;
use dagd::core::event::{Fire, FireWhat, Request, RetryOf};
use dagd::core::graph::Graph;
use dagd::core::id::{ItemId, Rev, RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::FileClaim;
use dagd::core::selector::Selector;
use dagd::core::task::TaskSpec;
use dagd::io::client::{Client, ClientError};
use dagd::io::control::{RetrySource, Told};
use dagd::io::disk::version_at;
use dagd::wire::{Accepted, FireRequest};

use crate::world::{World, detail};

fn refusal<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> (u16, String) {
    match outcome.unwrap_err() {
        ClientError::Refused { status, error } => (status, error),
        other => panic!("{other}"),
    }
}

fn fire(client: &Client, trigger: &str, paths: &[&Bytes]) -> Result<Accepted, ClientError> {
    client.fire(&FireRequest {
        trigger: Some(trigger.to_owned()),
        select: None,
        paths_b64: paths.iter().map(|path| path.b64()).collect(),
    })
}

fn fired(world: &World) -> Fire {
    match world.heard() {
        Request::Fire(fire) => fire,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trigger_is_fired_for_files_that_it_takes() {
    let world = World::new();
    let client = world.client();
    let mut odd = world.path("in").as_bytes().to_vec();
    odd.extend_from_slice(b"/-\xff\n.csv");
    let odd = Bytes::from(odd);
    std::fs::write(odd.as_path(), "x").unwrap();
    let accepted = fire(&client, "orders", &[&odd]).unwrap();
    assert_eq!(accepted, Accepted { run: Some(7), item: None });
    let heard = fired(&world);
    assert!(matches!(heard.what, FireWhat::Trigger(name) if &*name == "orders"));
    assert_eq!(heard.files.len(), 1);
    assert_eq!(heard.files[0].rel, Bytes::from(&b"-\xff\n.csv"[..]));
    assert_eq!((&heard.files[0].path, heard.files[0].in_place), (&odd, true));

    world.present.lock().unwrap().reply = Some(Reply::Queued(ItemId(3)));
    let accepted = fire(&client, "rotate", &[]).unwrap();
    assert_eq!(accepted, Accepted { run: None, item: Some(3) });
}

#[test]
fn what_cannot_be_fired_is_refused_with_the_reason() {
    let world = World::new();
    let client = world.client();
    let text = world.write("in/a.txt", "x");
    let outside = world.write("done/a.csv", "x");
    let absent = world.path("in/absent.csv");
    let cases = [
        ("nobody", vec![], 404, "configured are: orders, tree, rotate"),
        ("orders", vec![&text], 409, "include: no pattern matches"),
        ("orders", vec![&outside], 409, "does not lie below"),
        ("orders", vec![&absent], 409, "no regular file"),
        ("rotate", vec![&outside], 409, "waits for a signal"),
    ];
    for (trigger, paths, status, words) in cases {
        let (got, error) = refusal(fire(&client, trigger, &paths));
        assert_eq!(got, status, "{error}");
        assert!(error.contains(words), "{error}");
    }
    let relative = Bytes::from("in/a.csv");
    assert_eq!(refusal(fire(&client, "orders", &[&relative])).0, 400);
    let select = |select: &str| {
        client.fire(&FireRequest { select: Some(select.to_owned()), ..FireRequest::default() })
    };
    assert_eq!(refusal(select("a,,b")).0, 400);
    assert_eq!(refusal(client.fire(&FireRequest::default())).0, 400);
    assert!(world.requests.is_empty());
    select("tag:x").unwrap();
    assert!(matches!(fired(&world).what, FireWhat::Select(select) if select.text() == "tag:x"));
    world.present.lock().unwrap().reply = Some(Reply::Refused("no room".to_owned()));
    assert_eq!(refusal(select("a")), (409, "no room".to_owned()));
}

#[test]
fn requests_reach_the_engine() {
    let world = World::new();
    let client = world.client();
    world.present.lock().unwrap().reply = Some(Reply::Done);
    client.cancel(4, Some("load")).unwrap();
    let heard = world.heard();
    assert!(
        matches!(&heard, Request::Cancel { run: RunId(4), task: Some(task) } if &**task == "load"),
        "{heard:?}"
    );
    client.cancel(4, None).unwrap();
    assert!(matches!(world.heard(), Request::Cancel { task: None, .. }));
    client.pause("orders").unwrap();
    assert!(matches!(world.heard(), Request::Pause { trigger } if &*trigger == "orders"));
    client.resume("tree").unwrap();
    assert!(matches!(world.heard(), Request::Resume { trigger } if &*trigger == "tree"));
    assert_eq!(refusal(client.pause("no/body")).0, 404);
    assert_eq!(client.reload().unwrap().text, "1 task added");
    assert!(client.stop().unwrap().ok);
    world.present.lock().unwrap().reply = Some(Reply::NotFound("no live run".to_owned()));
    let (status, why) = refusal(client.cancel(5, None));
    assert_eq!((status, why.as_str()), (404, "there is no run 5; `dagd runs` lists them"));
    world.past.lock().unwrap().details.insert(5, detail(5, "failed", None));
    let (status, why) = refusal(client.cancel(5, None));
    assert_eq!((status, why.as_str()), (409, "run 5 has ended already: it failed"));
}

/// a → b → d, a → c; b failed, so d was skipped.
fn source(claim: FileClaim, moved_to: Option<Bytes>) -> RetrySource {
    let task = |name: &str, needs: &[&str]| {
        let mut task = TaskSpec::new(name, Vec::new());
        task.needs = needs.iter().map(|&need| need.into()).collect();
        task
    };
    let graph =
        Graph::build(vec![task("a", &[]), task("b", &["a"]), task("c", &["a"]), task("d", &["b"])]);
    let outputs = BTreeMap::from([("rows".to_owned(), "3".to_owned())]);
    let ended = |name: &str, state: &str| (name.into(), state.to_owned(), outputs.clone());
    RetrySource {
        trigger: Some("orders".into()),
        select: Selector::parse("a+").unwrap(),
        rev: Rev("0123456789abcdef".into()),
        graph: Some(Arc::new(graph.unwrap())),
        state: "failed".to_owned(),
        signal: None,
        scheduled: None,
        files: vec![(claim, moved_to)],
        tasks: vec![
            ended("a", "succeeded"),
            ended("b", "failed"),
            ended("c", "succeeded"),
            ended("d", "skipped"),
        ],
    }
}

fn claim(path: &Bytes) -> FileClaim {
    FileClaim {
        rel: "a.csv".into(),
        path: path.clone(),
        kind: Kind::Created,
        version: version_at(path.as_path()).unwrap().unwrap(),
        first_seen_at: Wall(0),
        in_place: true,
        key: None,
    }
}

fn retry_of(world: &World) -> (RetryOf, Vec<dagd::core::event::FireFile>) {
    let fire = fired(world);
    match fire.what {
        FireWhat::Retry(of) => (*of, fire.files),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_retry_finds_the_file_where_it_went() {
    let world = World::new();
    let client = world.client();
    let came = world.write("in/a.csv", "x");
    let claim = claim(&came);
    let went = world.path("done/a.csv");
    std::fs::rename(came.as_path(), went.as_path()).unwrap();
    world.past.lock().unwrap().retries.insert(1, source(claim, Some(went.clone())));
    client.retry(1, false).unwrap();
    let (of, files) = retry_of(&world);
    assert_eq!((of.run, of.keep.len()), (RunId(1), 0));
    assert_eq!((&files[0].rel, &files[0].path), (&Bytes::from("a.csv"), &went));
    assert!(!files[0].in_place);

    client.retry(1, true).unwrap();
    let (of, _) = retry_of(&world);
    let kept: Vec<&str> = of.keep.iter().map(|(name, _)| &**name).collect();
    assert_eq!(kept, ["a", "c"]);
    assert_eq!(of.keep[0].1["rows"], "3");

    std::fs::write(went.as_path(), "changed").unwrap();
    let (status, error) = refusal(client.retry(1, true));
    assert_eq!(status, 409);
    assert!(error.contains("has changed since"), "{error}");
    std::fs::remove_file(went.as_path()).unwrap();
    assert_eq!(refusal(client.retry(1, true)).0, 409);
}

#[test]
fn what_cannot_be_retried_is_refused() {
    let world = World::new();
    let client = world.client();
    assert_eq!(refusal(client.retry(9, false)).0, 404);
    world.past.lock().unwrap().details.insert(2, detail(2, "running", None));
    let (status, error) = refusal(client.retry(2, false));
    assert_eq!((status, error.contains("has not ended")), (409, true));
    let file = claim(&world.write("in/a.csv", "x"));
    let here = Some(file.path.clone());
    let mut green = source(file.clone(), here.clone());
    green.tasks[1].1 = "succeeded".to_owned();
    world.past.lock().unwrap().retries.insert(3, green);
    let (status, error) = refusal(client.retry(3, true));
    assert_eq!((status, error.contains("nothing failed")), (409, true));
    let gone = RetrySource { graph: None, ..source(file.clone(), here) };
    world.past.lock().unwrap().retries.insert(4, gone);
    assert_eq!(refusal(client.retry(4, true)).0, 409);
    client.retry(4, false).unwrap();
    assert!(retry_of(&world).1[0].in_place);

    world.past.lock().unwrap().retries.insert(5, source(file, None));
    let (status, error) = refusal(client.retry(5, false));
    assert!(status == 409 && error.contains("run 5 succeeded and deleted it"), "{error}");
}

#[test]
fn what_was_deleted_cannot_be_replayed() {
    let world = World::new();
    let client = world.client();
    let gone = world.path("in/a.csv");
    let told = Told {
        version: Version { file: "v".into(), size: 1, mtime_ns: 1 },
        open: false,
        run: Some(RunId(12)),
        state: "succeeded".to_owned(),
        quarantined: false,
        location: None,
        outcome: Some(("deleted".to_owned(), None)),
    };
    let key = ("orders".to_owned(), Bytes::from("a.csv"));
    world.past.lock().unwrap().told.insert(key, told);
    let (status, error) = refusal(client.replay(&gone));
    assert!(status == 409 && error.contains("run 12 succeeded and deleted it"), "{error}");
    let explained = client.explain(&gone).unwrap();
    let one = &explained.triggers[0];
    assert!(one.verdict == "delivered" && one.text.ends_with("as `delete` asks."), "{one:?}");
    // A file that was dropped there since is another one.
    client.replay(&world.write("in/a.csv", "x")).unwrap();
    assert!(fired(&world).files[0].in_place);
}

#[test]
fn a_file_is_replayed_in_place_and_where_it_went() {
    let world = World::new();
    let client = world.client();
    let here = world.write("in/a.csv", "x");
    let replayed = client.replay(&here).unwrap();
    assert_eq!((replayed.len(), replayed[0].run), (1, Some(7)));
    let fire = fired(&world);
    assert!(fire.files[0].in_place);

    let went = world.write("done/b.csv", "x");
    let place = vec![("orders".into(), Bytes::from("b.csv"))];
    world.past.lock().unwrap().located.insert(went.clone(), place);
    client.replay(&went).unwrap();
    let fire = fired(&world);
    assert_eq!((&fire.files[0].rel, fire.files[0].in_place), (&Bytes::from("b.csv"), false));

    let (status, error) = refusal(client.replay(&world.write("in/a.txt", "x")));
    assert_eq!((status, error.contains("include")), (409, true));
    assert_eq!(refusal(client.replay(&Bytes::from("/etc/hostname"))).0, 404);
}
