//! One writer: a Lease that is lost before another replica can win it.
