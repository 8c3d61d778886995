//! The life of a world: a time of chaos, then a fair time in which it must come to rest.

use std::sync::Arc;

use dagd::core::event::{Event, Fire, FireFile, FireWhat, Request, RetryOf};
use dagd::core::id::{Name, Wall};
use dagd::core::record::{FileClaim, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::trigger::Source;

use super::checks;
use super::exec::place_of;
use super::models::{self, TRIGGERS};
use super::watch::{names, root};
use super::world::World;

/// Actions of a time of chaos.
const ACTIONS: usize = 60;
/// Small steps that a world may take to come to rest. Worlds need a few hundred.
const STEPS_MAX: usize = 20_000;

/// Lives through the world.
pub(crate) fn live(world: &mut World) {
    for _ in 0..world.rng.below(if world.disk.narrow { 20 } else { 4 }) {
        touch(world);
    }
    world.boot();
    let mut actions = 1 + world.rng.below(ACTIONS);
    if world.disk.narrow || world.disk.calm {
        actions *= 2;
    }
    let pace = match (world.disk.calm, world.seed % 8) {
        (false, _) => 25,
        (true, 2) => 3,
        (true, _) => 7,
    };
    happen(world, actions, pace);
    come_to_rest(world);
    checks::fold(world);
    checks::quiet(world);
}

/// Lives through so many simulated hours; `each` looks at what is left at the end of each.
pub(crate) fn live_long(world: &mut World, hours: u64, mut each: impl FnMut(&World)) {
    const HOUR: u64 = 3_600_000_000_000;
    world.boot();
    for hour in 1..=hours {
        world.faulty = true;
        happen(world, ACTIONS, 15);
        come_to_rest(world);
        world.now = world.now.max(hour * HOUR);
        let before = Wall(world.now().wall.0 - i64::try_from(HOUR).expect("in range"));
        world.asks.push(Event::Expired { before });
        rest(world);
        checks::fold(world);
        each(world);
    }
}

fn happen(world: &mut World, mut actions: usize, pace: usize) {
    while actions > 0 {
        if world.rng.chance(pace) {
            actions -= 1;
            action(world);
        } else {
            step(world);
        }
    }
}

fn come_to_rest(world: &mut World) {
    world.faulty = false;
    for place in world.disk.close_all() {
        world.hint(&place);
    }
    // Some wait for a done file, and nothing but its hint tells that it comes now.
    rest(world);
    let now = world.now;
    for place in world.disk.finish(&mut world.rng, now) {
        world.hint(&place);
    }
    rest(world);
    // A pause is no end: take it back, and rest once more.
    for trigger in TRIGGERS {
        world.asks.push(ask(Request::Resume { trigger: trigger.into() }));
    }
    rest(world);
}

fn ask(request: Request) -> Event {
    Event::Requested { token: 1, request }
}

/// Something small happens, somewhere.
fn step(world: &mut World) {
    match world.rng.below(9) {
        0..3 => {
            if world.has_events() {
                world.turn();
            }
        }
        3 | 4 => {
            let at = world.rng.below(world.threads.len());
            world.watch_step(at);
        }
        5 => {
            let now = world.now().wall;
            world.exec.end_one(now, &mut world.rng);
        }
        6 => dispose(world),
        7 => world.check_step(),
        _ => {
            let pause = world.rng.pick(&[1, 20, 150, 2000, 11_000, 11_000, 100_000]);
            world.now += pause * 1_000_000;
        }
    }
}

/// Goes on until nothing can happen any more. What can happen does so in any order.
fn rest(world: &mut World) {
    for _ in 0..STEPS_MAX {
        let busy = (0..world.threads.len()).find(|at| !world.threads[*at].is_idle());
        let can =
            [world.has_events(), busy.is_some(), !world.checker.is_idle(), !world.exec.is_idle()];
        let can: Vec<usize> = (0..can.len()).filter(|at| can[*at]).collect();
        if can.is_empty() {
            let Some(at) = world.machine().next_deadline() else { return };
            world.now = world.now.max(at.0);
            continue;
        }
        match (world.rng.pick(&can), busy) {
            (0, _) => world.turn(),
            (1, Some(at)) => world.watch_step(at),
            (2, _) => world.check_step(),
            _ => {
                let now = world.now().wall;
                world.exec.end_one(now, &mut world.rng);
                dispose(world);
            }
        }
    }
    assert_eq!(0, STEPS_MAX, "the world comes to rest");
}

fn dispose(world: &mut World) {
    let faulty = world.faulty;
    let (now, rng) = (world.now, &mut world.rng);
    let left = world.exec.dispose_one(&mut world.disk, rng, now, faulty);
    if let Some(place) = left {
        world.hint(&place);
    }
}

/// The disk changes.
fn touch(world: &mut World) {
    let places = world.disk.change(&mut world.rng, world.now);
    for (place, stamped) in &places {
        world.hint_at(place, *stamped);
    }
    world.say(|| format!("disk: {places:?}"));
}

fn action(world: &mut World) {
    let trigger: Name = world.rng.pick(&TRIGGERS).into();
    let restless = world.restless && world.rng.chance(25);
    let most = if world.disk.calm && world.rng.chance(90) { 20 } else { 40 };
    let event = match world.rng.below(most) {
        _ if restless => Some(reload(world)),
        0..20 => return touch(world),
        20..27 => signals(world, &trigger),
        27..29 => fire(world, trigger),
        29 => retry(world),
        30 | 31 => cancel(world),
        32 => Some(ask(Request::Pause { trigger })),
        33 | 34 => Some(ask(Request::Resume { trigger })),
        35 | 36 => return world.kill(),
        37 => Some(Event::StopRequested),
        38 if world.rng.chance(if world.disk.narrow { 10 } else { 50 }) => Some(reload(world)),
        _ => {
            // A hint for nothing.
            let place = world.disk.files.keys().next().cloned();
            if let Some(place) = place {
                world.hint(&place);
            }
            None
        }
    };
    world.asks.extend(event);
}

/// Another configuration, or what has left it long ago is forgotten.
fn reload(world: &mut World) -> Event {
    if world.rng.chance(15) {
        return Event::Expired { before: world.now().wall };
    }
    let model = models::changed(&mut world.rng, &world.model, &world.former, world.restless);
    Event::Reloaded(Arc::new(model))
}

/// A signal, or several that have to wait, and the trigger goes or changes over it.
fn signals(world: &mut World, trigger: &Name) -> Option<Event> {
    if !world.rng.chance(20) {
        return signal(world, trigger.clone());
    }
    for _ in 0..4 {
        let event = signal(world, trigger.clone());
        world.asks.extend(event);
    }
    Some(reload(world))
}

fn signal(world: &mut World, trigger: Name) -> Option<Event> {
    let spec = world.model.triggers.get(&trigger)?;
    let signal = matches!(spec.source, Source::Signal { .. });
    let value = Some(i32::from(world.rng.chance(50)));
    let info = SignalInfo { value, ..SignalInfo::bare("SIGUSR1") };
    signal.then_some(Event::Signalled { trigger, info })
}

fn fire(world: &mut World, trigger: Name) -> Option<Event> {
    if world.rng.chance(30) {
        let select = Selector::parse("*").expect("a constant selector parses");
        let fire = Fire { what: FireWhat::Select(select), files: Vec::new() };
        return Some(ask(Request::Fire(fire)));
    }
    let spec = world.model.triggers.get(&trigger)?.clone();
    let files = spec.folder().filter(|_| world.rng.chance(70)).map(|folder| {
        let names = names(&world.disk, folder);
        let place = names.first().map(|rel| (root(folder), rel.clone()));
        // Whoever asks has looked just now, and nobody is writing.
        let file = place.and_then(|place| Some((place.clone(), world.disk.files.get(&place)?)));
        let file = file.filter(|(_, file)| !file.writing);
        let file = file.map(|((root, rel), file)| FireFile {
            path: root.join(rel.as_bytes()),
            rel,
            version: file.version.clone(),
            in_place: true,
        });
        file.into_iter().collect()
    });
    let fire = Fire { what: FireWhat::Trigger(trigger), files: files.unwrap_or_default() };
    // Nothing may come between the look and the event.
    world.asks.insert(0, ask(Request::Fire(fire)));
    world.turn();
    None
}

fn retry(world: &mut World) -> Option<Event> {
    let runs: Vec<_> = world.store.ended.keys().copied().collect();
    if runs.is_empty() {
        return None;
    }
    let run = world.rng.pick(&runs);
    let ended = world.store.ended[&run].clone();
    let keep = if world.rng.chance(50) { ended.succeeded.clone() } else { Vec::new() };
    let keep = keep.into_iter().map(|name| (name, [].into())).collect();
    let created = ended.created.clone();
    let of = RetryOf {
        run,
        trigger: created.trigger.clone(),
        select: created.select.clone(),
        signal: created.signal.clone(),
        scheduled: created.scheduled,
        keep,
    };
    let files = if world.rng.chance(50) { left_files(world, &ended.files) } else { Vec::new() };
    let fire = Fire { what: FireWhat::Retry(Box::new(of)), files };
    // Nothing may come between the look and the event.
    world.asks.insert(0, ask(Request::Fire(fire)));
    world.turn();
    None
}

/// Those of a run's files that lie where the run has left them.
fn left_files(world: &World, files: &[FileClaim]) -> Vec<FireFile> {
    let there = |claim: &&FileClaim| {
        let place = place_of(claim);
        let at = if claim.in_place {
            world.disk.files.get(&place)
        } else {
            world.disk.elsewhere.get(&claim.path)
        };
        at.is_some_and(|file| file.version == claim.version && !file.writing)
    };
    let file = |claim: &FileClaim| FireFile {
        rel: claim.rel.clone(),
        path: claim.path.clone(),
        version: claim.version.clone(),
        in_place: claim.in_place,
    };
    files.iter().filter(there).map(file).collect()
}

fn cancel(world: &mut World) -> Option<Event> {
    let runs = world.live_runs();
    if runs.is_empty() {
        return None;
    }
    let run = world.rng.pick(&runs);
    let task = world.rng.chance(50).then(|| format!("t{}", world.rng.below(7)).as_str().into());
    Some(ask(Request::Cancel { run, task }))
}
