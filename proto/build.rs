//! Compiles `weir/v1/weir.proto` with protox, so that no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=weir");
    let descriptors = protox::compile(["weir/v1/weir.proto"], ["."])?;
    // Reflection serves these bytes; they hold the imports and the comments.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("weir.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
