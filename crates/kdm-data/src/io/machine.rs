//! What the machine has left for this process: memory, within the limits of control groups and of
//! the shell, and space on a disk.

use std::path::{Path, PathBuf};

/// Bytes of memory that the process may use in all, where the system tells (Linux): the machine's,
/// or less where a control group or `ulimit -v` sets a limit.
pub fn memory() -> Option<u64> {
    Told::by_system().memory()
}

/// Bytes of memory that are free for the process, where the system tells (Linux).
pub fn free_memory() -> Option<u64> {
    Told::by_system().free_memory()
}

/// Processors of the machine, where the system tells (Linux); a process may be bound to fewer.
pub fn processors() -> Option<usize> {
    Told::by_system().processors()
}

/// Bytes that may be written below `path`, which needn't exist yet; none where the system doesn't
/// tell.
pub fn free_disk(path: &Path) -> Option<u64> {
    let there = |place: &Path| place.canonicalize().ok();
    let whole = std::path::absolute(path).ok()?;
    fs4::available_space(whole.ancestors().find_map(there)?).ok()
}

/// Bytes of the files in a folder and its folders; links aren't followed.
pub fn taken_by(folder: &Path) -> u64 {
    let (mut open, mut bytes) = (vec![folder.to_path_buf()], 0u64);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => open.push(entry.path()),
                Ok(data) if data.is_file() => bytes = bytes.saturating_add(data.len()),
                _ => {}
            }
        }
    }
    bytes
}

/// The files in which Linux tells, below this folder.
struct Told(PathBuf);

/// A control group's limit, and what of it is in use and can't be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    most: u64,
    used: u64,
}

impl Told {
    fn by_system() -> Self {
        Self("/".into())
    }

    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }

    /// The length of a list such as 0-3,8.
    fn processors(&self) -> Option<usize> {
        let list = self.text("sys/devices/system/cpu/online")?;
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some((number(last)? + 1).checked_sub(number(first)?)?),
            None => number(part).map(|_| 1),
        };
        list.split(',').map(range).sum()
    }

    /// A line of `/proc/meminfo`, in bytes.
    fn meminfo(&self, key: &str) -> Option<u64> {
        let told = self.text("proc/meminfo")?;
        let line = told.lines().find_map(|line| line.strip_prefix(key))?;
        let kilobytes: u64 =
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()?;
        kilobytes.checked_mul(1024)
    }

    fn memory(&self) -> Option<u64> {
        let limits = self.limits().into_iter().map(|limit| limit.most);
        limits.chain(self.address_space()).chain(self.meminfo("MemTotal")).min()
    }

    fn free_memory(&self) -> Option<u64> {
        let limits = self.limits().into_iter().map(|limit| limit.most.saturating_sub(limit.used));
        limits.chain(self.address_space()).chain(self.meminfo("MemAvailable")).min()
    }

    /// `ulimit -v`.
    fn address_space(&self) -> Option<u64> {
        let told = self.text("proc/self/limits")?;
        let line = told.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// The limits of the process's control groups and of those that they lie in, of version 2 and
    /// of version 1's memory controller.
    fn limits(&self) -> Vec<Limit> {
        let told = self.text("proc/self/cgroup").unwrap_or_default();
        let mut limits = Vec::new();
        for line in told.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(group)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let memory = controllers.split(',').any(|name| name == "memory");
            let (root, most, used, file_key) = match () {
                () if controllers.is_empty() => {
                    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
                }
                () if memory => (
                    "sys/fs/cgroup/memory",
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "total_inactive_file",
                ),
                () => continue,
            };
            // In a container the group's own folder may be what is mounted at the root.
            for place in Path::new(group.trim_start_matches('/')).ancestors() {
                let file = |name: &str| {
                    let path = Path::new(root).join(place).join(name);
                    std::fs::read_to_string(self.0.join(path)).ok()
                };
                let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
                let Some(most) = number(most) else { continue };
                // Pages of files are given back when memory is needed.
                let files = file("memory.stat").and_then(|told| {
                    let line = told.lines().find_map(|line| line.strip_prefix(file_key))?;
                    line.trim().parse::<u64>().ok()
                });
                let used = number(used).unwrap_or(0).saturating_sub(files.unwrap_or(0));
                limits.push(Limit { most, used });
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> (tempfile::TempDir, Told) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let told = Told(folder.path().to_path_buf());
        (folder, told)
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       16000 kB\nMemAvailable:    9000 kB\n");
    const KB: u64 = 1024;

    #[test]
    fn processors_are_counted() {
        for (list, count) in
            [("0-1\n", Some(2)), ("0", Some(1)), ("0-3,8,10-11", Some(7)), ("x", None)]
        {
            let (_folder, machine) = told(&[("sys/devices/system/cpu/online", list)]);
            assert_eq!(machine.processors(), count, "{list}");
        }
        assert_eq!(Told("/nowhere".into()).processors(), None);
    }

    #[test]
    fn the_least_limit_of_nested_groups_counts() {
        let (_folder, machine) = told(&[MEMINFO]);
        assert_eq!((machine.memory(), machine.free_memory()), (Some(16000 * KB), Some(9000 * KB)));
        let (_folder, second) = told(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/user.slice/job.scope\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "8192000\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "7168000\n"),
            ("sys/fs/cgroup/user.slice/memory.stat", "anon 5\ninactive_file 1024000\n"),
            ("sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n"),
        ]);
        assert_eq!((second.memory(), second.free_memory()), (Some(8_192_000), Some(2_048_000)));
        let (_folder, first) = told(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/0a\n1:name=systemd:/\n"),
            (
                "proc/self/limits",
                "Limit  Soft  Hard Units\nMax address space  unlimited  unlimited  b",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000\n"),
        ]);
        assert_eq!((first.memory(), first.free_memory()), (Some(4_096_000), Some(0)));
        let (_folder, shell) = told(&[
            MEMINFO,
            ("proc/self/limits", "Max address space         1000000    unlimited      bytes\n"),
        ]);
        assert_eq!(shell.memory(), Some(1_000_000));
        assert_eq!(told(&[]).1.memory(), None);
    }

    #[test]
    fn space_is_told_of_folders_that_are_still_to_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert!(free_disk(&below).unwrap() > 0);
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("x"), [0; 700]).unwrap();
        std::fs::write(folder.path().join("y"), [0; 7]).unwrap();
        assert_eq!((taken_by(folder.path()), taken_by(&folder.path().join("none"))), (707, 0));
    }
}
