//! cgroup v2: where it is mounted, and what an id or a path means.
