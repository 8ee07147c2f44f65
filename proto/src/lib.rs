//! The gRPC API of weir: messages, client and server stubs of `weir.v1`.
