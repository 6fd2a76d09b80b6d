//! What the view shows and how keys change it. Knows no terminal.

use std::collections::{HashMap, VecDeque};

use flect_agent::series::StoreRates;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::sampler::Look;
use super::theme::Theme;

/// How many looks a sparkline remembers: as wide as terminals are.
const HISTORY_MAX: usize = 240;
/// How far Page Up and Page Down go.
const PAGE: isize = 10;
/// A filter longer than a store's name finds nothing.
const FILTER_CHARS_MAX: usize = 64;

/// What the stores are sorted by; the busiest first, names from A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Requests a second
    Requests,
    /// The time that 99 of 100 requests took at most
    Latency,
    /// Errors a second
    Errors,
    /// Refusals a second
    Refused,
    /// Memory
    Memory,
    /// Connections
    Connections,
    /// Name
    Name,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Requests => Self::Latency,
            Self::Latency => Self::Errors,
            Self::Errors => Self::Refused,
            Self::Refused => Self::Memory,
            Self::Memory => Self::Connections,
            Self::Connections => Self::Name,
            Self::Name => Self::Requests,
        }
    }

    /// Sorts stores, those that are alike by name.
    pub fn apply(self, stores: &mut [&StoreRates]) {
        let figure = |store: &StoreRates| match self {
            Self::Requests => store.requests_per_second,
            Self::Latency => store.latency_p99_us.unwrap_or(-1.0),
            Self::Errors => store.errors_per_second,
            Self::Refused => store.refused_per_second,
            Self::Memory => store.memory_bytes.map_or(-1.0, |bytes| bytes as f64),
            Self::Connections => store.sessions as f64,
            Self::Name => 0.0,
        };
        stores.sort_by(|a, b| {
            let order = figure(b).total_cmp(&figure(a));
            order.then_with(|| a.name.cmp(&b.name))
        });
    }
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Draw anew.
    Stay,
    /// The user has seen enough.
    Leave,
}

/// The state of the view.
pub struct Model {
    /// The last look.
    pub look: Option<Look>,
    /// Why there is none now.
    pub gone: Option<String>,
    /// Requests a second so far, by the store's prefix.
    pub history: HashMap<String, VecDeque<f64>>,
    /// What the stores are sorted by.
    pub sort: Sort,
    /// Part of the names of the stores shown.
    pub filter: String,
    /// Keys go to the filter.
    pub typing: bool,
    /// The prefix of the store under the cursor.
    pub selected: Option<String>,
    /// The selected store is shown in detail.
    pub details: bool,
    /// The keys are explained.
    pub help: bool,
    /// Between two looks.
    pub interval_seconds: f64,
    /// How things look.
    pub theme: Theme,
}

impl Model {
    /// A view before the first look.
    pub fn new(sort: Sort, interval_seconds: f64, theme: Theme) -> Self {
        Self {
            look: None,
            gone: None,
            history: HashMap::new(),
            sort,
            filter: String::new(),
            typing: false,
            selected: None,
            details: true,
            help: false,
            interval_seconds,
            theme,
        }
    }

    /// Takes a look; nothing is the first one at an agent that was started anew.
    pub fn update(&mut self, look: Option<Look>) {
        self.gone = None;
        let Some(look) = look else { return };
        let stores = &look.rates.stores;
        self.history
            .retain(|prefix, _| stores.iter().any(|store| store.prefix == *prefix));
        for store in stores {
            let history = self.history.entry(store.prefix.clone()).or_default();
            history.push_back(store.requests_per_second);
            if history.len() > HISTORY_MAX {
                history.pop_front();
            }
        }
        self.look = Some(look);
        if self.selected.is_none() {
            // The cursor stays with its store, however the stores change places.
            self.go(0);
        }
    }

    /// The agent does not answer.
    pub fn lost(&mut self, why: String) {
        self.gone = Some(why);
    }

    /// The stores that the filter leaves, sorted.
    pub fn stores(&self) -> Vec<&StoreRates> {
        let wanted = self.filter.to_lowercase();
        let matches = |store: &&StoreRates| {
            let apps = store.apps.iter().any(|app| app.contains(&wanted));
            apps || store.name.contains(&wanted)
        };
        let all = self.look.iter().flat_map(|look| &look.rates.stores);
        let mut stores: Vec<_> = all.filter(matches).collect();
        self.sort.apply(&mut stores);
        stores
    }

    /// The place of the cursor among these stores: at the top when its store is not among them.
    pub fn cursor(&self, stores: &[&StoreRates]) -> usize {
        let selected = self.selected.as_ref();
        let found = stores
            .iter()
            .position(|store| Some(&store.prefix) == selected);
        found.unwrap_or(0)
    }

    /// Does what a key says.
    pub fn key(&mut self, key: KeyEvent) -> After {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => After::Leave,
                _ => After::Stay,
            };
        }
        if self.typing {
            self.type_key(key.code);
            return After::Stay;
        }
        if self.help {
            // Any key has been read enough.
            self.help = false;
            return After::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return After::Leave,
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Enter => self.details = !self.details,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        After::Stay
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(c);
            }
            _ => {}
        }
    }

    fn go(&mut self, rows: isize) {
        let stores = self.stores();
        let last = stores.len().saturating_sub(1);
        let to = self.cursor(&stores).saturating_add_signed(rows).min(last);
        self.selected = stores.get(to).map(|store| store.prefix.clone());
    }
}
