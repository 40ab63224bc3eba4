//! What control groups allow this process: its own, and those above it (kernel documentation, admin-guide/cgroup-v2 and
//! cgroup-v1).

use std::path::{Path, PathBuf};

use super::files::{field, lines, number, text};

/// Version 1 has a huge number for "no limit".
const UNLIMITED: u64 = 1 << 60;

/// Memory that is left, in bytes, and the file with the limit that leaves least. `root` is where the file system
/// begins.
pub(super) fn memory_left(root: &Path) -> Option<(u64, String)> {
    let groups = groups(root, "memory").into_iter();
    let left = groups.filter_map(|(is_v2, folder)| {
        let (limit, used, cached) = match is_v2 {
            true => ("memory.max", "memory.current", "inactive_file"),
            false => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
        };
        let limit_file = folder.join(limit);
        let limit = number(&limit_file).filter(|limit| *limit < UNLIMITED)?;
        let used = number(&folder.join(used)).unwrap_or(0);
        // The kernel gives it up before it lets anybody run out of memory.
        let cached = field(&folder.join("memory.stat"), cached).unwrap_or(0);
        let left = limit.saturating_sub(used.saturating_sub(cached));
        let shown = Path::new("/").join(limit_file.strip_prefix(root).unwrap_or(&limit_file));
        Some((left, shown.display().to_string()))
    });
    left.min()
}

/// Cores that quotas allow, which may be parts of one.
pub(super) fn cores(root: &Path) -> Option<f64> {
    let groups = groups(root, "cpu").into_iter();
    let quotas = groups.filter_map(|(is_v2, folder)| {
        let (quota, period) = match is_v2 {
            true => {
                let text = text(&folder.join("cpu.max"))?;
                let mut words = text.split_whitespace();
                // `max` is no number, and no limit.
                (words.next()?.parse().ok()?, words.next()?.parse().ok()?)
            }
            // -1 is no number of this kind, either.
            false => (
                number(&folder.join("cpu.cfs_quota_us"))?,
                number(&folder.join("cpu.cfs_period_us"))?,
            ),
        };
        (period > 0).then(|| quota as f64 / period as f64)
    });
    quotas.min_by(f64::total_cmp)
}

/// Folders of this process's groups, and of those above them, with whether they are of version 2. In a container, what
/// is above its own group is not there.
fn groups(root: &Path, controller: &str) -> Vec<(bool, PathBuf)> {
    let mount = root.join("sys/fs/cgroup");
    let mut found = Vec::new();
    for line in lines(&root.join("proc/self/cgroup")) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        let top = match is_v2 {
            true => mount.clone(),
            false => mount.join(controller),
        };
        let own = top.join(path.trim_start_matches('/'));
        let up_to_top = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&top));
        found.extend(up_to_top.map(|folder| (is_v2, folder.to_owned())));
    }
    found
}
