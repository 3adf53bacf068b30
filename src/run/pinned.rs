//! The manifest that a run is pinned to: its outcome is read against that one, although the extension was upgraded meanwhile.

use super::context::Context;
use crate::api::{ActionRun, OrchestratorExtension, OrchestratorExtensionSpec};
use crate::digest::Digest;

impl Context {
    /// The cached extension of a run, with the manifest that the run is pinned to. Where that cannot be read any more, with
    /// the one that is installed now: nothing may keep a run from ending.
    pub(super) async fn extension_as_pinned(&self, run: &ActionRun) -> Option<OrchestratorExtension> {
        let mut extension = self.extension(run)?;
        let pinned = run.status.as_ref().and_then(|status| status.revision.as_ref());
        let Some(status) = &mut extension.status else { return Some(extension) };
        let installed = status.artifact.as_ref().map(|artifact| artifact.manifest_digest.as_str());
        if let Some(pinned) = pinned.filter(|pinned| Some(pinned.manifest_digest.as_str()) != installed) {
            match self.kept_manifest(&pinned.manifest_digest).await {
                Ok(manifest) => status.resolved = Some(manifest),
                Err(error) => tracing::warn!(
                    run_uid = run.metadata.uid,
                    error,
                    "an outcome is read against another manifest than its run's own"
                ),
            }
        }
        Some(extension)
    }

    async fn kept_manifest(&self, digest: &str) -> Result<OrchestratorExtensionSpec, String> {
        let digest: Digest = digest.parse().map_err(|error| format!("{error}"))?;
        let kept = self.entrypoints.manifest(&self.trees, digest).await?;
        serde_json::from_slice(&kept).map_err(|error| format!("manifest {digest} cannot be read: {error}"))
    }
}
