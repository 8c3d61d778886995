//! The configuration as the core sees it: one immutable value, replaced as a whole by a reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::graph::Graph;
use super::id::Name;
use super::trigger::TriggerSpec;

/// Graph, triggers, pools and limits of one configuration.
#[derive(Debug)]
pub struct Model {
    /// All tasks.
    pub graph: Arc<Graph>,
    /// All triggers.
    pub triggers: BTreeMap<Name, Arc<TriggerSpec>>,
    /// The sizes of the pools.
    pub pools: BTreeMap<Name, u32>,
    /// Attempts in flight, at most.
    pub slots: usize,
    /// Runs that are alive, at most; further work waits in the ledger.
    pub max_live_runs: usize,
    /// How long running tasks may go on after a stop.
    pub stop_timeout: Duration,
    /// Whether attempts can go on without dagd, where their tasks say so.
    pub can_leave: bool,
}
