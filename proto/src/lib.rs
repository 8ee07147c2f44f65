//! The gRPC API of weir: messages, client and server stubs of `weir.v1`.
//!
//! `weir/v1/weir.proto` beside this crate is the source and says what each field means.

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
