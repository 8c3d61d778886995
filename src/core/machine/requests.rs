//! What people and signals ask for: starts, cancels, pauses.

use super::Machine;
use super::lane::{Gate, ITEMS_MAX, Lane};
use crate::core::candidate::{Kind, Stage};
use crate::core::effect::{Command, Out, Reply};
use crate::core::event::{Fire, FireFile, FireWhat, Request};
use crate::core::id::{AttemptId, Name, Now, RunId, Wall};
use crate::core::record::{FileClaim, ItemQueued, Reason, Record, SignalInfo};
use crate::core::task::StopCause;
use crate::core::trigger::{Overlap, Source};

impl Machine {
    /// A signal came for a trigger.
    pub(super) fn signalled(&mut self, now: Now, trigger: &Name, info: SignalInfo, out: &mut Out) {
        if self.lanes.contains_key(trigger) {
            let blank = self.blank_item(now, trigger, Reason::Signal);
            self.came(now, trigger, ItemQueued { signal: Some(info), ..blank }, out);
        }
    }

    /// An event with nothing in it but where it came from, and why.
    pub(super) fn blank_item(&self, now: Now, trigger: &Name, reason: Reason) -> ItemQueued {
        ItemQueued {
            item: self.fresh_item(),
            trigger: Some(trigger.clone()),
            select: None,
            reason,
            signal: None,
            scheduled: None,
            files: Vec::new(),
            parent: None,
            keep: Vec::new(),
            at: now.wall,
        }
    }

    /// An event without a file came for a trigger: it waits, or what its policy says happens.
    pub(super) fn came(&mut self, now: Now, trigger: &Name, queued: ItemQueued, out: &mut Out) {
        let Some(lane) = self.lanes.get(trigger) else { return };
        let key = lane.key(None, queued.signal.as_ref());
        let busy = lane.is_busy(&key);
        let overlap = lane.spec.overlap;
        let item = queued.item;
        self.drop_oldest(now, trigger, out);
        self.queue(now, queued, out);
        let dropped = match overlap {
            Overlap::Queue | Overlap::Coalesce | Overlap::Parallel => None,
            Overlap::Restart => {
                if busy {
                    self.restart(now, trigger, &key, out);
                }
                None
            }
            Overlap::Skip => busy.then_some("on_overlap = \"skip\": a run was alive"),
            Overlap::Signal(signo) => {
                if busy {
                    self.tell(trigger, &key, signo, out);
                }
                busy.then_some("on_overlap = \"signal\": the running tasks were told")
            }
        };
        if let Some(reason) = dropped {
            let (trigger, reason) = (Some(trigger.clone()), reason.to_owned());
            self.emit(now, Record::ItemDropped { item, trigger, reason, at: now.wall }, out);
        }
    }

    /// Makes room for one more event, where the kernel does not keep it: those that wait to be
    /// merged lose nothing by it, and time goes on whether there is room or not.
    fn drop_oldest(&mut self, now: Now, trigger: &Name, out: &mut Out) {
        let lane = &self.lanes[trigger];
        let reason = match (lane.spec.overlap, &lane.spec.source) {
            (Overlap::Coalesce, _) => {
                "on_overlap = \"coalesce\": merged with those after it".to_owned()
            }
            (_, Source::Schedule(_) | Source::Absent { .. }) => {
                format!("{ITEMS_MAX} events wait already, and it was the oldest")
            }
            (_, Source::Signal { .. } | Source::Folder(_)) => return,
        };
        let oldest = lane.items.oldest_to_merge().filter(|_| lane.items.len() >= ITEMS_MAX);
        if let Some(item) = oldest {
            let trigger = Some(trigger.clone());
            self.emit(now, Record::ItemDropped { item, trigger, reason, at: now.wall }, out);
        }
    }

    /// Whether all triggers can take another signal. If not, the kernel has to keep them.
    pub fn has_room_for_signals(&self) -> bool {
        let full = |lane: &Lane| {
            let merges = lane.spec.overlap == Overlap::Coalesce;
            let signal = matches!(lane.spec.source, Source::Signal { .. });
            signal && !merges && lane.items.len() >= ITEMS_MAX
        };
        !self.lanes.values().any(full)
    }

