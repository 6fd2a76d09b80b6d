//! The drawing: a line about the node, the stores, the selected store in detail, the keys.
//!
//! Columns that do not fit are left out, the least important first, so that 80 by 24 shows what
//! matters and a phone's terminal still shows names and requests.

mod details;
mod stores;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::figures::{age, rate, size};
use super::model::Model;

/// Fewer rows than this leave no room for details beside a few stores.
const DETAILS_ROWS_MIN: u16 = 18;
/// The head, the heads of the columns and three stores.
const LIST_ROWS_MIN: u16 = 6;
/// The rows of the details pane: title, three lines of facts, heads, five commands and keys or
/// twenty, which is as many as the agent tells.
const DETAILS_ROWS: std::ops::RangeInclusive<u16> = 12..=27;

/// Draws everything.
pub fn draw(frame: &mut Frame, model: &Model) {
    let area = frame.area();
    let details = model.details && area.height >= DETAILS_ROWS_MIN && !model.stores().is_empty();
    let details_rows = match details {
        true => (area.height / 2)
            .clamp(*DETAILS_ROWS.start(), *DETAILS_ROWS.end())
            .min(area.height - LIST_ROWS_MIN),
        false => 0,
    };
    let [head, list, lower, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(details_rows),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(node(model), head);
    stores::draw(frame, list, model);
    if details {
        details::draw(frame, lower, model);
    }
    frame.render_widget(footer(model, area.width), keys);
    if model.help {
        help(frame, area, model);
    }
}

/// Two lines about the node: who and whether it is well, and what it does and uses.
fn node(model: &Model) -> Paragraph<'_> {
    let theme = model.theme;
    let mut first = vec![Span::styled("flect top", theme.head())];
    let Some(look) = &model.look else {
        let text = match &model.gone {
            Some(_) => "",
            None => "measuring for the first time ...",
        };
        first.push(Span::styled(format!("  {text}"), theme.faint()));
        return Paragraph::new(vec![Line::from(first), gone(model)]);
    };
    let (state, of) = (&look.state, &look.rates.node);
    if !state.environment.is_empty() {
        first.push(Span::raw(format!("  {}", state.environment)));
    }
    first.push(Span::raw(format!("  valkey {} ", state.valkey)));
    first.push(match state.reachable {
        true => Span::styled("reachable", theme.good()),
        false => Span::styled("NOT REACHABLE", theme.bad()),
    });
    let up = format!("  up {}", age(of.uptime_ms));
    first.push(Span::styled(up, theme.faint()));
    if model.gone.is_some() {
        return Paragraph::new(vec![Line::from(first), gone(model)]);
    }
    let figure = |text: String| Span::styled(text, theme.head());
    let second = vec![
        figure(rate(of.requests_per_second)),
        Span::raw(" req/s  "),
        figure(of.sessions.to_string()),
        Span::raw(" sessions  "),
        figure(of.upstreams.to_string()),
        Span::raw(" upstream  "),
        Span::raw("CPU "),
        figure(format!("{:.0}%", of.cpu_percent)),
        Span::raw("  RSS "),
        figure(size(Some(of.rss_bytes))),
    ];
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

fn gone(model: &Model) -> Line<'_> {
    match &model.gone {
        Some(why) => Line::styled(format!("NO AGENT: {why}; trying again"), model.theme.bad()),
        None => Line::default(),
    }
}

/// What keys do, or the filter while it is typed.
fn footer(model: &Model, width: u16) -> Line<'_> {
    let theme = model.theme;
    if model.typing {
        let text = format!("filter: {}_   Enter keeps it, Esc clears it", model.filter);
        return Line::styled(text, theme.head());
    }
    let mut spans = Vec::new();
    let sort = format!("sort by {}", sort_word(model));
    let filter = match model.filter.as_str() {
        "" => "filter".to_owned(),
        filter => format!("filter '{filter}'"),
    };
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("s", sort.as_str()),
        ("/", filter.as_str()),
        ("Enter", "details"),
        ("↑↓", "select"),
    ];
    let mut used = 0;
    for (key, does) in keys {
        let text = format!(" {does}   ");
        used += key.chars().count() + text.chars().count();
        if used > usize::from(width) + 3 {
            break;
        }
        spans.push(Span::styled(key.to_owned(), theme.head()));
        spans.push(Span::styled(text, theme.faint()));
    }
    Line::from(spans)
}

fn sort_word(model: &Model) -> String {
    use clap::ValueEnum;
    let value = model.sort.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The keys, in the middle of the screen.
fn help(frame: &mut Frame, area: Rect, model: &Model) {
    const LINES: [&str; 16] = [
        "Up Down, k j     select a store",
        "PgUp PgDn        ten stores up, down",
        "Home End, g G    first, last store",
        "Enter            show or hide its details",
        "s                sort by the next column",
        "/                filter by store or app; Esc clears",
        "q, Ctrl-C        quit",
        "",
        "REQ/S    requests a second, over the interval",
        "P50 P99  how long 50 and 99 of 100 requests",
        "         took at most, in the agent and Valkey",
        "ERR/S    answered with an error by Valkey",
        "REF/S    refused by the agent",
        "MEMORY   keys and values, measured now and then",
        "",
        "Any key closes this.",
    ];
    let width = 52.min(area.width);
    let height = 18.min(area.height);
    let middle = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let title = format!(" flect top, every {} s ", model.interval_seconds);
    let block = Block::bordered().title(title).style(model.theme.base());
    let lines: Vec<Line> = LINES.iter().map(|line| Line::raw(*line)).collect();
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(lines).block(block), middle);
}
