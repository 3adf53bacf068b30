//! Replaces an extension's status, unless somebody else has since it was read, or this process no longer leads.

use kube::api::PostParams;
use kube::{Api, ResourceExt as _};

use super::context::Context;
use crate::api::OrchestratorExtension;
use crate::api::extension::OrchestratorExtensionStatus;

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// There was nothing to write.
    Unchanged,
    /// The object as it is stored now.
    Stored(Box<OrchestratorExtension>),
    /// Somebody else wrote the status: what was found out began with an older one. The object as it is now.
    Superseded(Box<OrchestratorExtension>),
    /// The object is gone, or this process may no longer write.
    Dropped,
}

/// Replaces the status that `extension` was read with by `new`, as a whole.
///
/// # Errors
/// The API refused or failed.
pub async fn write_status(
    extension: &OrchestratorExtension,
    context: &Context,
    new: OrchestratorExtensionStatus,
) -> Result<Written, kube::Error> {
    let old = extension.status.clone().unwrap_or_default();
    if new == old {
        return Ok(Written::Unchanged);
    }
    let api = Api::<OrchestratorExtension>::all(context.client.clone());
    let mut object = OrchestratorExtension { status: Some(new.clone()), ..extension.clone() };
    let mut tries_left = 3;
    loop {
        tries_left -= 1;
        if !(context.may_write)() {
            return Ok(Written::Dropped);
        }
        match api.replace_status(&object.name_any(), &PostParams::default(), &object).await {
            Ok(stored) => return Ok(Written::Stored(Box::new(stored))),
            Err(kube::Error::Api(error)) if error.code == 404 => return Ok(Written::Dropped),
            Err(kube::Error::Api(error)) if error.code == 409 && tries_left > 0 => {}
            Err(error) => return Err(error),
        }
        let Some(live) = api.get_opt(&object.name_any()).await? else { return Ok(Written::Dropped) };
        if live.metadata.uid != extension.metadata.uid {
            return Ok(Written::Dropped);
        }
        if live.status.clone().unwrap_or_default() != old {
            return Ok(Written::Superseded(Box::new(live)));
        }
        // Something else than the status was changed, which is a reconcile of its own.
        object = OrchestratorExtension { status: Some(new.clone()), ..live };
    }
}
