//! Files that an operator names: read with a limit, as a name may be that of a device which never ends.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;

use crate::limits::PIPE_PATIENCE;

/// The whole of a file with at most `bytes_max` bytes. It may be a pipe; then it takes until its writer closes it.
///
/// # Errors
///
/// For people: why it can't be read, or that it has more.
pub fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let bytes = read_start(file, bytes_max + 1)?;
    match bytes.len() <= bytes_max {
        true => Ok(bytes),
        false => Err(format!("has more than {bytes_max} bytes")),
    }
}

/// The first bytes of a file, `bytes_max` at most. For a pipe it waits, as [`read`] does, and the log says so if that
/// takes longer than a second.
///
/// # Errors
///
/// For people: why they can't be read.
pub fn read_start(file: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let is_pipe = fs::metadata(file).is_ok_and(|meta| meta.file_type().is_fifo());
    let _waiting = is_pipe.then(|| Waiting::for_writer(file));
    // A buffer that grows leaves copies behind, and a file may be a secret.
    let expected = fs::metadata(file).map_or(0, |meta| meta.len());
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(expected.min(bytes_max));
    File::open(file)
        .and_then(|file| file.take(bytes_max as u64).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Says that a pipe is waited for, unless it is dropped before.
struct Waiting(#[expect(dead_code, reason = "its end is what counts")] Sender<()>);

impl Waiting {
    fn for_writer(pipe: &Path) -> Waiting {
        let (sender, dropped) = channel();
        let pipe = pipe.to_owned();
        // Reading blocks. Without a thread, it is waited for in silence.
        let _ = thread::Builder::new().spawn(move || {
            if dropped.recv_timeout(PIPE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(
                    "{} is a pipe: waiting until somebody has written to it and closed it",
                    pipe.display()
                );
            }
        });
        Waiting(sender)
    }
}

/// The text of a file that is read more than once: a regular file, since a pipe has nothing for those who come
/// again, and would let them wait.
///
/// # Errors
///
/// For people: why it can't be read, or what it is instead.
pub fn read_again(file: &Path, bytes_max: usize) -> Result<String, String> {
    let kind = fs::metadata(file).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("is not a regular file, and has to be read again and again".into());
    }
    let bytes = read(file, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".into())
}

/// Whether a file with a secret is its owner's to write: what others can write is no secret, as they can
/// make it theirs. A file that can't be looked at is not refused for that.
///
/// # Errors
///
/// For people: that others can write it.
pub fn check_writers(file: &Path) -> Result<(), String> {
    let Ok(meta) = fs::metadata(file) else {
        return Ok(());
    };
    let mode = meta.permissions().mode() & 0o777;
    match mode & 0o022 {
        0 => Ok(()),
        _ => Err(format!(
            "others than its owner can write the secret (its mode is {mode:03o}); take that from \
             them: chmod go-w"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_read_up_to_its_limit() {
        let zeroes = Path::new("/dev/zero");
        assert_eq!(read_start(zeroes, 3), Ok(vec![0; 3]));
        assert_eq!(read(zeroes, 9), Err("has more than 9 bytes".into()));
        assert!(read_again(zeroes, 9).unwrap_err().contains("regular"));
        let folder = Path::new("/");
        assert!(read(folder, 9).unwrap_err().contains("directory"));
        assert!(read_again(folder, 9).unwrap_err().contains("regular"));
        assert!(read(Path::new("/no/such"), 9).is_err());
        assert_eq!(read(Path::new("/dev/null"), 0), Ok(Vec::new()));
    }
}
