//! The command table: what each command of Valkey means for a store.
