//! Reads settings again, and takes them up.

use presenced_tasks::{Pauses, Task, catch, caught};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::filter::Targets;

use super::difference::{Difference, State, flags};
use super::files::{Contents, Look, NamedFile, Watch, check_again, files};
use crate::admin::reloads::Outcome;
use crate::cli::Notice;
use crate::cli::sources::{Asked, Checked, Refused, Settings, line_of};
use crate::limits::{RELOAD_PAUSE, RELOAD_READ_TIME, SETTINGS_INTERVAL};
use crate::log;
use crate::server::Config;
use crate::server::switch::Switch;
use crate::signals::Hangups;

/// Where settings are read.
pub type Source = fn() -> Result<Asked, Refused>;

/// What a server begins with, and what its files were like then.
#[derive(Debug)]
pub struct Begun {
    state: State,
    files: Vec<NamedFile>,
    look: Look,
    told: Vec<Notice>,
}

impl Begun {
    /// Checks the settings that a server begins with. It reads files, which may take long.
    pub fn check(settings: Settings) -> (Begun, Checked) {
        let entries: Vec<_> = settings.all_entries().cloned().collect();
        let files = files(&entries);
        // Before they are read: what changes later is noticed.
        let (look, contents) = (Look::at(&files), Contents::of_files(&files));
        let checked = settings.check();
        let begun = Begun {
            state: State { entries, contents },
            files,
            look,
            told: checked.notices.clone(),
        };
        (begun, checked)
    }
}

/// Reads settings again on SIGHUP, and when a file changes that they come from. New settings are taken up as a whole: if
/// anything is wrong with them, those from before stay in force. Those that need a restart are named.
#[derive(Debug)]
pub struct Reloader {
    switch: Switch,
    source: Source,
    /// What is in force.
    state: State,
    /// The files to look at: those of the settings that were read last, too, if these were refused.
    files: Vec<NamedFile>,
    watch: Watch,
    /// Whether there was a SIGHUP that nothing has been done for.
    is_asked: bool,
    /// Why the last settings were refused, and what was in their files.
    refused: Option<(String, Contents)>,
    /// What the operator was told of the settings.
    told: Vec<Notice>,
}

/// Settings that were read again.
struct Read {
    files: Vec<NamedFile>,
    look: Look,
    contents: Contents,
    /// Or what is wrong with them, in one line.
    next: Result<Next, String>,
}

/// Settings that work.
struct Next {
    state: State,
    config: Box<Config>,
    notices: Vec<Notice>,
    levels: Targets,
}

/// Nothing came of it: a panic, which was counted.
struct Panicked;

impl Reloader {
    /// Changes the settings of a server that has begun so, to what `source` says.
    pub fn new(begun: Begun, switch: Switch, source: Source) -> Reloader {
        Reloader {
            switch,
            source,
            state: begun.state,
            files: begun.files,
            watch: Watch::new(begun.look),
            is_asked: false,
            refused: None,
            told: begun.told,
        }
    }

    /// Does so for ever.
    pub async fn run(mut self, mut hangups: Hangups) {
        let mut pauses = Pauses::default();
        loop {
            let began_at = Instant::now();
            match catch(Task::Settings, self.turn(&mut hangups)).await {
                // Signals that come in the meantime are one.
                Some(Ok(())) => sleep(RELOAD_PAUSE).await,
                // What is in force stays so. It is tried again.
                Some(Err(Panicked)) | None => sleep(pauses.next(began_at.elapsed())).await,
            }
        }
    }

    /// Waits for a reason to read settings again, and does.
    async fn turn(&mut self, hangups: &mut Hangups) -> Result<(), Panicked> {
        if !self.is_asked {
            self.is_asked = tokio::select! {
                biased;
                () = hangups.next() => true,
                changed = changed(&self.files, &mut self.watch) => {
                    changed?;
                    false
                }
            };
        }
        let (in_force, source) = (files(&self.state.entries), self.source);
        let read = in_time(blocking(move || read(&in_force, source))).await?;
        let outcome = match read.next {
            Ok(next) => self.take_up(next).await,
            Err(why) => Err(why),
        };
        match outcome {
            Ok(outcome) => {
                self.refused = None;
                self.switch.reloads.count(outcome);
            }
            Err(why) => self.refuse(why, read.contents),
        }
        // Only now: after a panic it is read once more.
        self.files = read.files;
        self.watch = Watch::new(read.look);
        self.is_asked = false;
        Ok(())
    }

