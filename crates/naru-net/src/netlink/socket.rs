//! A blocking netlink socket: requests out in one `send`, acknowledgements and dumps in.

use super::decode::{Attributes, Frame, Frames, read_u32, text};
use super::encode::Batch;
use crate::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::time::Duration;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the dump is not of one moment.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: an error message holds the header of its request only.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: an error message has attributes behind it.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;
/// The kernel never fills more than this for one part of a dump (`max_recvmsg_len` in af_netlink.c).
const DATAGRAM: usize = 32 * 1024;
/// The kernel answers a request before `send` returns; only a lost answer (`ENOBUFS`) leaves a reader waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one transaction: 65,535 ports that are withdrawn on both families are 50 MB. Taken only while one is sent.
const AT_ONCE: usize = 128 << 20;
/// Acknowledgements beyond this many could overrun the socket's receive buffer.
const MAX_REQUESTS: usize = 128;

/// A netlink socket. It belongs to the network namespace of the thread that opened it, and keeps that namespace alive.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of `protocol` (`None`: routing) in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(protocol: Option<Protocol>) -> Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|errno| Error::Socket { operation: "open", errno })?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| Error::Socket { operation: "set a timeout", errno })?;
        // Where it isn't permitted, what can be sent at once is less.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&fd, AT_ONCE);
        Ok(Self { fd, sequence: 0 })
    }

    /// The number that the kernel has given this socket; 0 before its first request.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn port_id(&self) -> Result<u32> {
        let failed = |errno| Error::Socket { operation: "ask for the address of", errno };
        let address = rustix::net::getsockname(&self.fd).map_err(failed)?;
        rustix::net::netlink::SocketAddrNetlink::try_from(address).map(|a| a.pid()).map_err(failed)
    }

    /// Sends all requests and waits for every acknowledgement that was asked for.
    ///
    /// The kernel goes on behind a request that fails (rtnetlink), so later ones may have had an effect.
    ///
    /// # Errors
    /// [`Error::Refused`] for the first request that was refused.
    pub fn send(&mut self, mut batch: Batch) -> Result<()> {
        let first = self.transmit(&mut batch)?;
        let mut waiting = batch.requests.iter().filter(|r| r.acknowledged).count();
        let mut failure: Option<(usize, Error)> = None;
        let mut buffer = Vec::with_capacity(DATAGRAM);
        while waiting > 0 {
            self.receive(&mut buffer)?;
            for frame in Frames::new(&buffer).filter(|f| f.kind == NLMSG_ERROR) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                let Some(request) = batch.requests.get(index) else { continue };
                waiting = waiting.saturating_sub(usize::from(request.acknowledged));
                if let Some(error) = refusal(&frame, request.operation)?
                    && failure.as_ref().is_none_or(|(i, _)| index < *i)
                {
                    failure = Some((index, error));
                }
            }
        }
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Sends an nfnetlink batch, whose first and last requests are its begin and end, and of which only the request before the
    /// end asks for an acknowledgement: that one comes last, behind every refusal.
    ///
    /// # Errors
    /// [`Error::Refused`] for the first request that was refused; then none has had an effect.
    pub(crate) fn send_transaction(&mut self, mut batch: Batch) -> Result<()> {
        let first = self.transmit(&mut batch)?;
        let last = batch.requests.iter().rposition(|r| r.acknowledged).unwrap_or(0);
        let mut failure: Option<Error> = None;
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            self.receive(&mut buffer)?;
            for frame in Frames::new(&buffer).filter(|f| f.kind == NLMSG_ERROR) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                let Some(request) = batch.requests.get(index) else { continue };
                if let Some(error) = refusal(&frame, request.operation)? {
                    failure.get_or_insert(error);
                }
                // A refused begin means that nothing was looked at, and that no acknowledgement follows.
                if index == last || (index == 0 && failure.is_some()) {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends the one request of `batch`, which is no dump, and gives its answer's payload to `read`.
    ///
    /// # Errors
    /// [`Error::Refused`], among them `ENOENT` and `ENODEV` for an object that is not there, or what `read` returns.
    pub fn get<T>(&mut self, mut batch: Batch, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let first = self.transmit(&mut batch)?;
        let operation = batch.requests.first().map_or("ask", |r| r.operation);
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            self.receive(&mut buffer)?;
            if let Some(frame) = Frames::new(&buffer).find(|f| f.sequence == first) {
                return match frame.kind {
                    NLMSG_ERROR => Err(refusal(&frame, operation)?.unwrap_or(Error::Malformed("no answer"))),
                    _ => read(frame.payload),
                };
            }
        }
    }

    /// Asks for all objects of a kind and keeps those that `read` makes something of. A dump that a change has interrupted is
    /// made again, a few times.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn dump<T>(
        &mut self,
        operation: &'static str,
        kind: u16,
        header: &[u8],
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..4 {
            found.clear();
            let mut batch = Batch::new();
            batch.push(operation, kind, super::DUMP, header, |_| {});
            let whole = self.dump_once(batch, operation, |payload| found.extend(read(payload)))?;
            if whole {
                break;
            }
        }
        Ok(found)
    }

    /// One try at a dump; false when it was interrupted.
    fn dump_once(&mut self, mut batch: Batch, operation: &'static str, mut each: impl FnMut(&[u8])) -> Result<bool> {
        let first = self.transmit(&mut batch)?;
        let mut buffer = Vec::with_capacity(DATAGRAM);
        let mut whole = true;
        loop {
            self.receive(&mut buffer)?;
            for frame in Frames::new(&buffer).filter(|f| f.sequence == first) {
                whole &= frame.flags & DUMP_INTERRUPTED == 0;
                match frame.kind {
                    NLMSG_ERROR => return refusal(&frame, operation)?.map_or(Ok(whole), Err),
                    NLMSG_DONE => return Ok(whole),
                    _ => each(frame.payload),
                }
            }
        }
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<u32> {
        if let Some(operation) = batch.overflow {
            return Err(Error::TooLong(operation));
        }
        let operation = batch.requests.first().map_or("ask", |r| r.operation);
        if batch.requests.iter().filter(|r| r.acknowledged).count() > MAX_REQUESTS {
            return Err(Error::TooLong(operation));
        }
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(batch.requests.len() as u32);
        batch.number(first);
        naru_sys::fault::point();
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &batch.bytes, SendFlags::empty()))
            .map_err(|errno| Error::Socket { operation: "send", errno })?;
        Ok(first)
    }

    fn receive(&self, buffer: &mut Vec<u8>) -> Result<()> {
        rustix::io::retry_on_intr(|| {
            buffer.clear();
            rustix::net::recv(&self.fd, rustix::buffer::spare_capacity(buffer), RecvFlags::empty()).map(drop)
        })
        .map_err(|errno| Error::Socket { operation: "receive", errno })
    }
}

