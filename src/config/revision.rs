//! What is configured about a trigger, key by key, and the hash of all of it.
//!
//! A reload tells by the hash that a trigger changed, and by the facts in what.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::core::path::Bytes;
use crate::core::trigger::{Folder, FolderSpec, ScheduleSpec, Source, TriggerSpec};

/// 16 hexadecimal digits over all settings of `spec`.
pub fn of(spec: &TriggerSpec) -> Arc<str> {
    let all = json!([spec.name, facts(spec)]).to_string();
    blake3::hash(all.as_bytes()).to_hex()[..16].into()
}

/// Every setting of a trigger under the key that sets it.
pub fn facts(spec: &TriggerSpec) -> Vec<(&'static str, Value)> {
    // Every field is named here and below, so that one that is added cannot be forgotten.
    let TriggerSpec {
        name: _,
        source,
        select,
        overlap,
        max_runs,
        order_key,
        rate_limit,
        on_removal,
        rev: _,
    } = spec;
    let mut facts = vec![
        ("run", json!(select)),
        ("on_overlap", json!(overlap)),
        ("max_runs", json!(max_runs)),
        ("order_key", json!(order_key)),
        ("rate_limit", json!(rate_limit)),
        ("on_removal", json!(on_removal)),
    ];
    match source {
        Source::Folder(folder) => facts.extend(folder_facts(folder)),
        Source::Signal { signo, name, sender_uid } => {
            facts.push(("signal", json!([signo, name])));
            facts.push(("sender_uid", json!(sender_uid)));
        }
        Source::Schedule(spec) => {
            let ScheduleSpec { schedule, catch_up } = &**spec;
            facts.push(("schedule or timezone", json!(schedule.id())));
            facts.push(("catch_up", json!(catch_up)));
        }
        Source::Absent { after, of } => {
            facts.push(("absent", json!(after)));
            facts.push(("of", json!(of)));
        }
    }
    facts
}

#[expect(clippy::too_many_lines, reason = "a table: a line for each key")]
fn folder_facts(spec: &FolderSpec) -> Vec<(&'static str, Value)> {
    let FolderSpec {
        folder,
        root,
        recursive,
        min_depth,
        max_depth,
        follow_symlinks,
        cross_filesystem,
        gitignore,
        backend,
        poll_interval,
        reconcile_interval,
        filter,
        file_type,
        min_size,
        max_size,
        kinds,
        read_lock,
        stability_threshold,
        min_age,
        settle,
        settle_empty,
        max_wait,
        done_file,
        checksum_file,
        ready_alarm,
        fan_out,
        set_key,
        set,
        batch_max_files,
        batch_max_wait,
        sort_by,
        idempotent_key,
        initial_scan,
        initial_max,
        renamed_from,
        pre_move,
        move_to,
        move_failed,
        delete,
        on_conflict,
        max_hops,
    } = spec;
    let word = if *folder == Folder::Drop { "drop" } else { "watch" };
    let default_wait = spec.default_batch_wait();
    vec![
        (word, json!(Bytes::from(root.as_path()))),
        ("recursive", json!(recursive)),
        ("min_depth", json!(min_depth)),
        ("max_depth", json!(max_depth)),
        ("follow_symlinks", json!(follow_symlinks)),
        ("cross_filesystem", json!(cross_filesystem)),
        ("gitignore", json!(gitignore)),
        ("backend", json!(backend)),
        ("poll_interval", json!(poll_interval)),
        ("reconcile_interval", json!(reconcile_interval)),
        // Shows the patterns and both switches; nothing else of it is configured.
        ("include or exclude", json!(format!("{filter:?}"))),
        ("file_type", json!(file_type)),
        ("min_size", json!(min_size)),
        ("max_size", json!(max_size)),
        ("kinds", json!(kinds)),
        ("read_lock", json!(read_lock)),
        ("stability_threshold", json!(stability_threshold)),
        ("min_age", json!(min_age)),
        ("settle", json!([settle, settle_empty])),
        ("max_wait", json!(max_wait)),
        ("done_file", json!(done_file)),
        ("checksum_file", json!(checksum_file)),
        ("ready_alarm", json!(ready_alarm)),
        ("fan_out", json!(fan_out)),
        ("set_key", json!(format!("{set_key:?}"))),
        ("set", json!(format!("{set:?}"))),
        ("batch_max_files", json!(batch_max_files)),
        // The default follows from other keys, which are told anyway.
        ("batch_max_wait", json!(Some(*batch_max_wait).filter(|wait| *wait != default_wait))),
        ("sort_by", json!(sort_by)),
        ("idempotent_key", json!(idempotent_key)),
        ("initial_scan", json!(initial_scan)),
        ("initial_max", json!(initial_max)),
        ("renamed_from", json!(renamed_from)),
        ("pre_move", json!(pre_move)),
        ("move", json!(move_to)),
        ("move_failed", json!(move_failed)),
        ("delete", json!(delete)),
        ("on_conflict", json!(on_conflict)),
        ("max_hops", json!(max_hops)),
    ]
}
