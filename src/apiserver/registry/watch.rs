//! Watch: what was there, what changes, bookmarks, the end.

use std::pin::Pin;
use std::time::Duration;

use api::{ApiError, WatchEvent, WatchOptions};
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use super::read::parse_version;
use super::refine::RefinedWatch;
use super::{Call, Registry, Resource};
use crate::cache::{Cut, Lagged, Start, Watcher};

/// How often a watch that allows bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);

impl Registry {
    pub(crate) async fn watch(&self, call: &Call<'_>, options: &WatchOptions) -> Result<Watch, ApiError> {
        let (filter, refine) = self.filters(call, &options.labels, &options.fields)?;
        let version = parse_version(options.resource_version.as_deref())?;
        let start = match (version, options.send_initial_events) {
            (_, Some(true)) => {
                self.reach(version).await?;
                Start::Present
            }
            (0, Some(false)) => Start::Now,
            (0, None) => Start::Present,
            (version, _) => Start::After(version),
        };
        let resumed = matches!(start, Start::After(_));
        if matches!(start, Start::Present) {
            self.check_readable(call)?;
        }
        let state = match call.resource.cache()?.watch(filter, start) {
            Ok(watcher) => State::Initial(watcher),
            Err(floor) => {
                State::Ending(ApiError::expired(format!("too old resource version: {version} ({floor})")))
            }
        };
        Ok(Watch {
            state,
            refined: refine.map(|refine| RefinedWatch::new(refine, resumed)),
            marks_end: options.send_initial_events == Some(true) && options.allow_bookmarks,
            clock: Clock::new(options.timeout, options.allow_bookmarks),
        })
    }
}

/// A running watch. Ends after an error or at its timeout.
pub(crate) struct Watch {
    state: State,
    refined: Option<RefinedWatch>,
    /// Whether the end of the initial objects is marked by a bookmark.
    marks_end: bool,
    clock: Clock,
}

/// When a watch ends and when its next bookmark is due. One timer for both, kept from event to event: arming
/// one anew for each would cost more than delivering the event.
struct Clock {
    deadline: Option<Instant>,
    next_bookmark: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the clock strikes.
enum Strike {
    Bookmark,
    End,
}

impl Clock {
    fn new(timeout: Option<Duration>, bookmarks: bool) -> Self {
        let now = Instant::now();
        let mut clock = Clock {
            deadline: timeout.map(|timeout| now + timeout),
            next_bookmark: bookmarks.then(|| now + BOOKMARKS),
            timer: None,
        };
        clock.timer = clock.next().map(|at| Box::pin(tokio::time::sleep_until(at)));
        clock
    }

    fn next(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.next_bookmark).min()
    }

    async fn strike(&mut self) -> Strike {
        match &mut self.timer {
            Some(timer) => timer.as_mut().await,
            None => std::future::pending().await,
        }
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Strike::End;
        }
        self.next_bookmark = self.next_bookmark.map(|_| now + BOOKMARKS);
        if let (Some(at), Some(timer)) = (self.next(), &mut self.timer) {
            timer.as_mut().reset(at);
        }
        Strike::Bookmark
    }
}

enum State {
    /// Delivering what was there.
    Initial(Watcher),
    Following(Watcher),
    /// One error is still to be delivered.
    Ending(ApiError),
    Over,
}

/// What a watch waited for.
pub(crate) enum Due {
    /// There may be a message to take.
    Something,
    Message(WatchEvent),
    End,
}

impl Watch {
    /// Whether objects are shown as they are stored, each as soon as it has changed.
    pub(crate) fn is_plain(&self, resource: &Resource) -> bool {
        self.refined.is_none() && !resource.is_converted()
    }

    /// A message in the version that is asked for; none if its reader does not want it after all.
    pub(crate) async fn outward(&mut self, resource: &Resource, event: WatchEvent) -> Option<WatchEvent> {
        let event = resource.outward_event(event).await;
        match &mut self.refined {
            Some(refined) => refined.event(event),
            None => Some(event),
        }
    }

    /// The next message that needs no waiting.
    pub(crate) fn try_next(&mut self) -> Option<WatchEvent> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => None,
            State::Ending(error) => Some(WatchEvent::Error(error)),
            State::Initial(mut watcher) => match watcher.next_initial() {
                Some(object) => {
                    self.state = State::Initial(watcher);
                    Some(WatchEvent::Added(object))
                }
                None => {
                    let resource_version = watcher.start_revision();
                    self.state = State::Following(watcher);
                    if self.marks_end {
                        return Some(WatchEvent::Bookmark { resource_version, initial_events_end: true });
                    }
                    self.try_next()
                }
            },
            State::Following(mut watcher) => match watcher.try_next() {
                Ok(event) => {
                    self.state = State::Following(watcher);
                    event
                }
                Err(Cut::Lagged(lagged)) => Some(fell_behind(&lagged)),
                // The kind is gone: the watch is over.
                Err(Cut::Closed) => None,
            },
        }
    }

    /// [`Watcher::try_written`], once everything that was there has been delivered.
    pub(crate) fn try_written(
        &mut self,
        most: usize,
        write: impl Fn(WatchEvent, &mut BytesMut),
    ) -> Option<Bytes> {
        let State::Following(watcher) = &mut self.state else { return None };
        watcher.try_written(most, write)
    }

    /// The next message; none when the watch is over.
    pub(crate) async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            match self.due().await {
                Due::Something => {}
                Due::Message(event) => return Some(event),
                Due::End => return None,
            }
        }
    }

    /// Waits until there is something to do.
    pub(crate) async fn due(&mut self) -> Due {
        let watcher = match &self.state {
            State::Following(watcher) => watcher,
            State::Over => return Due::End,
            State::Initial(_) | State::Ending(_) => return Due::Something,
        };
        let strike = tokio::select! {
            biased;
            () = watcher.changed() => return Due::Something,
            strike = self.clock.strike() => strike,
        };
        match strike {
            Strike::End => {
                // A last bookmark spares the client from reading old changes when it resumes.
                let last = self.clock.next_bookmark.is_some().then(|| self.bookmark()).flatten();
                self.state = State::Over;
                last.map_or(Due::End, Due::Message)
            }
            Strike::Bookmark => self.bookmark().map_or(Due::Something, Due::Message),
        }
    }

    /// A bookmark, unless a change is at hand: it goes first.
    fn bookmark(&mut self) -> Option<WatchEvent> {
        let State::Following(watcher) = &mut self.state else { return None };
        let resource_version = watcher.progress();
        match watcher.try_next() {
            Ok(None) => Some(WatchEvent::Bookmark { resource_version, initial_events_end: false }),
            Ok(Some(event)) => Some(event),
            Err(_) => None,
        }
    }
}

fn fell_behind(lagged: &Lagged) -> WatchEvent {
    let message = format!("too old resource version: the watch fell behind revision {}", lagged.floor);
    WatchEvent::Error(ApiError::expired(message))
}

#[cfg(test)]
mod tests;
