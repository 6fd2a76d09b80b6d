//! Placeholder.
#[derive(Debug)]
pub struct Known;
#[derive(Debug)]
pub struct Scripts;
