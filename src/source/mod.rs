//! Git and archive: resolve to a pinned revision, fetch through one door.
