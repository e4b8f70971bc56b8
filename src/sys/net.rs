//! TCP connections that are begun without waiting, so that the waiting can notice signals.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Starts a connection and returns at once; the stream does not block. When it becomes writable,
/// `TcpStream::take_error` says what came of it.
pub fn connect(to: &SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call without pointers.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let status = match to {
        SocketAddr::V4(v4) => {
            // SAFETY: sockaddr_in is plain data; zeroed because its members differ between systems.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: `raw` is a valid address of the given length.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) }
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_scope_id = v6.scope_id();
            let length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: `raw` is a valid address of the given length.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) }
        }
    };
    if status != 0 {
        let e = io::Error::last_os_error();
        if e.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(e);
        }
    }
    let stream = TcpStream::from(socket);
    // A handshake may end in two small writes. The second must not wait until the first is acknowledged: servers take
    // their time for that, 40 ms. Where this fails only that is lost.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_is_sent_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let stream = super::connect(&listener.local_addr().expect("address")).expect("connects");
        assert!(stream.nodelay().expect("option"));
    }
}
