//! The JSON schema of `flect.toml`, for editors.
//!
//! It is published as `config/flect.schema.json`; a test keeps the two equal, and another its keys
//! and the parser's.

#![expect(
    dead_code,
    reason = "these types are only described, never made: the parser makes Manifest, with places"
)]

use schemars::{JsonSchema, generate::SchemaSettings};

use super::names::{APP_BYTES_MAX, BINDING_BYTES_MAX};
use crate::store::SLUG_BYTES_MAX;

/// The stores of an app, for `flect run` and `flect dev`.
#[derive(JsonSchema)]
#[schemars(title = "flect.toml", deny_unknown_fields)]
struct File {
    /// The app's name on the node, as its operator wrote it in agent.toml. Without it `flect run`
    /// takes the only app that you may run, or the one given with --app.
    #[schemars(length(max = APP_BYTES_MAX), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    app: Option<String>,
    /// The stores that the app uses.
    #[schemars(default)]
    kv: Vec<Kv>,
}

/// A store and what the app calls it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Kv {
    /// What the app calls the store: with CACHE it finds the store's URL in the variable CACHE_URL.
    /// Each binding stands once.
    #[schemars(
        length(max = BINDING_BYTES_MAX),
        regex(pattern = r"^[A-Z][A-Z0-9_]*$"),
        example = &"CACHE"
    )]
    binding: String,
    /// The store's name, as `flect kv list` shows it.
    #[schemars(
        length(max = SLUG_BYTES_MAX),
        regex(pattern = r"^[a-z0-9][a-z0-9-]*$"),
        example = &"my-cache"
    )]
    name: String,
}

/// The schema as text.
#[must_use]
pub fn schema() -> String {
    let generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<File>();
    // TOML has no null: what is optional is left out.
    if let Some(kind) = schema.pointer_mut("/properties/app/type") {
        *kind = "string".into();
    }
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::parse::{KEYS, KV_KEYS};
    use super::*;

    #[test]
    fn the_published_schema_is_this_one() {
        let published = include_str!("../../../config/flect.schema.json");
        assert_eq!(
            published,
            schema(),
            "write it anew: flect check --schema > config/flect.schema.json"
        );
    }

    #[test]
    fn schema_and_parser_know_the_same_keys() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&schema["properties"]), KEYS);
        let kv = &schema["properties"]["kv"]["items"];
        assert_eq!(keys(&kv["properties"]), KV_KEYS);
        assert_eq!(kv["required"], serde_json::json!(KV_KEYS));
        for part in [&schema, kv] {
            assert_eq!(part["additionalProperties"], false);
        }
    }
}
