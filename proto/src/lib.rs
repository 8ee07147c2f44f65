//! The gRPC APIs of weir: messages, client and server stubs of `weir.v1` and `weir.rollout.v1`.
//!
//! `weir/v1/weir.proto` and `weir/rollout/v1/rollout.proto` beside this crate are the sources and
//! say what each field means.

#![forbid(unsafe_code)]

/// Version 1 of the API, generated from `weir/v1/weir.proto`.
#[allow(
    missing_docs,
    clippy::pedantic,
    reason = "generated code; the .proto file is the documentation"
)]
pub mod v1 {
    tonic::include_proto!("weir.v1");
}

/// The encoded `FileDescriptorSet` of the API and of all it imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weir.v1.bin"));

/// Version 1 of the coordinator's API, generated from `weir/rollout/v1/rollout.proto`.
pub mod rollout {
    /// The messages, client and server stubs.
    #[allow(
        missing_docs,
        clippy::pedantic,
        reason = "generated code; the .proto file is the documentation"
    )]
    pub mod v1 {
        tonic::include_proto!("weir.rollout.v1");
    }
}

/// The same for the coordinator's API.
pub const ROLLOUT_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/weir.rollout.v1.bin"));
