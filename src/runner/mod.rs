//! What runs inside the Job: claim, start, drain, stop, report.
//!
//! | module         | its one job                                                                 | pure |
//! |----------------|-----------------------------------------------------------------------------|------|
//! | [`config`]     | what the Job says to its runner, by the environment                         | yes  |
//! | [`tree`]       | that what is mounted is what the run pinned                                 | no   |
//! | [`client`]     | requests to the leader, over TLS with a pinned CA                           | no   |
//! | [`entrypoint`] | how an entrypoint is started                                                | yes  |
//! | [`stream`]     | what is captured of an output stream: redacted, beginning and end kept      | yes  |
//! | [`forward`]    | passes a stream on live, until a limit                                      | no   |
//! | [`pipe`]       | the pipe of a stream: captured first, then passed on                        | no   |
//! | [`process`]    | find, signal and reap the processes of a run                                | no   |
//! | [`memory`]     | how often processes of this container were killed for lack of memory        | no   |
//! | [`control`]    | what the threads of a run tell each other                                   | no   |
//! | [`execute`]    | start, drain, stop: all of a run that needs no leader                       | no   |
//! | [`log`]        | what the runner itself says in the pod's log                                | no   |
//! | [`life`]       | the whole sequence, from claim to report                                    | no   |

pub mod client;
pub mod config;
pub mod control;
pub mod entrypoint;
pub mod execute;
pub mod forward;
pub mod life;
pub mod log;
pub mod memory;
pub mod pipe;
pub mod process;
pub mod stream;
pub mod tree;
