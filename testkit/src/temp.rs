//! Files and folders that are gone when dropped.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A path that no other test has, whatever process it runs in.
pub fn unique_path() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("presenced-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A file with a content, removed when dropped.
#[derive(Debug)]
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(content: &str) -> TempFile {
        let path = unique_path();
        fs::write(&path, content).unwrap();
        let file = TempFile(path);
        // Whatever the umask is: files with secrets that others can write are refused.
        file.set_mode(0o644);
        file
    }

    /// Who may do what with it.
    pub fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.0, Permissions::from_mode(mode)).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
