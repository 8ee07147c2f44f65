//! Benchmarks: what something costs, measured, and how.
//!
//! - [`fleet`]: a rollout over many agents: changes, outages, and connections that stay
//! - [`packet`]: what a packet costs, beside other programs
//! - [`scale`]: what the agent takes by how much it has to do
//! - [`shift`]: how long a shift takes, until it has effect and until it is answered
//! - [`signals`]: what each level of signals costs a packet
//! - [`sweep`]: the agent's rounds over a full flow table
//! - [`wire`]: real connections through weir, and through what others use
//!
//! Shared by several:
//!
//! - [`caller`]: an agent in a lab, and a client whose calls are timed
//! - [`crowd`]: many services with many backends
//! - [`figures`]: quantiles, and reports as JSON
//! - [`host`]: the machine, and on which processor a thread runs
//! - [`peer`]: programs that others use
//! - [`probe`]: what the agent's program decides, now

pub mod caller;
pub mod crowd;
pub mod figures;
pub mod fleet;
pub mod host;
pub mod packet;
pub mod peer;
pub mod probe;
pub mod scale;
pub mod shift;
pub mod signals;
pub mod sweep;
pub mod wire;
