//! The content hash of a trigger.
//!
//! Covers everything that is configured about it, so that a reload can tell what changed.

use std::sync::Arc;

use serde_json::json;

use crate::core::trigger::{FolderSpec, Source, TriggerSpec};

/// 16 hexadecimal digits over all settings of `spec`.
pub fn of(spec: &TriggerSpec) -> Arc<str> {
    let source = match &spec.source {
        Source::Folder(folder) => folder_facts(folder),
        Source::Signal { signo, name, sender_uid } => json!([signo, name, sender_uid]),
    };
    let all = json!([spec.name, source, spec.select, spec.overlap, spec.max_runs, spec.order_key,]);
    blake3::hash(all.to_string().as_bytes()).to_hex()[..16].into()
}

fn folder_facts(folder: &FolderSpec) -> serde_json::Value {
    json!([
        folder.folder,
        crate::core::path::Bytes::from(folder.root.as_path()),
        folder.recursive,
        // Shows the patterns and both switches; nothing else of it is configured.
        format!("{:?}", folder.filter),
        folder.kinds,
        folder.read_lock,
        folder.stability_threshold,
        folder.settle,
        folder.settle_empty,
        folder.max_wait,
        folder.fan_out,
        folder.batch_max_files,
        folder.initial_scan,
        folder.initial_max,
        folder.move_to,
        folder.move_failed,
        folder.reconcile_interval,
    ])
}
