//! The selected store: who uses it, what it may use, its hottest commands and keys.

use flect_agent::series::StoreRates;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::stores::cut;
use crate::top::figures::{bar, clock, printable, rate, share, size};
use crate::top::model::Model;

/// Commands' names fit into this.
const COMMAND_CELLS: usize = 14;
/// A rate or a share, right-aligned.
const FIGURE_CELLS: usize = 7;

/// Draws the pane.
pub fn draw(frame: &mut Frame, area: Rect, model: &Model) {
    let stores = model.stores();
    let Some(store) = stores.get(model.cursor(&stores)) else {
        return;
    };
    let title = Span::styled(format!(" {} ", printable(&store.name)), model.theme.head());
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(model.theme.faint())
        .title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [facts, bars, refusal] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(about(store, model)), facts);
    let [left, gap, right] = Layout::horizontal([
        Constraint::Percentage(46),
        Constraint::Length(2),
        Constraint::Min(1),
    ])
    .areas(bars);
    let _ = gap;
    frame.render_widget(Paragraph::new(commands(store, model, left)), left);
    frame.render_widget(Paragraph::new(keys(store, model, right)), right);
    frame.render_widget(last_refusal(model, area.width), refusal);
}

fn about<'a>(store: &StoreRates, model: &Model) -> Vec<Line<'a>> {
    let faint = |text: &str| Span::styled(text.to_owned(), model.theme.faint());
    let apps = match store.apps.as_slice() {
        [] => "none on this node".to_owned(),
        apps => printable(&apps.join(", ")),
    };
    let limits = &store.limits;
    let of = |limit: Option<String>| limit.map_or(String::new(), |limit| format!(" of {limit}"));
    let keys = store
        .key_count
        .map_or_else(|| "-".to_owned(), |count| count.to_string());
    vec![
        Line::from(vec![
            faint("apps "),
            Span::raw(apps),
            faint("  prefix "),
            Span::raw(store.prefix.clone()),
        ]),
        Line::from(vec![
            faint("memory "),
            Span::raw(size(store.memory_bytes)),
            Span::raw(of(limits.memory_bytes.map(|bytes| size(Some(bytes))))),
            faint("  keys "),
            Span::raw(keys),
            faint("  connections "),
            Span::raw(store.sessions.to_string()),
            Span::raw(of(limits.connections.map(|count| count.to_string()))),
        ]),
        Line::from(vec![
            faint("requests "),
            Span::raw(format!("{}/s", rate(store.requests_per_second))),
            Span::raw(of(limits.commands_per_second.map(|rate| rate.to_string()))),
            faint("  waiting for it "),
            Span::raw(format!("{}/s", rate(store.delayed_per_second))),
            faint("  in "),
            Span::raw(format!(
                "{}/s",
                size(Some(store.bytes_in_per_second as u64))
            )),
            faint("  out "),
            Span::raw(format!(
                "{}/s",
                size(Some(store.bytes_out_per_second as u64))
            )),
        ]),
    ]
}

fn commands<'a>(store: &StoreRates, model: &Model, area: Rect) -> Vec<Line<'a>> {
    let mut lines = vec![Line::styled("HOTTEST COMMANDS", model.theme.head())];
    let most = store.commands.first().map_or(1.0, |c| c.per_second);
    let cells = usize::from(area.width).saturating_sub(COMMAND_CELLS + FIGURE_CELLS + 2);
    for command in &store.commands {
        lines.push(bar_line(
            &command.name,
            COMMAND_CELLS,
            bar(command.per_second / most, cells),
            cells,
            &format!("{}/s", rate(command.per_second)),
            model,
        ));
    }
    if store.commands.is_empty() {
        lines.push(Line::styled("none in this interval", model.theme.faint()));
    }
    lines
}

fn keys<'a>(store: &StoreRates, model: &Model, area: Rect) -> Vec<Line<'a>> {
    let mut lines = vec![Line::styled("HOTTEST KEYS, SAMPLED", model.theme.head())];
    let width = usize::from(area.width);
    let name = width / 2;
    let cells = width.saturating_sub(name + FIGURE_CELLS + 2);
    let most = store.keys.first().map_or(1.0, |key| key.share);
    for key in &store.keys {
        lines.push(bar_line(
            &key.key,
            name,
            bar(key.share / most, cells),
            cells,
            &share(key.share),
            model,
        ));
    }
    if store.keys.is_empty() {
        lines.push(Line::styled("none seen yet", model.theme.faint()));
    }
    lines
}

fn bar_line<'a>(
    name: &str,
    name_cells: usize,
    bar: String,
    bar_cells: usize,
    figure: &str,
    model: &Model,
) -> Line<'a> {
    let name = cut(&printable(name), name_cells);
    Line::from(vec![
        Span::raw(format!("{name:name_cells$} ")),
        Span::styled(format!("{bar:bar_cells$}"), model.theme.bar()),
        Span::raw(format!(" {figure:>FIGURE_CELLS$}")),
    ])
}

/// The last connection that was refused on this node: of no store, so it stands at the end.
fn last_refusal<'a>(model: &Model, width: u16) -> Line<'a> {
    let refusals = model.look.iter().flat_map(|look| &look.rates.refusals);
    let Some(last) = refusals.max_by_key(|refusal| refusal.at_ms) else {
        return Line::default();
    };
    let text = format!(
        "last refusal {}: {}",
        clock(last.at_ms),
        printable(&last.reason)
    );
    Line::styled(cut(&text, usize::from(width)), model.theme.faint())
}
