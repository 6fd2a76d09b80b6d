//! The stores, one a row.

use flect_agent::series::StoreRates;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::top::figures::{latency, printable, rate, size, sparkline};
use crate::top::model::{Model, Sort};

/// A name gets at least this much; longer ones are cut.
const NAME_CELLS_MIN: usize = 12;
/// Most names fit into this; what is left goes to the sparkline.
const NAME_CELLS_MAX: usize = 28;
/// A sparkline below this says nothing.
const SPARK_CELLS_MIN: usize = 6;

struct Column {
    head: &'static str,
    cells: usize,
    sort: Option<Sort>,
    /// Those with the lowest go first when there is no room.
    importance: u8,
    text: fn(&StoreRates) -> String,
}

const COLUMNS: [Column; 7] = [
    Column {
        head: "REQ/S",
        cells: 6,
        sort: Some(Sort::Requests),
        importance: 9,
        text: |store| rate(store.requests_per_second),
    },
    Column {
        head: "P50",
        cells: 6,
        sort: None,
        importance: 4,
        text: |store| latency(store.latency_p50_us),
    },
    Column {
        head: "P99",
        cells: 6,
        sort: Some(Sort::Latency),
        importance: 8,
        text: |store| latency(store.latency_p99_us),
    },
    Column {
        head: "ERR/S",
        cells: 6,
        sort: Some(Sort::Errors),
        importance: 6,
        text: |store| rate(store.errors_per_second),
    },
    Column {
        head: "REF/S",
        cells: 6,
        sort: Some(Sort::Refused),
        importance: 5,
        text: |store| rate(store.refused_per_second),
    },
    Column {
        head: "MEMORY",
        cells: 9,
        sort: Some(Sort::Memory),
        importance: 7,
        text: |store| size(store.memory_bytes),
    },
    Column {
        head: "CONN",
        cells: 5,
        sort: Some(Sort::Connections),
        importance: 3,
        text: |store| store.sessions.to_string(),
    },
];

/// Which columns fit, and how wide the name and the sparkline are.
struct Widths {
    columns: Vec<&'static Column>,
    name: usize,
    spark: usize,
}

fn widths(width: usize) -> Widths {
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    let used = |columns: &[&Column]| columns.iter().map(|c| c.cells + 1).sum::<usize>();
    while used(&columns) + NAME_CELLS_MIN > width {
        let least = columns.iter().map(|c| c.importance).min();
        let before = columns.len();
        columns.retain(|column| Some(column.importance) != least);
        if columns.len() == before {
            break;
        }
    }
    let rest = width.saturating_sub(used(&columns));
    let name = match rest > NAME_CELLS_MIN + SPARK_CELLS_MIN + 2 {
        true => (rest / 2).clamp(NAME_CELLS_MIN, NAME_CELLS_MAX),
        false => rest,
    };
    Widths {
        columns,
        name,
        spark: (rest - name).saturating_sub(2),
    }
}

/// Draws the heads and as many stores as fit, the selected one among them.
pub fn draw(frame: &mut Frame, area: Rect, model: &Model) {
    let widths = widths(usize::from(area.width));
    let stores = model.stores();
    let cursor = model.cursor(&stores);
    let rows = usize::from(area.height).saturating_sub(1);
    let first = cursor.saturating_sub(rows.saturating_sub(1));
    let mut lines = vec![heads(&widths, model)];
    for (number, store) in stores.iter().enumerate().skip(first).take(rows) {
        lines.push(row(store, &widths, model, number == cursor));
    }
    if stores.is_empty() && model.look.is_some() {
        let text = match model.filter.as_str() {
            "" => "No stores yet: make one with `flect kv create NAME`.".to_owned(),
            filter => format!("No store or app has '{filter}' in its name; Esc clears the filter."),
        };
        lines.push(Line::styled(text, model.theme.faint()));
    }
    frame.render_widget(ratatui::widgets::Paragraph::new(lines), area);
}

fn heads<'a>(widths: &Widths, model: &Model) -> Line<'a> {
    let head = |text: &str, sort: Option<Sort>| match sort == Some(model.sort) {
        true => format!("▾{text}"),
        false => text.to_owned(),
    };
    let name = head("STORE", Some(Sort::Name));
    let mut text = format!("{name:width$}", width = widths.name);
    for column in &widths.columns {
        let head = head(column.head, column.sort);
        text.push_str(&format!(" {head:>width$}", width = column.cells));
    }
    if widths.spark > 0 {
        text.push_str("  REQUESTS");
    }
    Line::styled(text, model.theme.head())
}

fn row<'a>(store: &StoreRates, widths: &Widths, model: &Model, selected: bool) -> Line<'a> {
    let theme = model.theme;
    let base = match selected {
        true => theme.selected(),
        false => Style::new(),
    };
    let name = cut(&printable(&store.name), widths.name);
    let mut spans = vec![Span::styled(
        format!("{name:width$}", width = widths.name),
        base,
    )];
    for column in &widths.columns {
        let text = format!(" {:>width$}", (column.text)(store), width = column.cells);
        let troubled = match column.sort {
            Some(Sort::Errors) => store.errors_per_second > 0.0,
            Some(Sort::Refused) => store.refused_per_second > 0.0,
            _ => false,
        };
        let style = if troubled { theme.bad() } else { Style::new() };
        spans.push(Span::styled(text, base.patch(style)));
    }
    if widths.spark > 0 {
        let history = model.history.get(&store.prefix);
        let values = history.into_iter().flatten().copied();
        let values: Vec<f64> = values.collect();
        let line = sparkline(values.into_iter(), widths.spark);
        spans.push(Span::styled(format!("  {line}"), base.patch(theme.bar())));
    }
    Line::from(spans)
}

/// The text, with an ellipsis where it is longer than this many characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}
