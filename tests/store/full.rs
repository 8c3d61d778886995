//! A full disk: the batch is kept by the caller, and goes through once there is room.

use std::fs::File;
use std::io::Write as _;

use dagd::core::id::RunId;
use dagd::io::store::StoreError;
use tempfile::TempDir;

use crate::common::{World, claim, reader, store, whole_run};
use crate::harness::disk::Disk;

#[test]
fn a_full_disk_stalls_and_heals() {
    let dir = TempDir::new().unwrap();
    let Some(disk) = Disk::mount(dir.path(), "size=2m,mode=0755") else { return };
    let world = World::new();
    let state = disk.path().join("state");
    let mut store = store(&state);
    let ballast = disk.path().join("ballast");
    let written = File::create(&ballast).unwrap().write_all(&vec![0; 1 << 20]);
    written.unwrap();
    let batch = |id: u64| {
        let files = (0..50).map(|n| claim(format!("d/{id}-{n}").as_bytes(), id)).collect();
        whole_run(&world, id, files)
    };
    let mut id = 1;
    let error = loop {
        match store.commit(&batch(id), &world) {
            Ok(seq) => assert_eq!(seq.0, id),
            Err(error) => break error,
        }
        id += 1;
        assert!(id < 1000, "the disk never got full");
    };
    let StoreError::Passing(text) = &error else { panic!("{error:?}") };
    assert!(text.contains("dagd.db") && text.contains("space"), "{text}");
    assert!(matches!(store.commit(&batch(id), &world), Err(StoreError::Passing(_))), "still full");
    let mut looks = reader(&state);
    assert!(looks.run(RunId(id - 1)).unwrap().is_some(), "looking works meanwhile");
    assert!(looks.run(RunId(id)).unwrap().is_none(), "nothing of the batch is there");
    assert_eq!(store.load().unwrap().next_run, RunId(id));

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(store.commit(&batch(id), &world).unwrap().0, id, "the same batch goes through");
    drop((looks, store));
    let mut looks = reader(&state);
    for run in 1..=id {
        assert_eq!(looks.run(RunId(run)).unwrap().unwrap().run.files.len(), 50);
    }
}
