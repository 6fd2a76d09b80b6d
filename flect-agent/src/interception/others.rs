//! BPF programs of others on the hooks that decide about connections, for `flect doctor`.

use std::io;

use aya::programs::loaded_programs;

/// `enum bpf_prog_type` in linux/bpf.h.
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;

/// The names of all loaded programs that run at connect, bind or getpeername, flect's included; the
/// kernel cuts names after 15 bytes.
///
/// # Errors
/// When the kernel does not tell, which takes CAP_SYS_ADMIN.
pub fn socket_programs() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for program in loaded_programs() {
        let program = program.map_err(io::Error::other)?;
        // aya keeps its names of the kernel's numbers to itself.
        if program.program_type() as u32 == BPF_PROG_TYPE_CGROUP_SOCK_ADDR {
            let name = program.name_as_str().unwrap_or("without a name");
            names.push(format!("{name} (id {})", program.id()));
        }
    }
    Ok(names)
}
