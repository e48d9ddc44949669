//! The sandbox image, made here so that nothing has to be pulled: one static program of about a hundred bytes
//! of machine code.
//!
//! The program is a sandbox's process 1: it waits for signals, collects ended children (its pid namespace may
//! be the whole pod's) and exits on SIGTERM and SIGINT. It blocks those signals and waits for them, so it
//! needs no handlers.

use sha2::{Digest, Sha256};

use super::archive::{Blob, Bundle};

/// SIGINT, SIGTERM and SIGCHLD as the kernel's bit mask.
const MASK: u32 = 1 << (2 - 1) | 1 << (15 - 1) | 1 << (17 - 1);

const X86_64: [u8; 97] = {
    let mask = MASK.to_le_bytes();
    [
        0x68, mask[0], mask[1], mask[2], mask[3], // push MASK
        0xb8, 14, 0, 0, 0, // mov eax, rt_sigprocmask
        0x31, 0xff, // xor edi, edi (SIG_BLOCK)
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x31, 0xd2, // xor edx, edx
        0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
        0x0f, 0x05, // syscall
        // wait (25):
        0xb8, 128, 0, 0, 0, // mov eax, rt_sigtimedwait
        0x48, 0x89, 0xe7, // mov rdi, rsp
        0x31, 0xf6, // xor esi, esi
        0x31, 0xd2, // xor edx, edx
        0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
        0x0f, 0x05, // syscall
        0x83, 0xf8, 17, // cmp eax, SIGCHLD
        0x74, 19, // je reap
        0x83, 0xf8, 15, // cmp eax, SIGTERM
        0x74, 5, // je done
        0x83, 0xf8, 2, // cmp eax, SIGINT
        0x75, 0xdd, // jne wait
        // done (60):
        0xb8, 231, 0, 0, 0, // mov eax, exit_group
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
        // reap (69):
        0xb8, 61, 0, 0, 0, // mov eax, wait4
        0xbf, 0xff, 0xff, 0xff, 0xff, // mov edi, -1
        0x31, 0xf6, // xor esi, esi
        0xba, 1, 0, 0, 0, // mov edx, WNOHANG
        0x45, 0x31, 0xd2, // xor r10d, r10d
        0x0f, 0x05, // syscall
        0x85, 0xc0, // test eax, eax
        0x7f, 0xe6, // jg reap
        0xeb, 0xb8, // jmp wait
    ]
};

/// `movz xREGISTER, #VALUE`.
const fn movz(register: u32, value: u32) -> u32 {
    0xd280_0000 | value << 5 | register
}

/// `cmp w0, #VALUE`.
const fn cmp_w0(value: u32) -> u32 {
    0x7100_001f | value << 10
}

/// `b.CONDITION` over a number of instructions.
const fn branch_if(condition: u32, offset: i32) -> u32 {
    0x5400_0000 | ((offset as u32) & 0x7_ffff) << 5 | condition
}

const SVC: u32 = 0xd400_0001;
const EQ: u32 = 0;
const NE: u32 = 1;
const GT: u32 = 12;

const AARCH64: [u32; 33] = [
    movz(1, MASK & 0xffff),
    0xf2a0_0001 | (MASK >> 16) << 5, // movk x1, #MASK, lsl 16
    0xf81f_0fe1,                     // str x1, [sp, #-16]!
    movz(0, 0),                      // SIG_BLOCK
    0x9100_03e1,                     // mov x1, sp
    movz(2, 0),
    movz(3, 8),
    movz(8, 135), // rt_sigprocmask
    SVC,
    0x9100_03e0, // wait (9): mov x0, sp
    movz(1, 0),
    movz(2, 0),
    movz(3, 8),
    movz(8, 137), // rt_sigtimedwait
    SVC,
    cmp_w0(17), // SIGCHLD
    branch_if(EQ, 24 - 16),
    cmp_w0(15), // SIGTERM
    branch_if(EQ, 21 - 18),
    cmp_w0(2), // SIGINT
    branch_if(NE, 9 - 20),
    movz(0, 0),  // done (21)
    movz(8, 94), // exit_group
    SVC,
    0x9280_0000, // reap (24): mov x0, -1
    movz(1, 0),
    movz(2, 1), // WNOHANG
    movz(3, 0),
    movz(8, 260), // wait4
    SVC,
    cmp_w0(0),
    branch_if(GT, 24 - 31),
    0x1400_0000 | ((9i32 - 32) as u32) & 0x3ff_ffff, // b wait
];

/// The program as an ELF file for an architecture of Go's naming; none for one we have no code for.
pub(crate) fn program(architecture: &str) -> Option<Vec<u8>> {
    let (machine, code): (u16, Vec<u8>) = match architecture {
        "amd64" => (62, X86_64.to_vec()),
        "arm64" => (183, AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect()),
        _ => return None,
    };
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = Vec::with_capacity(256);
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend_from_slice(&2u16.to_le_bytes()); // executable
    elf.extend_from_slice(&machine.to_le_bytes());
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, program headers, section headers
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes()); // load
    elf.extend_from_slice(&5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&code);
    Some(elf)
}

/// The sandbox image for this machine; none for an architecture we have no code for.
pub(crate) fn bundle(image: &str) -> Option<Bundle> {
    let architecture = super::archive::architecture();
    let mut header = tar::Header::new_ustar();
    let elf = program(architecture)?;
    header.set_size(elf.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_cksum();
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_data(&mut header, "pause", elf.as_slice()).ok()?;
    let layer = layer.into_inner().ok()?;
    let diff = format!("sha256:{:x}", Sha256::digest(&layer));
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    let config = Blob::memory("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let layer = Blob::memory("application/vnd.oci.image.layer.v1.tar", layer);
    Some(Bundle::of(vec![image.to_string()], config, vec![layer]))
}

#[cfg(test)]
mod tests;
