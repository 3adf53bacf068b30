//! The steps that change what is on the volume, between which a crash may come. Pure.

macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $step:ident,)+) => {
        /// A step that changes what is on the volume. Before each the [fence](super::Store) is asked, and tests stop.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Step {
            $($(#[doc = $doc])+ $step,)+
        }

        #[cfg(test)]
        impl Step {
            /// Every step.
            pub(super) const ALL: &[Self] = &[$(Self::$step,)+];
        }
    };
}

steps! {
    /// Create the store's directories.
    MakeDirectories,
    /// Say whose the volume is.
    ClaimVolume,
    /// Try out what the store is built on.
    TryOut,
    /// Remove unfinished work of a former process.
    Sweep,
    /// Write to disk the names that a former process may have left unwritten.
    SyncNames,
    /// Create a staging directory.
    Stage,
    /// Take the write bits from all of a tree but its root.
    Seal,
    /// Write a tree's marker.
    WriteMarker,
    /// Write a tree's listing beside it.
    WriteListing,
    /// Write a tree to disk.
    SyncTree,
    /// Move a listing into the store.
    RenameListing,
    /// Move a tree into the store, where there is none.
    RenameTree,
    /// Move a tree into the trash, from where it takes the place of one that is not whole.
    HoldInTrash,
    /// Exchange such a tree with the one that is not whole.
    ExchangeTree,
    /// Take the write bits from a tree's root.
    SealRoot,
    /// Write the store's names to disk.
    SyncStore,
    /// Make a listing or a manifest young again.
    Touch,
    /// Create a file in the staging directory.
    CreateFile,
    /// Write its content, to disk.
    WriteFile,
    /// Move it into the store.
    RenameFile,
    /// Write its name to disk.
    SyncFile,
    /// Make a link in the staging directory.
    MakeLink,
    /// Give it its name.
    RenameLink,
    /// Write the links' names to disk.
    SyncLink,
    /// Remove a link.
    RemoveLink,
    /// Copy the runner's binary into the staging directory.
    CopyRunner,
    /// Move it into its place.
    RenameRunner,
    /// Write its name to disk.
    SyncRunner,
    /// Remove an empty directory from the place of a tree or a runner.
    RemoveEmpty,
    /// Give a tree's root its write bits back, so that it can be moved.
    Unseal,
    /// Rename something to the trash.
    RenameToTrash,
    /// Write the trash's names to disk.
    SyncTrash,
    /// Remove a listing without a tree.
    RemoveListing,
    /// Bring a tree back from the trash.
    RestoreTree,
    /// Bring a manifest back from the trash.
    RestoreManifest,
    /// Delete something from the trash.
    EmptyTrash,
}
