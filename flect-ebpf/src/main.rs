//! The BPF programs, one module per hook, in the order in which a connection meets them.
//!
//! On any other target than BPF this is an empty program, so that `cargo build --workspace` works;
//! `flect-agent/build.rs` builds the real one and embeds it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(
        internal_features,
        reason = "the target has atomic addition and `core` no stable name for it"
    )
)]

#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod sock_create;

#[cfg(target_arch = "bpf")]
mod connect;

#[cfg(target_arch = "bpf")]
mod sockops;

#[cfg(target_arch = "bpf")]
mod getpeername;

#[cfg(target_arch = "bpf")]
mod bind;

#[cfg(target_arch = "bpf")]
mod egress;

#[cfg(target_arch = "bpf")]
mod sk_msg;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers such as bpf_probe_read_kernel ask for a licence compatible with the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
