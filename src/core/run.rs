//! stub
use super::record::RunCreated;
/// What is fixed about a run when it is created.
pub type RunInfo = RunCreated;
