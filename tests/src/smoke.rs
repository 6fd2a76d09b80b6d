//! End-to-end trials that touch every part once.
