//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=weir");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves these bytes; they hold the imports and the comments.
    let agent = protox::compile(["weir/v1/weir.proto"], ["."])?;
    fs::write(out.join("weir.v1.bin"), agent.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(agent)?;

    let coordinator = protox::compile(["weir/rollout/v1/rollout.proto"], ["."])?;
    fs::write(out.join("weir.rollout.v1.bin"), coordinator.encode_to_vec())?;
    // What a coordinator tells is printed as it is: `weir rollout get -o json`.
    tonic_prost_build::configure()
        .message_attribute(".", "#[derive(serde::Serialize)]")
        .compile_fds(coordinator)?;
    Ok(())
}
