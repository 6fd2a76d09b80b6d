//! A browser without a window, spoken to over a pipe.
//!
//! `--remote-debugging-pipe` is the DevTools protocol as JSON documents with a NUL behind each, on
//! the descriptors 3 and 4: no port, no websocket, and the browser ends with the pipe. A shell
//! gives its stdin and stdout these numbers.
//!
//! Invariant: everything that went wrong inside the page is kept: exceptions, refusals by its
//! content security policy, requests to anywhere.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tools;

/// A browser on a busy machine of two cores takes seconds to start.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// What a page shows after at most this, or it is broken: several of its seconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at the page.
const POLL: Duration = Duration::from_millis(100);
/// Without these, a browser in a test asks its maker for updates or needs a graphics card.
const OPTIONS: [&str; 8] = [
    // Chromium refuses to run as root otherwise; it is shown nothing but our own page.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with one page.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<Value>,
    number: u64,
    session: String,
    /// What went wrong inside the page.
    pub complaints: Vec<String>,
    /// Every address that the page asked for.
    pub asked: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser with an empty page.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub fn start() -> Result<Self> {
        let profile = TempDir::new()?;
        let program = tools::program("chromium-headless-shell")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(program)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("FONTCONFIG_FILE", tools::font_configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It complains about the missing desktop, whatever happens.
            .stderr(Stdio::null());
        let mut child = command.spawn().context("starting chromium")?;
        let requests = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (send, replies) = channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut document = Vec::new();
            while reader.read_until(0, &mut document).is_ok_and(|n| n > 0) {
                document.pop();
                let value = serde_json::from_slice(&document).unwrap_or_default();
                if send.send(value).is_err() {
                    return;
                }
                document.clear();
            }
        });
        let mut browser = Self {
            child,
            requests,
            replies,
            number: 0,
            session: String::new(),
            complaints: Vec::new(),
            asked: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().context("no session")?.into();
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the DevTools protocol.
    ///
    /// # Errors
    /// When the browser says so or does not answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        write!(self.requests, "{request}\0").context("the browser is gone")?;
        self.requests.flush()?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = match self.replies.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("{method}: the browser does not answer"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: the browser ended"),
            };
            if message["id"] != json!(self.number) {
                self.note(&message);
                continue;
            }
            if let Some(error) = message["error"]["message"].as_str() {
                bail!("{method}: {error}");
            }
            return Ok(message["result"].take());
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                let details = &parameters["exceptionDetails"];
                self.complaints.push(format!("exception: {details}"));
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                let entry = &parameters["entry"];
                self.complaints
                    .push(format!("{}: {}", entry["source"], entry["text"]));
            }
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                self.asked.push(url.to_owned());
            }
            _ => {}
        }
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": url }))?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// The size of the window, and what the user prefers.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn show_as(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1.5,
            "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        Ok(())
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", ask)?;
        if answer["exceptionDetails"].is_object() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Errors
    /// When it is not in time; the message has what the page shows.
    pub fn wait_for(&mut self, expression: &str) -> Result<()> {
        let deadline = Instant::now() + SHOWN_WITHIN;
        while self.evaluate(&format!("Boolean({expression})"))? != json!(true) {
            if Instant::now() > deadline {
                let shown = self.evaluate("document.body?.innerText ?? ''")?;
                bail!(
                    "not so: {expression}\nthe page shows:\n{}",
                    shown.as_str().unwrap_or("")
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Presses and releases a key: `Tab`, `ArrowDown`, `Enter`, or a character.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        let text = match key {
            "Enter" => Some("\r"),
            _ if key.chars().count() == 1 => Some(key),
            _ => None,
        };
        let mut event = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if let Some(text) = text {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone())?;
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event)?;
        Ok(())
    }

    /// Takes a picture of the whole page.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn picture(&mut self, path: &Path) -> Result<()> {
        let taken = self.call(
            "Page.captureScreenshot",
            json!({ "format": "png", "captureBeyondViewport": true }),
        )?;
        let text = taken["data"].as_str().context("no picture")?;
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, from_base64(text)?).with_context(|| path.display().to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe; this is for one that hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// RFC 4648, as the browser writes it: no line breaks.
fn from_base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("no base64: {byte:#x}"),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            // The lowest eight of the bits that are whole.
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, expect) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(from_base64(text).unwrap(), expect.as_bytes());
        }
        assert!(from_base64("a b").is_err());
    }
}
