//! The options that bound what a fetched extension may hold.

use crate::archive::Limits;

/// Bounds on what is unpacked. Two of [`Limits`] are no options, because they bound no size: a name longer than 255 bytes
/// cannot be written on Linux, and a file below 1 MiB is no bomb however well it was packed.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitOptions {
    /// Most bytes of a download.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub max_download_bytes: u64,
    /// Most bytes of an unpacked extension.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().unpacked_bytes)]
    max_unpacked_bytes: u64,
    /// Most bytes of one file of an extension.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().file_bytes)]
    max_file_bytes: u64,
    /// Most files, links and directories of an unpacked extension; 100000 is what the store takes.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().entries,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_entries: u64,
    /// Most components of a path in an extension; 64 is what the store takes.
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64))]
    max_depth: u16,
    /// Most bytes of a path in an extension, and of a link's target; Linux takes 4095.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=4095))]
    max_path_bytes: u16,
    /// Most unpacked bytes for each packed one, beyond the first 1 MiB.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().ratio,
          value_parser = clap::value_parser!(u64).range(1..))]
    max_ratio: u64,
}

impl LimitOptions {
    /// The limits that they say.
    pub fn limits(&self) -> Limits {
        Limits {
            unpacked_bytes: self.max_unpacked_bytes,
            file_bytes: self.max_file_bytes,
            entries: self.max_entries,
            depth: self.max_depth.into(),
            path_bytes: self.max_path_bytes.into(),
            ratio: self.max_ratio,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        limits: LimitOptions,
    }

    fn limits(arguments: &[&str]) -> Result<Limits, String> {
        let parsed = Arguments::try_parse_from([&["outrigger"], arguments].concat());
        parsed.map(|parsed| parsed.limits.limits()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_the_documented_defaults_hold() {
        assert_eq!(limits(&[]).unwrap(), Limits::default());
    }

    #[test]
    fn each_limit_has_its_option() {
        let given = limits(&[
            "--max-unpacked-bytes=1",
            "--max-file-bytes=2",
            "--max-entries=3",
            "--max-depth=4",
            "--max-path-bytes=5",
            "--max-ratio=6",
        ]);
        let expected = Limits {
            unpacked_bytes: 1,
            file_bytes: 2,
            entries: 3,
            depth: 4,
            path_bytes: 5,
            ratio: 6,
            ..Limits::default()
        };
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn what_the_store_could_not_take_is_refused_at_the_start() {
        for argument in ["--max-entries=100001", "--max-depth=65", "--max-path-bytes=4096", "--max-ratio=0"] {
            let text = limits(&[argument]).unwrap_err();
            assert!(text.contains("is not in"), "{text}");
        }
    }
}