/// The refusal that an error message tells, or none for an acknowledgement.
fn refusal(frame: &Frame<'_>, operation: &'static str) -> Result<Option<Error>> {
    let code = read_u32(frame.payload).ok_or(Error::Malformed("short error message"))? as i32;
    if code == 0 {
        return Ok(None);
    }
    Ok(Some(Error::Refused {
        operation,
        subject: String::new(),
        errno: Errno::from_raw_os_error(code.saturating_neg()),
        detail: detail(frame),
    }))
}

/// The kernel's words behind an error message: after the request's header, and after its body unless that was left out.
fn detail(frame: &Frame<'_>) -> Option<String> {
    if frame.flags & ACK_TLVS == 0 {
        return None;
    }
    let request = frame.payload.get(4..)?;
    let skip = if frame.flags & CAPPED != 0 { super::encode::HEADER } else { read_u32(request)? as usize };
    let attributes = request.get(skip.next_multiple_of(4)..)?;
    Attributes::new(attributes).find(|(kind, _)| *kind == ERROR_TEXT).map(|(_, value)| text(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error message as the kernel writes it: code, the request's header (and body unless capped), then the text.
    fn error_message(capped: bool, body: &[u8], words: &str) -> Vec<u8> {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
        payload.extend_from_slice(&[0; 12]);
        if !capped {
            payload.extend_from_slice(body);
        }
        payload.extend_from_slice(&(4 + words.len() as u16 + 1).to_ne_bytes());
        payload.extend_from_slice(&ERROR_TEXT.to_ne_bytes());
        payload.extend_from_slice(words.as_bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn the_kernels_words_are_found_behind_both_kinds_of_error_message() {
        for (capped, flags) in [(true, ACK_TLVS | CAPPED), (false, ACK_TLVS)] {
            let payload = error_message(capped, &[9; 8], "name taken");
            let frame = Frame { kind: NLMSG_ERROR, flags, sequence: 1, payload: &payload };
            let error = refusal(&frame, "create bridge").unwrap().unwrap().about("naru0");
            assert_eq!(error.to_string(), "cannot create bridge naru0: File exists (os error 17) (name taken)");
        }
    }

    #[test]
    fn an_acknowledgement_is_no_refusal() {
        let frame = Frame { kind: NLMSG_ERROR, flags: 0, sequence: 1, payload: &[0; 20] };
        assert!(refusal(&frame, "x").unwrap().is_none());
        let short = Frame { payload: &[0; 2], ..frame };
        assert!(refusal(&short, "x").is_err());
    }
}