    /// A person asked for something.
    pub(super) fn request(&mut self, now: Now, token: u64, request: Request, out: &mut Out) {
        let reply = match request {
            Request::Fire(fire) => self.fire(now, token, fire, out),
            Request::Cancel { run, task } => Some(self.cancel(now, run, task.as_deref(), out)),
            Request::Pause { trigger } => Some(self.pause(now, trigger, out)),
            Request::Resume { trigger } => Some(self.resume(now, &trigger, out)),
        };
        out.commands.extend(reply.map(|reply| Command::Reply { token, reply }));
    }

    /// Accepts a start by hand. The answer comes at the end of the step.
    fn fire(&mut self, now: Now, token: u64, fire: Fire, out: &mut Out) -> Option<Reply> {
        if self.stopping.is_some() {
            return Some(Reply::Refused("dagd is stopping".to_owned()));
        }
        let item = self.fresh_item();
        let files = fire.files.into_iter().map(|file| claim(file, now.wall)).collect();
        let blank = ItemQueued {
            item,
            trigger: None,
            select: None,
            reason: Reason::Manual,
            signal: None,
            scheduled: None,
            files,
            parent: None,
            keep: Vec::new(),
            at: now.wall,
        };
        let queued = match fire.what {
            FireWhat::Trigger(name) | FireWhat::Replay(name) if !self.lanes.contains_key(&name) => {
                return Some(Reply::NotFound(format!("no trigger `{name}`")));
            }
            FireWhat::Trigger(name) => ItemQueued { trigger: Some(name), ..blank },
            FireWhat::Replay(name) => {
                ItemQueued { trigger: Some(name), reason: Reason::Replay, ..blank }
            }
            FireWhat::Select(select) => ItemQueued { select: Some(select), ..blank },
            FireWhat::Retry(of) => ItemQueued {
                trigger: of.trigger.filter(|name| self.lanes.contains_key(name)),
                select: Some(of.select),
                reason: Reason::Retry,
                signal: of.signal,
                scheduled: of.scheduled,
                parent: Some(of.run),
                keep: of.keep,
                ..blank
            },
        };
        if let Some(select) = &queued.select
            && select.eval(&self.model.graph).is_empty()
        {
            let why = format!("`{select}` selects no task; `dagd graph` shows them");
            return Some(Reply::NotFound(why));
        }
        let lane = queued.trigger.as_ref().and_then(|name| self.lanes.get(name));
        if lane.map_or(self.loose.len(), |lane| lane.items.len()) >= ITEMS_MAX {
            return Some(Reply::Refused(format!("{ITEMS_MAX} starts wait already")));
        }
        if let Some(busy) = self.in_hand(&queued) {
            return Some(Reply::Refused(busy));
        }
        self.queue(now, queued, out);
        self.asked.push((token, item));
        None
    }

    /// Why a start by hand is refused: one of its files is being worked on, or will be.
    fn in_hand(&self, queued: &ItemQueued) -> Option<String> {
        let lane = self.lanes.get(queued.trigger.as_ref()?)?;
        queued.files.iter().filter(|file| file.in_place).find_map(|file| {
            let path = || file.path.lossy();
            match lane.candidates.get(&file.rel).map(|candidate| &candidate.stage) {
                Some(Stage::Claimed { run, .. }) => {
                    Some(format!("run {run} is working on {}", path()))
                }
                Some(Stage::Ready | Stage::Checking { .. } | Stage::Pending(..)) | None => {
                    let waits = lane.items.has_file(&file.rel);
                    waits.then(|| format!("{} waits for a run already", path()))
                }
            }
        })
    }

