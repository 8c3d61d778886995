//! The pure core in random worlds: crashes, lost and late hints, slow and doubled results.
//!
//! `DAGD_SIM_WORLDS=20000` lives through more worlds, `DAGD_SIM_SEED=17` through that one alone and
//! tells what happened in it. Many worlds are six times faster with
//! `CARGO_PROFILE_TEST_OPT_LEVEL=1`; for a few the longer build does not pay.

mod sim;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use sim::chaos;
use sim::world::{Mutation, World};

/// Worlds that every test run lives through.
const WORLDS: u64 = 1500;
/// Worlds within which each broken shell must be found out.
const CONTROLS: u64 = 2000;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Lives through a world. An `Err` is what did not hold.
fn live(world: &mut World) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let lived = panic::catch_unwind(AssertUnwindSafe(|| chaos::live(world)));
    QUIET.set(false);
    lived.map_err(|why| {
        let text = why.downcast_ref::<String>().cloned();
        text.or_else(|| why.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// Lives through the world of `seed` once more, with a trace.
fn traced(seed: u64) -> (World, Result<(), String>) {
    let mut world = World::new(seed, None);
    world.trace = Some(Vec::new());
    let lived = live(&mut world);
    (world, lived)
}

fn hash(seed: u64) -> Option<u64> {
    let mut world = World::new(seed, None);
    world.hash = Some(0xcbf2_9ce4_8422_2325);
    live(&mut world).ok().and(world.hash)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice() {
    let one = number("DAGD_SIM_SEED");
    let many = number("DAGD_SIM_WORLDS").unwrap_or(WORLDS);
    let (mut failed, mut runs, mut crashes) = (Vec::new(), 0, 0u64);
    let (mut duplicates, mut stamps, mut drained) = (0u64, 0u64, 0u64);
    for seed in one.map_or(0..many, |seed| seed..seed + 1) {
        let mut world = World::new(seed, None);
        if let Err(why) = live(&mut world) {
            failed.push((seed, why));
        }
        runs += world.store.ended.len() as u64;
        crashes += u64::from(world.crashes);
        duplicates += u64::from(world.duplicates);
        stamps += u64::from(world.stamps);
        drained += u64::from(world.drained);
        if seed % 50 == 0 {
            assert_eq!(hash(seed), hash(seed), "seed {seed}: the same world twice");
        }
        if failed.len() >= 20 {
            break;
        }
    }
    if let Some((seed, _)) = failed.first() {
        let (world, lived) = traced(*seed);
        let trace = world.trace.unwrap_or_default().join("\n");
        let all: Vec<String> =
            failed.iter().map(|(s, why)| format!("{s}: {}", &why[..why.len().min(400)])).collect();
        panic!("{trace}\nseed {seed}: {lived:?}\nfailed:\n{}", all.join("\n"));
    }
    println!(
        "simulated {many} worlds: {runs} runs, {crashes} crashes, {duplicates} duplicates, {stamps} times set, \
         {drained} runs of what was left, no violation"
    );
    if one.is_none() {
        assert!(runs > many, "the worlds are not idle: {runs} runs");
        assert!(drained > 0, "triggers leave something behind");
        assert!(crashes > many / 2, "the worlds are not safe: {crashes} crashes");
    }
}

/// Hours that a long life takes, and worlds that live one.
const HOURS: u64 = 24;
const LONG_LIVES: u64 = 12;

#[test]
fn what_is_remembered_levels_off() {
    let mut most = BTreeMap::new();
    for seed in 0..LONG_LIVES {
        let mut world = World::new(seed, None);
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        let mut hour = 0;
        chaos::live_long(&mut world, HOURS, |world| {
            hour += 1;
            let half = if hour <= HOURS / 2 { &mut first } else { &mut second };
            for (name, size) in world.machine().sizes() {
                let top: &mut usize = half.entry(name).or_default();
                *top = size.max(*top);
            }
        });
        for (name, later) in second {
            let before = first[name];
            assert!(
                later <= before + before / 4 + 16,
                "seed {seed}: {name}: {before}, then {later}"
            );
            let top: &mut usize = most.entry(name).or_default();
            *top = later.max(*top);
        }
    }
    println!("{LONG_LIVES} lives of {HOURS} hours; entries at rest, at most: {most:?}");
}

/// The first world in which the broken shell is found out.
fn found_out(mutation: Mutation) -> Option<(u64, String)> {
    (0..CONTROLS).find_map(|seed| {
        let mut world = World::new(seed, Some(mutation));
        live(&mut world).err().map(|why| (seed, why))
    })
}

#[test]
fn acting_before_the_commit_is_found_out() {
    assert!(found_out(Mutation::ActFirst).is_some());
}

#[test]
fn orphans_of_a_crash_are_found_out() {
    assert!(found_out(Mutation::Orphans).is_some());
}

#[test]
fn results_without_fencing_are_found_out() {
    assert!(found_out(Mutation::NoFencing).is_some());
}

#[test]
fn events_before_the_end_of_recovery_are_found_out() {
    assert!(found_out(Mutation::EarlyEvents).is_some());
}
