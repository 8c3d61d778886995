//! How long a commit takes with a large ledger: printed, not asserted.

use std::time::Instant;

use dagd::core::record::Record;
use dagd::io::store::Sync;

use crate::common::{World, at, claim, store, version, whole_run};

const ROWS: u64 = 300_000;
const COMMITS: u64 = 4_000;

#[test]
fn commits_with_a_large_ledger() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let sync = Sync::spawn(dir.path(), |_| {}).unwrap();
    let begun = Instant::now();
    for batch in 0..ROWS / 1000 {
        let rows = (0..1000).map(|n| Record::FileNoted {
            why: dagd::core::ledger::Noted::Baseline,
            trigger: "orders".into(),
            rel: format!("{:03}/file-{n}.csv", batch % 100 * 3).as_str().into(),
            version: version(batch * 1000 + n),
            at: at(0),
        });
        store.commit(&rows.collect::<Vec<_>>(), &world).unwrap();
        sync.checkpoint();
    }
    println!("{ROWS} rows: {:?}", begun.elapsed());
    let mut times = [Vec::new(), Vec::new()];
    for id in 1..=COMMITS / 2 {
        let rel = format!("{:03}/new-{id}.csv", id * 7919 % 300);
        let records = whole_run(&world, id, vec![claim(rel.as_bytes(), id)]);
        for (part, records) in records.chunks(2).enumerate() {
            let begun = Instant::now();
            store.commit(records, &world).unwrap();
            sync.checkpoint();
            times[part].push(begun.elapsed());
        }
    }
    for (what, mut times) in ["created + started", "ended + over"].into_iter().zip(times) {
        times.sort();
        let of = |share: usize| times[times.len() * share / 1000];
        println!("{what}: p50 {:?} p99 {:?} p99.9 {:?}", of(500), of(990), of(999));
    }
    sync.stop();
}
