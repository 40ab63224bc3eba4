//! Plain GETs (RFC 9112), one after another on a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status};

/// Limit for connecting, and for each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Far more than presenced sends.
const RESPONSE_BYTES_MAX: usize = 4 << 20;

const HEADERS_MAX: usize = 64;
const READ_BYTES: usize = 16 * 1024;

/// A connection that asks.
#[derive(Debug)]
pub(crate) struct Http {
    addr: SocketAddr,
    stream: TcpStream,
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Http> {
        let stream = TcpStream::connect_timeout(&addr, IO_TIMEOUT)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Http { addr, stream })
    }

    /// The status and the body.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        let host = self.addr;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let (mut answer, mut piece) = (Vec::new(), [0; READ_BYTES]);
        loop {
            if let Some(found) = response(&answer)? {
                return Ok(found);
            }
            if answer.len() > RESPONSE_BYTES_MAX {
                return Err(io::Error::other("the response is too long"));
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
    }
}

/// The status and the body; `None` if there is more to come.
fn response(answer: &[u8]) -> io::Result<Option<(u16, String)>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let parsed = response.parse(answer);
    let parsed = parsed.map_err(|_| io::Error::other("not an HTTP response"))?;
    let Status::Complete(head) = parsed else {
        return Ok(None);
    };
    let mut headers = response.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    // presenced always gives it.
    let length: usize = length.ok_or_else(|| io::Error::other("a response without its length"))?;
    let body = answer.get(head..head.saturating_add(length));
    let status = response.code.unwrap_or_default();
    Ok(body.map(|body| (status, String::from_utf8_lossy(body).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        for cut in 0..ok.len() {
            assert_eq!(response(&ok[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(response(ok).unwrap(), Some((200, "hi".into())));
        let none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(response(none).unwrap(), Some((404, String::new())));
        let error = |answer: &[u8]| response(answer).unwrap_err().to_string();
        assert!(error(b"hello").contains("HTTP"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(error(chunked).contains("length"));
    }
}
