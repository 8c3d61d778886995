//! The store against a real file system: what goes in comes out, whatever happens in between.

#[cfg(test)]
#[path = "store/common.rs"]
mod common;
#[cfg(test)]
#[path = "store/crash.rs"]
mod crash;
#[cfg(test)]
#[path = "store/full.rs"]
mod full;
#[path = "common/mod.rs"]
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod harness;
#[cfg(test)]
#[path = "store/history.rs"]
mod history;
#[cfg(test)]
#[path = "store/ledger.rs"]
mod ledger;
#[cfg(test)]
#[path = "store/open.rs"]
mod open;
#[cfg(test)]
#[path = "store/records.rs"]
mod records;
#[cfg(test)]
#[path = "store/speed.rs"]
mod speed;
#[cfg(test)]
#[path = "store/sync.rs"]
mod sync;
#[cfg(test)]
#[path = "store/triggers.rs"]
mod triggers;
