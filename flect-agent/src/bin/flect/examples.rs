//! An example for every command, at the end of its help and its manual page.
//!
//! Invariant: each is a command line that flect takes (tested), and no command is without one.

use clap::Command;

/// What each command is good for, by its path. A blank line parts examples from what they show.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "kv create",
        &[
            "flect kv create my-cache",
            "flect kv create sessions --max-memory 100mb --rate 5000",
        ],
    ),
    ("kv list", &["flect kv list", "flect kv list --json"]),
    ("kv show", &["flect kv show my-cache"]),
    (
        "kv set",
        &["flect kv set my-cache --max-memory 200mb --max-connections none"],
    ),
    ("kv rename", &["flect kv rename my-cache page-cache"]),
    ("kv token", &["flect kv token my-cache --new"]),
    (
        "kv rm",
        &["flect kv rm my-cache", "flect kv rm my-cache --yes"],
    ),
    ("kv usage", &["flect kv usage my-cache"]),
    ("kv clone", &["flect kv clone my-cache my-cache-copy"]),
    ("kv move", &["flect kv move my-cache --to 10.0.0.6:6379"]),
    ("kv export", &["flect kv export my-cache my-cache.flect"]),
    ("kv import", &["flect kv import my-cache my-cache.flect"]),
    (
        "kv shell",
        &[
            "flect kv shell my-cache",
            "flect kv shell my-cache -- GET user:1",
        ],
    ),
    ("env list", &["flect env list"]),
    ("env use", &["flect env use production"]),
    ("env show", &["flect env show", "flect env show staging"]),
    (
        "env set",
        &["flect env set --max-memory 4gb --eviction-policy allkeys-lru"],
    ),
    (
        "env rebalance",
        &[
            "flect env rebalance --dry-run",
            "flect env rebalance --by traffic --seconds 60 --max-moves 10",
        ],
    ),
    (
        "env add",
        &["flect env add staging --address 10.0.0.5:6379 --password-file staging.password"],
    ),
    ("env remove", &["flect env remove staging"]),
    (
        "run",
        &[
            "flect run -- node server.js",
            "flect run --app shop -- npm start",
            "flect run --print-env",
        ],
    ),
    (
        "dev",
        &[
            "flect dev -- npm test",
            "flect dev --ephemeral -- cargo test",
            "flect dev",
        ],
    ),
    (
        "check",
        &[
            "flect check",
            "flect check services/shop --offline",
            "flect check --schema",
        ],
    ),
    (
        "explain",
        &[
            "flect explain SET user:1 Ada EX 60",
            "flect explain 'SORT tags BY weight_*'",
            "flect explain --store my-cache KEYS '*'",
        ],
    ),
    (
        "commands",
        &["flect commands --policy operator", "flect commands --json"],
    ),
    (
        "completions",
        &[
            "flect completions bash",
            "flect completions zsh",
            "flect completions fish",
        ],
    ),
    ("man", &["flect man --out man1"]),
    ("status", &["flect status", "flect status --json"]),
    ("top", &["flect top"]),
    ("doctor", &["flect doctor"]),
];

/// Adds the examples to the tree of commands.
pub fn add(mut tree: Command) -> Command {
    for (path, examples) in EXAMPLES {
        let words: Vec<&str> = path.split(' ').collect();
        tree = at(tree, &words, examples);
    }
    tree
}

fn at(command: Command, path: &[&str], examples: &[&str]) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let title = if examples.len() == 1 {
            "Example"
        } else {
            "Examples"
        };
        let text = format!("{title}:\n  {}", examples.join("\n  "));
        return command.after_help(text);
    };
    if command.find_subcommand(first).is_none() {
        return command;
    }
    command.mut_subcommand(first, |inner| at(inner, rest, examples))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that have no further ones, by their paths.
    fn leaves(command: &Command, path: &str, all: &mut Vec<(String, Command)>) {
        for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            if inner.has_subcommands() {
                leaves(inner, &path, all);
            } else {
                all.push((path, inner.clone()));
            }
        }
    }

    #[test]
    fn the_tree_is_consistent() {
        crate::tree().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_with_an_example() {
        let mut all = Vec::new();
        leaves(&crate::tree(), "", &mut all);
        assert!(all.len() > 10);
        for (path, command) in all {
            assert!(command.get_about().is_some(), "{path} says nothing");
            assert!(command.get_after_help().is_some(), "{path} has no example");
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{path} {name} says nothing");
            }
        }
    }

    #[test]
    fn examples_are_taken() {
        for (path, examples) in EXAMPLES {
            let words: Vec<&str> = path.split(' ').collect();
            let known = words.iter().try_fold(crate::tree(), |tree, word| {
                tree.find_subcommand(word).cloned()
            });
            if known.is_none() {
                continue;
            }
            for example in *examples {
                assert!(example.starts_with(&format!("flect {path}")), "{example}");
                // Quotes are the shell's.
                let words = example.split(' ').map(|word| word.trim_matches('\''));
                let taken = crate::tree().try_get_matches_from(words);
                assert!(taken.is_ok(), "{example}: {}", taken.unwrap_err());
            }
        }
    }
}
