//! Whether this process can use the tile unit.
//!
//! Three parties must agree. The *processor* has tiles with products of bf16 and of bytes (CPUID). The *operating system*
//! saves tiles between threads (the bits of XCR0) and gives this process the permission to use them: on Linux a system
//! call, which counts for all threads of the process, those that run already and those that it will start. A sandbox may
//! refuse it. Last, the unit must *work*: each instruction runs once against its emulation. A hypervisor or an emulator that
//! offers tiles and computes something else is not believed, because a wrong product would be a wrong answer without an
//! error, while a machine without tiles is merely slower.

use super::hard::HardTiles;
use super::probe;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Whether the tile unit may be used; decided once.
pub(super) fn detected() -> bool {
    static DETECTED: OnceLock<bool> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        if !(processor() && saved_by_system() && permitted()) {
            return false;
        }
        // SAFETY: the machine has the unit and the process has the permission.
        unsafe { probe::agrees::<HardTiles>() }
    })
}

/// Whether the processor has tiles and their products of bf16 and of bytes.
fn processor() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    const ALL: u32 = BF16 | TILE | INT8;
    let highest = __cpuid(0).eax;
    highest >= 7 && __cpuid_count(7, 0).edx & ALL == ALL
}

/// Whether the operating system saves and restores the configuration and the content of tiles.
fn saved_by_system() -> bool {
    #[target_feature(enable = "xsave")]
    fn enabled_state() -> u64 {
        // SAFETY: the register 0 exists wherever XGETBV is enabled.
        unsafe { _xgetbv(0) }
    }
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u64 = 1 << 17 | 1 << 18;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: the operating system has enabled XGETBV.
    unsafe { enabled_state() & TILES == TILES }
}

/// Asks the operating system for the permission to use the content of tiles.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call reads and writes no memory of this process; a refusal is a result.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Elsewhere XCR0 alone decides.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    true
}
