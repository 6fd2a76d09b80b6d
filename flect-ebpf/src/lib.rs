//! Types that the BPF programs share with the agent.
#![no_std]