    fn cancel(&mut self, now: Now, id: RunId, task: Option<&str>, out: &mut Out) -> Reply {
        let Some(run) = self.runs.get(&id) else {
            return Reply::NotFound(format!("no live run {id}"));
        };
        let Some(task) = task else {
            if run.verdict().is_some() {
                return self.give_up_moves(now, id, out);
            }
            self.cancel_run(now, id, "cancelled by request", out);
            return Reply::Done;
        };
        let Some(place) = run.graph().find(task).and_then(|ix| run.place(ix)) else {
            return Reply::NotFound(format!("run {id} has no task `{task}`"));
        };
        let node = run.plan().nodes()[place].ix;
        let state = run.nodes()[place].state;
        if state.is_final() {
            let word = state.word();
            return Reply::Refused(format!("task `{task}` of run {id} has ended: {word}"));
        }
        let reason = "cancelled by request".to_owned();
        let record = Record::CancelRequested { run: id, node: Some(node), reason, at: now.wall };
        self.emit(now, record, out);
        let mine = |a: &&AttemptId| a.run == id && a.node == node;
        if let Some(attempt) = self.in_flight().keys().find(mine).copied() {
            self.stop_attempt(now, attempt, StopCause::Cancel, out);
        }
        Reply::Done
    }

    /// Cancels a run: what has not started never will, what runs is asked to end.
    pub(super) fn cancel_run(&mut self, now: Now, id: RunId, reason: &str, out: &mut Out) {
        let reason = reason.to_owned();
        self.emit(now, Record::CancelRequested { run: id, node: None, reason, at: now.wall }, out);
        let always = |attempt: &AttemptId| {
            let rule = self.runs[&id].graph().task(attempt.node).rule;
            rule == crate::core::task::Rule::Always
        };
        let mine: Vec<_> =
            self.in_flight().keys().filter(|a| a.run == id && !always(a)).copied().collect();
        for attempt in mine {
            self.stop_attempt(now, attempt, StopCause::Cancel, out);
        }
        self.fail_stuck(now, id, out);
    }

    fn pause(&mut self, now: Now, trigger: Name, out: &mut Out) -> Reply {
        match self.lanes.get(&trigger) {
            None => Reply::NotFound(format!("no trigger `{trigger}`")),
            Some(lane) if lane.stored.paused.is_some() => Reply::Done,
            Some(_) => {
                let reason = "by request".to_owned();
                self.emit(
                    now,
                    Record::TriggerPaused { trigger, reason, flooded: false, at: now.wall },
                    out,
                );
                Reply::Done
            }
        }
    }

    fn resume(&mut self, now: Now, trigger: &Name, out: &mut Out) -> Reply {
        let Some(lane) = self.lanes.get(trigger) else {
            let paused = self.dormant.get(trigger).is_some_and(|stored| stored.paused.is_some());
            if !paused {
                return Reply::NotFound(format!("no trigger `{trigger}`"));
            }
            // What waits of one that is not configured any more goes on.
            let trigger = trigger.clone();
            self.emit(now, Record::TriggerResumed { trigger, at: now.wall }, out);
            return Reply::Done;
        };
        // Another pause may be taken back while the count is still out: that decides nothing.
        let first = lane.gate == Gate::Counting && lane.stored.flooded;
        if lane.stored.paused.is_some() {
            let trigger = trigger.clone();
            self.emit(now, Record::TriggerResumed { trigger, at: now.wall }, out);
        }
        if first {
            self.open_gate(now, trigger, out);
            out.commands.push(Command::Scan { trigger: trigger.clone() });
        }
        for rel in self.release_brakes(trigger) {
            out.commands.push(Command::Look { trigger: trigger.clone(), rel });
        }
        Reply::Done
    }
}

fn claim(file: FireFile, at: Wall) -> FileClaim {
    let FireFile { rel, path, version, in_place } = file;
    let kind = Kind::Created;
    FileClaim { rel, path, kind, version, first_seen_at: at, in_place, key: None }
}

/// A signal, from its parts.
impl SignalInfo {
    /// A signal without sender or value.
    pub fn bare(signal: &str) -> Self {
        Self { signal: signal.into(), value: None, pid: None, uid: None }
    }
}
