//! Who listens on a port already, as Linux tells in /proc.

use std::fs;
use std::net::SocketAddr;

/// `pid 4242 "vllm"`, where this user may know it.
pub(crate) fn of(address: SocketAddr) -> Option<String> {
    let sockets =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|file| fs::read_to_string(file).ok());
    let inodes: Vec<String> = sockets.flat_map(|text| listening(&text, address.port())).collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds(*pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("pid {pid} {:?}", name.trim_end()))
}

/// The inodes of sockets that listen on `port`, from the text of /proc/net/tcp: local address in the second column, state
/// in the fourth (0A listens), inode in the tenth.
fn listening(text: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 9 && row[1].ends_with(&local) && row[3] == "0A");
    rows.map(|row| format!("socket:[{}]", row[9])).collect()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links.into_iter().any(|link| link.to_str().is_some_and(|link| inodes.iter().any(|inode| inode == link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_the_port_are_taken() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                    0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1\n\
                    1: 0100007F:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 78 1\n\
                    2: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 79 1\n";
        assert_eq!(listening(text, 8000), ["socket:[77]"]);
        assert!(listening(text, 1).is_empty());
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let found = of(listener.local_addr().expect("it has an address"));
        assert!(found.is_some_and(|found| found.starts_with(&format!("pid {} \"", std::process::id()))));
    }
}
