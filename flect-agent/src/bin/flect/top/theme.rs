//! How things look: with colours, and without where the user wants none.

use clap::ColorChoice;
use ratatui::style::{Color, Modifier, Style};

/// The styles of the view.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    colors: bool,
}

impl Theme {
    /// As `--color` and `NO_COLOR` say.
    pub fn new(choice: ColorChoice) -> Self {
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colors = match choice {
            ColorChoice::Auto => !unwanted,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        // crossterm looks at NO_COLOR itself.
        ratatui::crossterm::style::force_color_output(colors);
        Self { colors }
    }

    /// Without colours, so that tests see text alone.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colors: false }
    }

    fn color(self, color: Color) -> Style {
        match self.colors {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// The terminal's own colours.
    pub fn base(self) -> Style {
        Style::new()
    }

    /// The names of things.
    pub fn head(self) -> Style {
        self.color(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What is less important.
    pub fn faint(self) -> Style {
        match self.colors {
            true => Style::new().fg(Color::DarkGray),
            false => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// What is well.
    pub fn good(self) -> Style {
        self.color(Color::Green)
    }

    /// What needs a look; said in words as well.
    pub fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Bars and sparklines.
    pub fn bar(self) -> Style {
        self.color(Color::Blue)
    }

    /// The store under the cursor.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
