//! What the view shows, cell by cell, and how keys change it.

use std::path::Path;

use flect_agent::metrics::Snapshot;
use flect_agent::series;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::model::{After, Model, Sort};
use super::plain;
use super::sampler::{Look, State};
use super::theme::Theme;
use super::view;

fn store(name: &str, prefix: &str, requests: u64, errors: u64) -> Value {
    json!({
        "name": name, "prefix": prefix, "apps": ["shop"], "sessions": 12,
        "requests": requests, "errors": errors, "refused": 0, "delayed": 0,
        "bytes_in": requests * 64, "bytes_out": requests * 128,
        "latency_us": { "count": requests, "sum": 0, "p50": 0, "p99": 0, "max": 2047, "buckets": [[128, requests * 98 / 100], [2048, requests * 2 / 100]] },
        "commands": [{ "name": "get", "count": requests * 3 / 4 }, { "name": "set", "count": requests / 4 }],
        "keys": [{ "key": "user:1", "count": 60 }, { "key": "session:\u{1b}[31mabc", "count": 20 }],
        "memory_bytes": 12_900_000, "key_count": 4_321,
        "limits": { "memory_bytes": 104_857_600, "connections": 50, "commands_per_second": null }
    })
}

fn sample(second: u64, stores: &[Value]) -> Snapshot {
    let value = json!({
        "at_ms": 1_700_000_000_000_u64 + second * 1000,
        "uptime_ms": 11_520_000 + second * 1000,
        "node": { "rss_bytes": 25_000_000, "cpu_seconds": 0.07 * second as f64,
            "sessions": 24, "upstreams": 4, "workers": 2 },
        "stores": stores,
        "refusals": [{ "at_ms": 1_700_000_000_000_u64, "cgroup": "/x",
            "reason": "no app of this node claims the cgroup /x" }]
    });
    serde_json::from_value(value).unwrap()
}

/// The look at a second when the first store gets 1,234 and the second 20 requests a second.
fn look(second: u64) -> Look {
    let at = |second: u64| {
        let stores = [
            store("my-cache", "{k7m2x}", second * 1_234, 0),
            store("sessions", "{p3q9z}", second * 20, second * 2),
            store("rate-limiter-of-the-public-api", "{w1w1w}", 0, 0),
        ];
        sample(second, &stores)
    };
    Look {
        rates: series::between(&at(second - 1), &at(second)).unwrap(),
        state: State {
            environment: "production".to_owned(),
            valkey: "10.0.0.5:6379".to_owned(),
            reachable: true,
            ready: true,
        },
    }
}

fn model() -> Model {
    let mut model = Model::new(Sort::Requests, 1.0, Theme::plain());
    for second in 1..=5 {
        model.update(Some(look(second)));
    }
    model
}

/// The screen as text.
fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| {
        let text: String = row.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", text.trim_end())
    })
    .collect()
}

/// Compares with `tests/NAME.txt`, or writes it: `FLECT_BLESS=1 cargo test -p flect-agent top`.
fn check(name: &str, shown: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/flect/top/tests");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("FLECT_BLESS").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let expect = std::fs::read_to_string(&path).unwrap();
    assert!(shown == expect, "{shown}\ninstead of\n{expect}");
}

fn press(model: &mut Model, keys: &[KeyCode]) -> After {
    let mut after = After::Stay;
    for &code in keys {
        after = model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    after
}

#[test]
fn eighty_by_twenty_four_shows_everything() {
    check("80x24", &screen(&model(), 80, 24));
}

#[test]
fn small_screens_show_what_matters() {
    check("40x8", &screen(&model(), 40, 8));
    // Nothing panics, however small.
    for width in [1, 2, 5, 13, 30, 300] {
        for height in [1, 2, 3, 7, 18, 19, 60] {
            screen(&model(), width, height);
        }
    }
}

#[test]
fn help_explains_the_columns() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('?')]);
    let shown = screen(&model, 80, 24);
    assert!(shown.contains("REF/S    refused by the agent"), "{shown}");
    press(&mut model, &[KeyCode::Char('x')]);
    assert!(!screen(&model, 80, 24).contains("refused by the agent"));
}

#[test]
fn a_missing_agent_is_said_and_the_last_figures_stay() {
    let mut model = model();
    model.lost("no agent answers at /run/flect/agent.sock".to_owned());
    let shown = screen(&model, 80, 24);
    assert!(shown.contains("NO AGENT: no agent answers"), "{shown}");
    assert!(shown.contains("my-cache"), "{shown}");
    // The agent is back, but there is only one look at it.
    model.update(None);
    assert!(!screen(&model, 80, 24).contains("NO AGENT"));
}

#[test]
fn keys_select_sort_filter_and_leave() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('j')]);
    assert_eq!(model.selected.as_deref(), Some("{p3q9z}"));
    press(&mut model, &[KeyCode::End, KeyCode::Down]);
    assert_eq!(model.selected.as_deref(), Some("{w1w1w}"));
    press(&mut model, &[KeyCode::Home, KeyCode::Up]);
    assert_eq!(model.selected.as_deref(), Some("{k7m2x}"));

    for _ in 0..2 {
        press(&mut model, &[KeyCode::Char('s')]);
    }
    assert_eq!(model.sort, Sort::Errors);
    assert_eq!(model.stores()[0].name, "sessions");

    let typed = ['/', 'R', 'a', 't', 'q'].map(KeyCode::Char);
    press(&mut model, &typed);
    assert!(model.stores().is_empty(), "q is typed, not done");
    press(&mut model, &[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(model.stores().len(), 1);
    press(&mut model, &[KeyCode::Esc]);
    assert_eq!(model.stores().len(), 3);

    let shown = screen(&model, 80, 24);
    assert!(shown.contains("HOTTEST KEYS"), "{shown}");
    press(&mut model, &[KeyCode::Enter]);
    assert!(!screen(&model, 80, 24).contains("HOTTEST KEYS"));
    assert_eq!(press(&mut model, &[KeyCode::Char('q')]), After::Leave);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.key(interrupt), After::Leave);
}

#[test]
fn the_selected_store_stays_in_sight_and_selected() {
    let mut model = model();
    press(&mut model, &[KeyCode::End]);
    assert!(screen(&model, 80, 5).contains("rate-limiter"));
    // Sorting anew moves the store, not the selection.
    press(&mut model, &[KeyCode::Char('s')]);
    assert_eq!(model.selected.as_deref(), Some("{w1w1w}"));
}

#[test]
fn the_table_is_plain_text() {
    let shown = plain::shown(&look(2), Sort::Name);
    check("plain", &anstream::adapter::strip_str(&shown).to_string());
}
