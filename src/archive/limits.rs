//! How much an archive may hold.

/// Bounds on what is unpacked. They hold for the whole tree and are checked before a byte is written, so that a small
/// file cannot fill the volume (CVE-2025-32386, CVE-2023-37900).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together, and of the unpacked tar stream. 512 MiB by default.
    pub unpacked_bytes: u64,
    /// Bytes of one file. 512 MiB by default.
    pub file_bytes: u64,
    /// Files, links and directories, those included that only the paths of others imply. 10 000 by default.
    pub entries: u64,
    /// Components of a path. 32 by default.
    pub depth: usize,
    /// Bytes of one component of a path. 255 by default, which is what Linux file systems take.
    pub component_bytes: usize,
    /// Bytes of a path, and of a link's target. 1024 by default.
    pub path_bytes: usize,
    /// Unpacked bytes for each packed one. 200 by default; text rarely exceeds 20, deflate cannot exceed 1032.
    pub ratio: u64,
    /// Unpacked bytes up to which `ratio` does not count, because tiny files compress extremely. 1 MiB by default.
    pub ratio_floor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 512 << 20,
            file_bytes: 512 << 20,
            entries: 10_000,
            depth: 32,
            component_bytes: 255,
            path_bytes: 1024,
            ratio: 200,
            ratio_floor_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// Whether `unpacked` bytes out of `packed` ones are more than `ratio` allows.
    pub(crate) fn ratio_exceeded(&self, unpacked: u64, packed: u64) -> bool {
        unpacked > self.ratio_floor_bytes && unpacked > packed.saturating_mul(self.ratio)
    }
}
