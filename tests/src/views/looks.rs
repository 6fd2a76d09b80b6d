//! The status page in a browser: that it shows what happens, can be used without a mouse, and what
//! it looks like. The pictures are kept in `target/artefacts`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Body;
use super::browser::Browser;
use super::town::Town;
use crate::smoke::output;
use crate::tools;

pub const TRIALS: [(&str, Body); 3] = [
    ("page_in_a_browser", shows_the_node),
    ("page_without_a_mouse", works_without_a_mouse),
    ("page_when_the_agent_goes", tells_that_the_agent_is_gone),
];

/// How many looks the pictures shall show: half a minute of charts.
const LOOKS: u32 = 30;

fn artefact(name: &str) -> PathBuf {
    tools::artefacts().join(format!("{name}.png"))
}

fn open(town: &Town) -> Result<Browser> {
    let url = town.flect(&["status", "--page"])?;
    let mut browser = Browser::start()?;
    browser.show_as(1280, 900, "light")?;
    browser.open(url.trim())?;
    browser.wait_for("document.querySelectorAll('#rows tr').length >= 5")?;
    Ok(browser)
}

/// Nothing went wrong inside the page, and it asked nobody but the agent.
fn check_behaviour(browser: &mut Browser) -> Result<()> {
    let origin = browser.evaluate("location.origin")?;
    let origin = origin.as_str().context("no origin")?.to_owned();
    ensure!(
        browser.complaints.is_empty(),
        "inside the page: {:#?}",
        browser.complaints
    );
    for url in &browser.asked {
        ensure!(
            url.starts_with(&origin) || url.starts_with("data:"),
            "the page asked for {url}"
        );
    }
    Ok(())
}

fn shows_the_node() -> Result<()> {
    let town = Town::busy()?;
    let mut browser = open(&town)?;
    // Numbers that move, and the token nowhere to be seen.
    browser.wait_for("parseFloat(document.querySelector('#node-requests').textContent) > 50")?;
    browser.wait_for("document.querySelector('#health-text').textContent === 'serving'")?;
    ensure!(
        browser.evaluate("location.hash")? == json!(""),
        "the token stays in the address"
    );
    // What stores hold is asked for from time to time.
    browser.wait_for("document.body.innerText.includes('41.0 MiB')")?;
    let shown = browser.evaluate("document.body.innerText")?;
    let shown = shown.as_str().context("no text")?;
    for expected in [
        "production",
        "my-cache",
        "suggestions",
        "41.0 MiB",
        "64.0 MiB",
        "no app of this node claims",
    ] {
        ensure!(
            shown.contains(expected),
            "'{expected}' is not shown:\n{shown}"
        );
    }
    // The one with limits, so that the pictures show them.
    browser.evaluate(
        "[...document.querySelectorAll('#rows button')].find((b) => b.textContent === 'my-cache').click()",
    )?;
    browser.evaluate("document.activeElement.blur()")?;
    let looks = format!("state.node.length >= {LOOKS}");
    browser.wait_for(&looks)?;
    browser.wait_for("document.querySelectorAll('#charts .line').length >= 4")?;
    let labels = "[...document.querySelectorAll('#charts svg')].map((s) => s.getAttribute('aria-label')).join('\\n')";
    let labels = browser.evaluate(labels)?;
    let labels = labels.as_str().context("no labels")?;
    ensure!(
        labels.lines().count() == 4 && labels.contains("now"),
        "charts in words:\n{labels}"
    );
    for (name, width, height, scheme) in [
        ("status-page-light", 1280, 900, "light"),
        ("status-page-dark", 1280, 900, "dark"),
        ("status-page-narrow", 390, 844, "dark"),
    ] {
        browser.show_as(width, height, scheme)?;
        // The next look draws for the new size.
        browser.evaluate("new Promise((done) => setTimeout(done, 1300))")?;
        let wide = "document.documentElement.scrollWidth <= innerWidth";
        ensure!(
            browser.evaluate(wide)? == json!(true),
            "{name}: wider than the window"
        );
        browser.picture(&artefact(name))?;
        println!("picture: {}", artefact(name).display());
    }
    check_behaviour(&mut browser)
}

