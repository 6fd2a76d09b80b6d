//! The test bed: a private Valkey, an agent, cgroups and stores, all cleaned up afterwards.
