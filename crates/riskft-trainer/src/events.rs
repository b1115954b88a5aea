//! What the run says while it works: one JSON line an event, or plain words for a person.

use std::cell::RefCell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use riskft_core::protocol::{Event, Progress};
use riskft_core::refusal::Refusal;

/// Shortest time between two progress events of one phase and epoch.
const PAUSE: Duration = Duration::from_millis(300);

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The server, over stdout: JSON lines.
    Server,
    /// A person, over stderr.
    Person,
    /// Nobody: parts of a trial.
    Nobody,
}

/// Sends events. A listener that is gone ends the process: nobody is left to train for.
pub struct Reporter {
    listener: Listener,
    last: RefCell<Option<(Instant, String, u64)>>,
}

impl Reporter {
    pub fn new(listener: Listener) -> Self {
        Reporter { listener, last: RefCell::new(None) }
    }

    /// Where the run stands; dropped when the last one of the same phase and epoch is fresh.
    pub fn progress(&self, progress: Progress) {
        let mut last = self.last.borrow_mut();
        let fresh = last.as_ref().is_some_and(|(at, phase, epoch)| {
            at.elapsed() < PAUSE && *phase == progress.phase && *epoch == progress.epoch
        });
        if fresh && progress.validation_auc.is_none() {
            return;
        }
        *last = Some((Instant::now(), progress.phase.clone(), progress.epoch));
        self.send(&Event::Progress(progress));
    }

    pub fn notice(&self, text: impl Into<String>) {
        self.send(&Event::Notice(text.into()));
    }

    pub fn warning(&self, message: impl Into<String>, detail: impl Into<String>) {
        self.send(&Event::Warning(message.into(), detail.into()));
    }

    pub fn refused(&self, refusal: &Refusal) {
        self.send(&Event::Refused(refusal.clone()));
    }

    /// Sends one event, at once.
    pub fn send(&self, event: &Event) {
        let sent = match self.listener {
            Listener::Server => send_line(event),
            Listener::Person => writeln!(io::stderr(), "{}", in_words(event)),
            Listener::Nobody => Ok(()),
        };
        if sent.is_err() {
            crate::lifeline::end_now();
        }
    }
}

fn send_line(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Progress(p) => progress_in_words(p),
        Event::Notice(text) => format!("notice: {text}"),
        Event::Warning(message, detail) => format!("warning: {message}\n  {detail}"),
        Event::Refused(r) => {
            let mut text = format!("refused ({}): {}", r.code, r.message);
            for line in [&r.detail, &r.hint].into_iter().filter(|line| !line.is_empty()) {
                text.push_str("\n  ");
                text.push_str(line);
            }
            text
        }
        Event::Result(_) | Event::Reduction(_) | Event::Selection(_) | Event::Estimate(_) => {
            "done".to_owned()
        }
    }
}

fn progress_in_words(p: &Progress) -> String {
    let mut text = p.phase.clone();
    if p.epoch > 0 {
        text.push_str(&format!(" epoch {}", p.epoch));
    }
    if p.total > 0 {
        text.push_str(&format!(" {}/{}", p.done, p.total));
    }
    if let Some(loss) = p.loss {
        text.push_str(&format!(" loss {loss:.4}"));
    }
    if let Some(auc) = p.validation_auc {
        text.push_str(&format!(" validation auc {auc:.4}"));
    }
    if let Some(seconds) = p.seconds_left {
        text.push_str(&format!(" at most {seconds:.0} s left"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_as_a_line() {
        let progress = Progress {
            phase: "head".into(),
            done: 3,
            total: 43,
            epoch: 2,
            loss: Some(0.51234),
            validation_auc: Some(0.79),
            seconds_left: Some(12.4),
        };
        assert_eq!(
            progress_in_words(&progress),
            "head epoch 2 3/43 loss 0.5123 validation auc 0.7900 at most 12 s left"
        );
    }
}
