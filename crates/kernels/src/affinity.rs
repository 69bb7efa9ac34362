//! Which CPUs this process may use, and pinning a thread to one of them.

/// CPUs that the calling thread may run on, one per physical core first, then their siblings.
///
/// Empty where the operating system does not say.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let allowed = os::allowed();
    let (mut cores, mut siblings) = (Vec::new(), Vec::new());
    for &cpu in &allowed {
        match first_sibling(cpu) {
            Some(first) if first != cpu && allowed.contains(&first) => siblings.push(cpu),
            _ => cores.push(cpu),
        }
    }
    cores.extend(siblings);
    cores
}

/// Physical cores that this process may use, at least 1, at most the CPU quota of its control group.
pub(crate) fn physical_cores() -> usize {
    let allowed = os::allowed();
    let is_sibling =
        |cpu: &usize| first_sibling(*cpu).is_some_and(|first| first != *cpu && allowed.contains(&first));
    let cores = allowed.iter().filter(|cpu| !is_sibling(cpu)).count();
    let quota = std::thread::available_parallelism().map_or(1, usize::from);
    if cores == 0 { quota } else { cores.min(quota) }
}

/// Pins the calling thread to `cpu`.
///
/// # Errors
///
/// The operating system's refusal, or `Unsupported` where it has no such call.
pub(crate) fn pin_current_thread(cpu: usize) -> std::io::Result<()> {
    os::pin(cpu)
}

/// Lowest CPU of the physical core that `cpu` belongs to.
fn first_sibling(cpu: usize) -> Option<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).ok()?;
    list.split([',', '-', '\n']).next()?.trim().parse().ok()
}

#[cfg(target_os = "linux")]
mod os {
    use std::io;
    use std::mem::size_of;

    fn empty_set() -> libc::cpu_set_t {
        // SAFETY: cpu_set_t is an array of integers, for which all zeros is a value.
        unsafe { std::mem::zeroed() }
    }

    pub(super) fn allowed() -> Vec<usize> {
        let mut set = empty_set();
        // SAFETY: the pointer and the size describe `set`, which the call overwrites; 0 is the calling thread.
        let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
        if status != 0 {
            return Vec::new();
        }
        let bits = 8 * size_of::<libc::cpu_set_t>();
        // SAFETY: `cpu` is below the number of bits in the set.
        (0..bits).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
    }

    pub(super) fn pin(cpu: usize) -> io::Result<()> {
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut set = empty_set();
        // SAFETY: `cpu` is below the number of bits in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: the pointer and the size describe `set`, which the call only reads; 0 is the calling thread.
        let status = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    pub(super) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn pin(_cpu: usize) -> std::io::Result<()> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_order_lists_every_allowed_cpu_once() {
        let mut ordered = allowed_cpus();
        ordered.sort_unstable();
        assert_eq!(ordered, os::allowed());
        assert!((1..=ordered.len()).contains(&physical_cores()));
    }

    #[test]
    fn a_pinned_thread_may_run_on_one_cpu_only() {
        let cpu = allowed_cpus()[0];
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(os::allowed(), [cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_beyond_the_set_is_refused() {
        assert!(pin_current_thread(usize::MAX).is_err());
    }
}
