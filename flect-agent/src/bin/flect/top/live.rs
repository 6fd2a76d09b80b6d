//! The view on a terminal: keys, looks and signals come in by one channel, drawings go out.
//!
//! Invariant: whatever ends it, the terminal is as it was: on a panic ratatui's hook restores it,
//! on a signal and on every error this module does.

use std::process::ExitCode;
use std::time::Duration;

use clap::ColorChoice;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::model::{After, Model, Sort};
use super::sampler::{Look, Sampler};
use super::theme::Theme;
use super::view;

/// As shells have it: 128 and the number of the signal.
const EXIT_BY_SIGNAL: u8 = 128;

/// What happens to the view.
enum Input {
    Terminal(std::io::Result<Event>),
    Look(anyhow::Result<Option<Look>>),
}

/// Shows the stores until the user leaves or a signal comes.
pub fn run(
    sampler: Sampler,
    interval: Duration,
    sort: Sort,
    color: ColorChoice,
) -> anyhow::Result<ExitCode> {
    let model = Model::new(sort, interval.as_secs_f64(), Theme::new(color));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    // Before the terminal is taken: a signal must not find it without an owner.
    let mut signals = Signals::new()?;
    let mut terminal = ratatui::try_init()?;
    let result = runtime.block_on(serve(&mut terminal, model, sampler, interval, &mut signals));
    ratatui::restore();
    result
}

async fn serve(
    terminal: &mut DefaultTerminal,
    mut model: Model,
    sampler: Sampler,
    interval: Duration,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let (send, mut inputs) = mpsc::unbounded_channel();
    // Both threads end with the process: one waits in a read, the other in a sleep.
    std::thread::spawn({
        let send = send.clone();
        move || while send.send(Input::Terminal(event::read())).is_ok() {}
    });
    std::thread::spawn(move || {
        let mut sampler = sampler;
        while send.send(Input::Look(sampler.next(interval))).is_ok() {}
    });
    loop {
        terminal.draw(|frame| view::draw(frame, &model))?;
        tokio::select! {
            Some(input) = inputs.recv() => match input {
                Input::Terminal(event) => match event? {
                    Event::Key(key)
                        if key.kind != KeyEventKind::Release && model.key(key) == After::Leave =>
                    {
                        return Ok(ExitCode::SUCCESS);
                    }
                    // A new size, or something that does not matter: drawn anew either way.
                    _ => {}
                },
                Input::Look(Ok(look)) => model.update(look),
                Input::Look(Err(error)) => model.lost(crate::failure::text(&error)),
            },
            number = signals.next() => {
                return Ok(ExitCode::from(EXIT_BY_SIGNAL + number));
            }
        }
    }
}

/// The signals that end a program. Ctrl-C is a key while the view is shown, but `kill -INT` is not.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
            _ = self.hang_up.recv() => 1,
        }
    }
}
