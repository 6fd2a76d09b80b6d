//! The agent's log, on standard error, where systemd and containers take it from.
//!
//! What the kernel hooks report has the target `kernel`, the audit log, where it has no file of its own, the
//! target `audit`; everything else the module that says it.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use flect_agent::config::{Levels, Log, LogFormat};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Levels of whoever starts the agent by hand, stronger than the configuration's.
const VARIABLE: &str = "FLECT_LOG";

/// Changes the levels of the log that was started.
static LEVELS: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Begins to write. To be called once.
pub fn start(settings: &Log, format: Option<LogFormat>) -> anyhow::Result<()> {
    let (filter, levels) =
        reload::Layer::new(of_environment()?.unwrap_or_else(|| settings.levels.filter()));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format.unwrap_or(settings.format) {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // Fields beside the message, as programs that gather logs expect them; the agent has no spans.
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| anyhow!("no log: {error}"))?;
    // Nobody else sets it.
    let _ = LEVELS.set(levels);
    Ok(())
}

/// The configuration may ask for others now.
pub fn set_levels(levels: &Levels) {
    if let (Some(handle), Ok(None)) = (LEVELS.get(), of_environment())
        && let Err(error) = handle.reload(levels.filter())
    {
        tracing::warn!(%error, "the levels of the log stay");
    }
}

fn of_environment() -> anyhow::Result<Option<EnvFilter>> {
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let levels = Levels::try_from(text).map_err(anyhow::Error::msg);
            Ok(Some(levels.context(VARIABLE)?.filter()))
        }
        Err(_) => Ok(None),
    }
}
