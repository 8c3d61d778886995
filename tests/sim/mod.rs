//! A simulator for the pure core: random worlds from seeds, with one virtual clock.
//!
//! - [`models`]: random configurations
//! - [`disk`], [`watch`], [`check`], [`exec`], [`store`]: the fake surroundings
//! - [`world`]: the engine, and the crashes
//! - [`chaos`]: what people and programs do to it; how a world comes to rest
//! - [`checks`], [`oracle`]: what must hold

pub(crate) mod chaos;
pub(crate) mod world;

mod check;
mod checks;
mod disk;
mod exec;
mod models;
mod oracle;
mod rng;
mod store;
mod trace;
mod watch;