fn works_without_a_mouse() -> Result<()> {
    let town = Town::busy()?;
    let mut browser = open(&town)?;
    let focused = "document.activeElement.textContent";
    // Through the whole page by Tab: everything that can be used is reached, and shows it.
    let mut reached = Vec::new();
    for _ in 0..24 {
        browser.press("Tab")?;
        let name = browser.evaluate(
            "(document.activeElement.id || document.activeElement.getAttribute('aria-label') \
              || document.activeElement.textContent).slice(0, 24)",
        )?;
        reached.push(name.as_str().unwrap_or_default().to_owned());
        let outline = browser.evaluate(
            "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle",
        )?;
        ensure!(outline != json!("none"), "no visible focus at {reached:?}");
    }
    for wanted in [
        "Skip to the stores",
        "pause",
        "theme",
        "filter",
        "Store",
        "Requests/s",
        "Requests per second",
    ] {
        ensure!(
            reached.iter().any(|name| name.starts_with(wanted)),
            "Tab does not reach {wanted}: {reached:?}"
        );
    }
    // Filter, then through the rows by arrows.
    browser.evaluate("document.activeElement.blur()")?;
    browser.press("/")?;
    ensure!(
        browser.evaluate("document.activeElement.id")? == json!("filter"),
        "/ does not lead to the filter"
    );
    for key in ["s", "h", "o", "p"] {
        browser.press(key)?;
    }
    browser.wait_for("document.querySelectorAll('#rows tr').length === 3")?;
    browser.evaluate("document.querySelector('#rows [tabindex=\"0\"]').focus()")?;
    let first = browser.evaluate(focused)?;
    browser.press("ArrowDown")?;
    let second = browser.evaluate(focused)?;
    ensure!(first != second, "ArrowDown stays at {first}");
    ensure!(
        browser.evaluate("document.querySelector('#detail-name').textContent")? == second,
        "the details are of another store"
    );
    // The focus stays where it is while the figures change.
    browser.evaluate("new Promise((done) => setTimeout(done, 2500))")?;
    ensure!(browser.evaluate(focused)? == second, "the focus was lost");
    // Single values of a chart are spoken.
    browser.evaluate("document.querySelector('#charts svg').focus()")?;
    browser.press("ArrowLeft")?;
    browser.press("ArrowLeft")?;
    browser.wait_for("document.querySelector('#spoken').textContent.includes('ago: requests')")?;
    // Sorting is said.
    browser.evaluate("document.querySelector('#heads button').focus()")?;
    browser.press("Enter")?;
    browser.wait_for(
        "document.querySelector('#heads th').getAttribute('aria-sort') === 'ascending'",
    )?;
    // Everything has a name for who cannot see it.
    let tree = browser.call("Accessibility.getFullAXTree", json!({}))?;
    for node in tree["nodes"].as_array().into_iter().flatten() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let named = node["name"]["value"]
            .as_str()
            .is_some_and(|name| !name.is_empty());
        let ignored = node["ignored"] == json!(true);
        ensure!(
            ignored || named || !["button", "image", "searchbox", "region", "link"].contains(&role),
            "a {role} without a name: {node}"
        );
    }
    check_behaviour(&mut browser)
}

fn tells_that_the_agent_is_gone() -> Result<()> {
    let town = Town::quiet()?;
    let mut browser = open(&town)?;
    let pid = town.bed.agent_pid()?.to_string();
    // An agent that hangs: the page says so, and recovers by itself.
    let signal = |name: &str| output(Command::new("kill").args([name, &pid]));
    signal("-STOP")?;
    let told = browser.wait_for(
        "document.querySelector('#banner').textContent.includes('has not answered since')",
    );
    if told.is_ok() {
        browser.picture(&artefact("status-page-agent-gone"))?;
    }
    signal("-CONT")?;
    told?;
    browser.wait_for("document.querySelector('#banner').hidden && document.querySelector('#health-text').textContent === 'serving'")?;
    check_behaviour(&mut browser)?;
    // A Valkey that hangs is told as well.
    let valkey = town.bed.valkey_pid()?.to_string();
    let signal = |name: &str| output(Command::new("kill").args([name, &valkey]));
    signal("-STOP")?;
    let told =
        browser.wait_for("document.querySelector('#health-text').textContent === 'Valkey gone'");
    signal("-CONT")?;
    told?;
    browser.wait_for("document.querySelector('#health-text').textContent === 'serving'")?;
    // Another agent has another token: the page asks for the new address and forgets the stores.
    let port = town.flect(&["status", "--page"])?;
    town.bed.stop_agent()?;
    browser.wait_for("!document.querySelector('#banner').hidden")?;
    let text = std::fs::read_to_string(town.bed.config_path())?;
    let place = port.split('/').nth(2).context("no port")?;
    std::fs::write(town.bed.config_path(), text.replace("127.0.0.1:0", place))?;
    town.bed.start_agent()?;
    browser.wait_for("!document.querySelector('#locked').hidden")?;
    ensure!(
        browser.evaluate("document.querySelector('#main').hidden")? == json!(true),
        "stores are still shown"
    );
    browser.picture(&artefact("status-page-locked"))?;
    let url = town.flect(&["status", "--page"])?;
    browser.open(url.trim())?;
    browser.wait_for("document.querySelectorAll('#rows tr').length >= 5")
}
