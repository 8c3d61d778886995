//! Attempts as processes of this machine: from a `Start` to an `Ended`.
//!
//! Reading order is the order of the data: [`base`] and [`mod@prepare`] (with [`vars`], [`env_file`], [`credentials`] and
//! [`event_files`]) turn a start into exact bytes; [`slots`] runs them, one thread per running
//! attempt, by way of [`spawn`], [`table`] (who may be signalled), [`death`] (how a process ended), [`orphans`] (what a task left
//! behind), [`output`] (its log, tended by [`keeper`]) and [`outputs`] (what it wrote for its
//! dependents). Where a task asks for more than a plain process, [`order`] is what [`child`] (dagd
//! itself, in place of the program) is told to do before; [`cgroup`] keeps an attempt together, as far
//! as there are [`means`] for that; [`watcher`] lets it go on without dagd (which waits until it has begun: [`beginnings`]), [`left`] is what it leaves ([`mod@age`]: for how long it has run), and [`adopted`] sees out what an earlier dagd has left; [`users`] looks accounts up. [`mod@sweep`] clears away at boot what an earlier dagd left running. Nothing here
//! decides what starts, or what an end means.

pub mod adopted;
pub mod age;
pub mod base;
pub mod beginnings;
pub mod blot;
pub mod cgroup;
pub mod child;
pub mod credentials;
pub mod death;
pub mod env_file;
pub mod event_files;
pub mod keeper;
pub mod launch;
pub mod left;
pub mod means;
pub mod order;
pub mod orphans;
pub mod output;
pub mod outputs;
pub mod prepare;
pub mod slots;
pub mod spawn;
pub mod sweep;
pub mod table;
pub mod token;
pub mod users;
pub mod vars;
pub mod watcher;

pub use self::adopted::Adopted;
pub use self::base::Base;
pub use self::event_files::{has_event_files, remove_event_files, write_event_files};
pub use self::launch::unstarted;
pub use self::means::Means;
pub use self::prepare::{Dirs, Exec, prepare};
pub use self::slots::Slots;
pub use self::sweep::{become_subreaper, keep_descriptors, sweep};
