//! The archives: each of about 20 KiB, and no two alike.

use std::io::Write as _;

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::server::Kind;

/// Bytes in each archive that do not compress.
const FILLER: usize = 19 << 10;

const SCRIPT: &str =
    "#!/bin/sh\n# prints what it was asked\necho \"{\\\"status\\\": \\\"success\\\", \\\"action\\\": \\\"$1\\\"}\"\n";

/// So many archives of an extension: a manifest, a script and a file that makes it 20 KiB. Those that are no layers of
/// a registry have all in one directory, as code hosts pack them.
pub fn archives(count: u32, kind: Kind) -> anyhow::Result<Vec<Bytes>> {
    (0..count).map(|number| archive(u64::from(number), kind)).collect()
}

fn archive(number: u64, kind: Kind) -> anyhow::Result<Bytes> {
    let manifest = format!(
        "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {{name: bench-{number}, version: 0.1.{number}}}\n\
         source: {{type: archive, url: \"https://example.com/bench.tar.gz\"}}\nspec: {{type: Orchestrator, entrypoint: {{path: \
         bin/run.sh}}}}\nenabled: true\ncustomActions:\n- {{name: Echo, enabled: true, timeout: 60, parameters: [{{name: text, \
         type: STRING, required: true}}]}}\n"
    );
    let files = [
        ("manifest.yaml", 0o644, manifest.into_bytes()),
        ("bin/run.sh", 0o755, SCRIPT.as_bytes().to_vec()),
        ("share/data.bin", 0o644, noise(number, FILLER)),
    ];
    let directory = match kind {
        Kind::Archive => format!("bench-{number}/"),
        Kind::Oci => String::new(),
    };
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, mode, content) in files {
        add(&mut archive, &format!("{directory}{path}"), mode, &content)?;
    }
    Ok(archive.into_inner()?.finish()?.into())
}

/// Adds a file to an archive.
pub fn add(
    archive: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// Bytes that do not compress, the same for the same seed (splitmix64).
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // writing to a vector cannot fail
        let _ = noise.write_all(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
