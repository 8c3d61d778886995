//! Requests from the control socket: into the machine, or answered with a look at it.

use tokio::sync::oneshot;

use super::engine::Engine;
use super::reload::{Cause, Reloader};
use super::{view, waiting};
use crate::core::event::Event;
use crate::core::id::Attempt;
use crate::core::record::Record;
use crate::io::control::{Ask, LiveLog};
use crate::io::store::log_name;
use crate::io::watch::WatchHandle;

/// Events of which it is remembered which run they became: whoever asks does so within moments.
const BECAME_MAX: usize = 1024;

impl Engine {
    /// Turns a request into an event; those that only look are answered after the commit. What
    /// nobody waits for any more is not begun: who asked may have asked again.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<Event> {
        match ask {
            left if left.is_given_up() => None,
            Ask::Request(request, reply) => {
                self.next_token += 1;
                let token = self.next_token;
                self.replies.insert(token, reply);
                Some(Event::Requested { token, request })
            }
            Ask::Reload(reply) => {
                self.reload(Cause::Request, Some(reply));
                None
            }
            Ask::Stop(reply) => {
                reply.send(()).ok();
                self.tell_stopping();
                Some(Event::StopRequested)
            }
            look @ (Ask::Status(_)
            | Ask::Pending(_)
            | Ask::Stuck(..)
            | Ask::Wait(..)
            | Ask::Item(..)
            | Ask::LiveLog(..)) => {
                self.looks.push(look);
                None
            }
        }
    }

    /// Answers a request that only looks. Nobody is there to be told if the asker has gone.
    pub(super) fn answer_look(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => {
                reply.send(self.status_view()).ok();
            }
            Ask::Pending(reply) => {
                let now = self.clock.now();
                reply.send(waiting::pending(&self.machine, now)).ok();
            }
            Ask::Stuck(run, reply) => {
                let now = self.clock.now();
                reply.send(waiting::stuck(&self.machine, run, now)).ok();
            }
            Ask::Wait(run, reply) => {
                if self.machine.runs().contains_key(&run) {
                    add(self.waiters.entry(run).or_default(), reply);
                }
            }
            Ask::Item(item, reply) => {
                if self.machine.items().contains_key(&item) {
                    add(self.queued.entry(item).or_default(), reply);
                } else if let Some((_, run)) = self.became.iter().find(|(of, _)| *of == item) {
                    reply.send(*run).ok();
                }
            }
            Ask::LiveLog(attempt, reply) => {
                let LiveLog { run, task, attempt } = attempt;
                let name = log_name(run, &task, Attempt(attempt));
                if let Some(path) = self.ports.slots.live_log(&self.dirs.logs.join(name)) {
                    reply.send(path).ok();
                }
            }
            Ask::Request(..) | Ask::Reload(_) | Ask::Stop(_) => {}
        }
    }

    /// Tells who waits for an accepted event which run it has become.
    pub(super) fn tell_items(&mut self, records: &[Record]) {
        for record in records {
            let (items, run) = match record {
                Record::RunCreated(created) => (created.items.as_slice(), Some(created.run)),
                Record::ItemDropped { item, .. } => (std::slice::from_ref(item), None),
                _ => continue,
            };
            self.became.extend(run.iter().flat_map(|run| items.iter().map(|item| (*item, *run))));
            self.became.drain(..self.became.len().saturating_sub(BECAME_MAX));
            for waiting in items.iter().filter_map(|item| self.queued.remove(item)).flatten() {
                // Dropped unanswered: it waits no more. Nobody is told if the asker has gone.
                if let Some(run) = run {
                    waiting.send(run).ok();
                }
            }
        }
    }

    fn status_view(&self) -> crate::wire::Status {
        let overflows = self.ports.watch.as_ref().map_or(0, WatchHandle::overflows);
        let unwatched = self.ports.reloader.as_ref().and_then(Reloader::lack);
        let unwatched = unwatched.map(|lack| lack.to_string());
        let beside = (overflows, unwatched);
        view::status(&self.machine, &self.status, &self.coverage(), beside, self.clock.now())
    }
}

/// Adds who waits, in place of who has gone: no more are kept than there are connections.
fn add<T>(waiting: &mut Vec<oneshot::Sender<T>>, new: oneshot::Sender<T>) {
    waiting.retain(|sender| !sender.is_closed());
    waiting.push(new);
}
