//! Another configuration is in force: triggers come, stay, change and go.
//!
//! One that stays the same keeps all that it has: what waits, its timers, its place in every order.
//! Runs keep the graph that they began with.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Machine;
use super::lane::{Gate, Lane};
use super::waiting::Waiting;
use crate::core::candidate::Stage;
use crate::core::effect::{Command, Out};
use crate::core::id::{ItemId, Name, Now};
use crate::core::model::Model;
use crate::core::trigger::TriggerSpec;

impl Machine {
    /// A new configuration is in force for all that starts from now on. Runs keep their graph.
    pub(super) fn reload(&mut self, now: Now, model: Arc<Model>, out: &mut Out) {
        let gone = self.lanes.iter().filter(|(name, _)| !model.triggers.contains_key(*name));
        let gone: Vec<(Name, bool)> =
            gone.map(|(name, lane)| (name.clone(), lane.live_runs > 0)).collect();
        // A live run may yet give way, and come back as an event.
        for (name, _) in gone.iter().filter(|(_, live)| *live) {
            self.bind(now, name, out);
        }
        self.model = model;
        self.graphs.insert(self.model.graph.rev().clone(), self.model.graph.clone());
        for (name, _) in gone {
            self.leave(now, &name);
            self.remove_lane(&name, out);
        }
        self.find_listeners();
        for (name, spec) in self.model.triggers.clone() {
            let lane = self.lanes.remove(&name);
            let same = lane.as_ref().is_some_and(|lane| lane.spec.rev == spec.rev);
            let mut next = lane.unwrap_or_else(|| self.new_lane(now, &spec));
            self.hot.insert(name.clone());
            if same {
                next.configure(spec);
                self.lanes.insert(name, next);
                continue;
            }
            let unclaimed: Vec<_> = next
                .candidates
                .iter()
                .filter(|(_, candidate)| !matches!(candidate.stage, Stage::Claimed { .. }))
                .map(|(rel, _)| rel.clone())
                .collect();
            for rel in &unclaimed {
                next.forget(rel, now.mono);
            }
            if next.uncheck() {
                out.commands.push(Command::Uncheck { trigger: name.clone() });
            }
            next.configure(spec);
            self.lanes.insert(name.clone(), next);
            self.take_over(now, &name, out);
            self.end_time(&name);
            self.begin_lane(now, &name, out);
        }
        self.note_presence(now, out);
        self.recount();
        self.bind_waiting(now, out);
        self.drop_graphs();
        self.forget_names();
        self.schedule.offer_all(&self.model, now.mono);
    }

    /// Forgets what is only known of tasks and triggers that are nowhere any more.
    fn forget_names(&mut self) {
        let Self { model, graphs, durations, recent, .. } = self;
        recent.keep(|name| model.triggers.contains_key(name));
        let tasks = graphs.values().flat_map(|graph| graph.nodes().map(|ix| &graph.task(ix).name));
        let known: BTreeSet<&Name> = tasks.collect();
        durations.retain(|name, _| known.contains(name));
    }

    /// Starts a lane's first scan, or its catch-up.
    pub(super) fn begin_lane(&mut self, now: Now, name: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let Some(folder) = lane.spec.folder() else { return self.begin_time(now, name, out) };
        let limit = folder.initial_max;
        lane.gate = lane.first_gate();
        lane.caught_up = false;
        let trigger = name.clone();
        match lane.gate {
            Gate::Counting => out.commands.push(Command::Count { trigger, limit }),
            Gate::Baseline => out.commands.push(Command::Scan { trigger }),
            Gate::Open => {
                self.open_gate(now, name, out);
                out.commands.push(Command::Scan { trigger });
            }
        }
    }

    fn remove_lane(&mut self, name: &Name, out: &mut Out) {
        self.end_time(name);
        if let Some(mut lane) = self.lanes.remove(name) {
            if lane.uncheck() {
                out.commands.push(Command::Uncheck { trigger: name.clone() });
            }
            self.dormant.insert(name.clone(), lane.stored);
        }
        self.hot.remove(name);
    }

    /// The lane of a trigger that was not configured. It may have been before: what is stored of it
    /// holds, and its live runs have their files.
    fn new_lane(&mut self, now: Now, spec: &Arc<TriggerSpec>) -> Lane {
        let mut lane = Lane::new(spec.clone());
        lane.stored = self.dormant.remove(&spec.name).unwrap_or_default();
        lane.bucket = self.buckets.take(&spec.name, spec.rate_limit).or(lane.bucket);
        for item in self.leaving.remove(&spec.name).unwrap_or_default().into_keys() {
            lane.enqueue(&self.items[&item]);
        }
        for run in self.runs.values().filter(|r| r.info().trigger.as_ref() == Some(&spec.name)) {
            lane.add(run.info());
            for (_, file) in run.claims() {
                lane.claim(run.info(), &file.claim, now, self.seq);
            }
        }
        lane
    }

    /// Derives what is busy from the live runs, and what waits for it.
    pub(super) fn recount(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.live.clear();
            lane.stuck.clear();
            lane.live_runs = 0;
        }
        for run in self.runs.values() {
            let info = run.info();
            if let Some(lane) = info.trigger.as_ref().and_then(|name| self.lanes.get_mut(name)) {
                lane.live_runs += 1;
                *lane.live.entry(info.key.clone()).or_default() += 1;
                if self.stuck.range((info.run, 0)..=(info.run, u32::MAX)).next().is_some() {
                    lane.stuck.insert(info.run);
                }
            }
        }
        for lane in self.lanes.values_mut() {
            let ids: Vec<ItemId> = lane.items.ids().collect();
            lane.items = Waiting::default();
            for id in &ids {
                lane.enqueue(&self.items[id]);
            }
        }
    }
}