    async fn take_up(&mut self, next: Next) -> Result<Outcome, String> {
        let kept = self.switch.kept(&next.config);
        let difference = self.state.difference(&next.state, kept);
        let outcome = match difference.taken.is_empty() {
            true => Outcome::Unchanged,
            false => {
                let taken_up = self.switch.take_up(&next.config).await;
                taken_up.map_err(|error| error.to_string())?;
                if difference.taken.iter().any(|name| name == "log-level") {
                    log::set_levels(next.levels);
                }
                self.state.take_up(&next.state, &difference);
                Outcome::Ok
            }
        };
        let notices = next.notices.iter();
        let new = notices.filter(|notice| !self.told.contains(notice));
        new.for_each(Notice::log);
        self.told = next.notices;
        self.tell(&difference);
        Ok(outcome)
    }

    fn tell(&self, difference: &Difference) {
        let Difference { taken, left } = difference;
        if !taken.is_empty() {
            let taken = flags(taken);
            tracing::info!("settings were read again and taken up: {taken}");
        }
        if !left.is_empty() {
            let left = flags(left);
            tracing::warn!("settings were read again; these need a restart: {left}");
        }
        let is_awaited = self.is_asked || self.refused.is_some();
        if taken.is_empty() && left.is_empty() && is_awaited {
            tracing::info!("settings were read again: nothing has changed");
        }
    }

    /// Says once what is wrong with files, and again to who asks.
    fn refuse(&mut self, why: String, contents: Contents) {
        let refused = Some((why, contents));
        if !self.is_asked && self.refused == refused {
            return;
        }
        if let Some((why, _)) = &refused {
            tracing::warn!(
                "settings were read again and are refused; those from before stay in force: {why}"
            );
        }
        self.refused = refused;
        self.switch.reloads.count(Outcome::Refused);
    }
}

/// Returns when `files` have changed, and have stayed so for a while.
async fn changed(files: &[NamedFile], watch: &mut Watch) -> Result<(), Panicked> {
    if files.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(SETTINGS_INTERVAL).await;
        let files = files.to_vec();
        let look = in_time(blocking(move || Look::at(&files))).await?;
        if watch.is_due(look) {
            return Ok(());
        }
    }
}

/// Reads settings as the start does. If they can't be used, the files to look at from now on are theirs and those of the
/// settings `in_force`.
fn read(in_force: &[NamedFile], source: Source) -> Read {
    let look_before = Look::at(in_force);
    let settings = source().map(|asked| asked.settings);
    let mut all = match &settings {
        Ok(settings) => files(&settings.all_entries().cloned().collect::<Vec<_>>()),
        Err(_) => Vec::new(),
    };
    let (of_settings, contents) = (all.len(), Contents::of_files(&all));
    let others = in_force.iter().filter(|file| !all.contains(file));
    all.extend(others.cloned().collect::<Vec<_>>());
    // A file that has changed since it was read is read once more.
    let look = match Look::at(in_force) == look_before {
        true => Look::at(&all),
        false => Look::default(),
    };
    let next = match settings {
        Ok(settings) => check_again(&all[..of_settings]).and_then(|()| next(settings, contents)),
        Err(refused) => Err(line_of(&refused.error)),
    };
    let contents = Contents::of_files(&all);
    let watched = if next.is_ok() { of_settings } else { all.len() };
    all.truncate(watched);
    Read {
        look: look.first(watched),
        files: all,
        contents,
        next,
    }
}

fn next(settings: Settings, contents: Contents) -> Result<Next, String> {
    let entries = settings.all_entries().cloned().collect();
    let levels = settings.flags.logs.log_level.clone();
    let Checked { config, notices } = settings.check();
    Ok(Next {
        state: State { entries, contents },
        config: Box::new(config.map_err(|error| line_of(&error))?),
        notices,
        levels,
    })
}

/// Runs what reads files where it holds up nobody.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<Option<T>> {
    spawn_blocking(|| caught(Task::Settings, work))
}

/// Says that files take long, and waits for them all the same: nothing else is begun meanwhile.
async fn in_time<T>(mut reading: JoinHandle<Option<T>>) -> Result<T, Panicked> {
    let read = match timeout(RELOAD_READ_TIME, &mut reading).await {
        Ok(read) => read,
        Err(_) => {
            let after = RELOAD_READ_TIME;
            tracing::warn!(
                ?after,
                "files of settings can't be read in time; waiting for them"
            );
            reading.await
        }
    };
    read.ok().flatten().ok_or(Panicked)
}
