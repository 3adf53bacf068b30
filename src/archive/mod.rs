//! Unpack untrusted tar and zip into an empty directory, under limits.
