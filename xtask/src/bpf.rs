//! The build of the BPF objects: which compiler and linker, and how they are called.
//!
//! Shared by `cargo xtask` and, through `build_script.rs`, by build scripts: so it uses nothing but
//! the standard library. It looks and builds; only `cargo xtask setup` installs.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Target triple of the program: little endian, as every host that weir runs on.
const TARGET: &str = "bpfel-unknown-none";
/// The oldest compiler that builds the workspace (`rust-version` in Cargo.toml), as (major, minor).
pub(crate) const OLDEST_RUSTC: (u32, u32) = (1, 89);
/// The LLVM majors that the bpf-linker which `setup` installs can be built for.
pub(crate) const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler that can build for the BPF target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) version: Version,
    pub(crate) core: Core,
}

/// Where a compiler has the `core` library of the BPF target from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// Built from rust-src on the way: a rustup nightly.
    Source,
    /// Prebuilt in the sysroot: the distribution's compiler.
    Prebuilt,
}

impl Compiler {
    /// The `cargo-clippy` that belongs to this compiler.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        Some(self.rustc.with_file_name("cargo-clippy")).filter(|file| file.is_file())
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "builds core",
            Self::Prebuilt => "prebuilt core",
        })
    }
}

/// What `rustc -vV` says of a compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// As printed, like `1.96.0`.
    pub(crate) release: String,
    /// Major version of its LLVM. The linker's must be the same: it reads the compiler's bitcode.
    pub(crate) llvm: u32,
}

/// The names of the BPF objects, each a binary of the crate `ebpf`.
const BALANCER: &str = "weir-bpf";
const DECAP: &str = "weir-decap-bpf";
const BENCH: &str = "weir-bench-bpf";
/// What is shipped.
const SHIPPED: &[&str] = &[BALANCER, DECAP];
/// All that is built, for whoever looks at their sources.
pub(crate) const ALL: &[&str] = &[BALANCER, DECAP, BENCH];

/// The BPF objects, built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objects {
    /// What `weir agent` loads.
    pub(crate) balancer: PathBuf,
    /// What `weir decap` loads.
    pub(crate) decap: PathBuf,
}

/// A compiler and a bpf-linker of the same LLVM major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// The first compiler for which there is a linker, or one line that says what is missing.
    pub(crate) fn find(root: &Path) -> Result<Self, String> {
        let compilers = compilers();
        if compilers.is_empty() {
            return Err("no compiler for the BPF target: run `cargo xtask setup`".to_owned());
        }
        for compiler in &compilers {
            if let Some(linker) = linker(root, compiler.version.llvm) {
                return Ok(Self { compiler: compiler.clone(), linker });
            }
        }
        let versions = compilers.iter().map(|c| format!("LLVM {}", c.version.llvm));
        let versions = versions.collect::<Vec<_>>().join(" or ");
        Err(format!("no bpf-linker for {versions}: run `cargo xtask setup`"))
    }

    /// Builds the BPF objects and says where they are. The compiler's messages go to stderr.
    pub(crate) fn build(&self, root: &Path) -> Result<Objects, String> {
        let built = self.build_these(root, SHIPPED)?;
        Ok(Objects { balancer: built.join(BALANCER), decap: built.join(DECAP) })
    }

    /// Builds the benchmark's object and says where it is.
    pub(crate) fn build_bench(&self, root: &Path) -> Result<PathBuf, String> {
        Ok(self.build_these(root, &[BENCH])?.join(BENCH))
    }

    /// Builds objects, and gives their directory.
    fn build_these(&self, root: &Path, objects: &[&str]) -> Result<PathBuf, String> {
        let mut cargo = self.command(&self.compiler.cargo, root);
        cargo.arg("build").args(self.arguments(root, objects));
        let status = cargo
            .status()
            .map_err(|e| format!("cannot run {}: {e}", self.compiler.cargo.display()))?;
        if !status.success() {
            return Err("the BPF program does not build: see `cargo xtask build-ebpf`".to_owned());
        }
        Ok(bpf_target_dir(root).join(TARGET).join("bpf"))
    }

    /// `program` (cargo, or what stands in for it) in a clean environment, set for this compiler.
    pub(crate) fn command(&self, program: &Path, root: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in
            env::vars_os().filter(|(name, _)| is_of_outer_cargo(name.as_encoded_bytes()))
        {
            command.env_remove(name);
        }
        command
            .current_dir(root)
            .env("CARGO", &self.compiler.cargo)
            .env("RUSTC", &self.compiler.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\x1f"));
        if self.compiler.core == Core::Prebuilt {
            // aya-ebpf uses unstable features, which a release compiler refuses without this.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// What follows cargo's verb. The target directory is the program's own: the cargo that runs
    /// `agent/build.rs` holds the lock on the usual one, and profiles share this one.
    pub(crate) fn arguments(&self, root: &Path, objects: &[&str]) -> Vec<String> {
        let dir = bpf_target_dir(root).display().to_string();
        let mut arguments = [
            "--package=weir-ebpf",
            "--features=program",
            "--profile=bpf",
            "--target",
            TARGET,
            "--target-dir",
            &dir,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(objects.iter().map(|object| format!("--bin={object}")));
        if self.compiler.core == Core::Source {
            arguments.push("-Zbuild-std=core".to_owned());
        }
        arguments
    }

    /// `target-cpu=v3` allows atomics that give the old value; debuginfo becomes the object's BTF.
    fn rustflags(&self) -> Vec<String> {
        vec![
            format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
            "-Cdebuginfo=2".to_owned(),
            "-Ctarget-cpu=v3".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
            format!("-Clinker={}", self.linker.display()),
        ]
    }
}

/// The compilers on this machine that can build for the BPF target, best first.
pub(crate) fn compilers() -> Vec<Compiler> {
    let mut found = nightlies();
    found.extend(distribution());
    found.retain(|compiler| is_new_enough(&compiler.version.release));
    found
}

/// The rustup nightlies with rust-src; the undated one, which people keep up to date, first.
fn nightlies() -> Vec<Compiler> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".rustup"))) else {
        return Vec::new();
    };
    let mut roots: Vec<PathBuf> = fs::read_dir(home.join("toolchains"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"nightly-"))
        })
        .filter(|path| path.join("lib/rustlib/src/rust/library/core").is_dir())
        .collect();
    roots.sort();
    let compiler = |root: PathBuf| {
        let rustc = root.join("bin/rustc");
        let version = version_of(&rustc)?;
        Some(Compiler { rustc, cargo: root.join("bin/cargo"), version, core: Core::Source })
    };
    roots.into_iter().rev().filter_map(compiler).collect()
}

/// The distribution's compiler, if its package of the BPF `core` is there. It needs no cargo of
/// its own: the one that runs us will do.
fn distribution() -> Option<Compiler> {
    let core = Path::new("/usr/lib/rustlib").join(TARGET).join("lib");
    if !core.is_dir() {
        return None;
    }
    let rustc = PathBuf::from("/usr/bin/rustc");
    let version = version_of(&rustc)?;
    let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    Some(Compiler { rustc, cargo, version, core: Core::Prebuilt })
}

/// A bpf-linker for this LLVM major: the project's own, else one on `PATH`.
pub(crate) fn linker(root: &Path, llvm: u32) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(tools_dir(root).join("bin"))
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| fs::read(file).is_ok_and(|bytes| llvm_major(&bytes) == Some(llvm)))
}

/// Where `setup` puts the tools that it builds.
pub(crate) fn tools_dir(root: &Path) -> PathBuf {
    target_dir(root).join("tools")
}

fn bpf_target_dir(root: &Path) -> PathBuf {
    target_dir(root).join("bpf")
}

/// The workspace's target directory.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn version_of(rustc: &Path) -> Option<Version> {
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads the answer to `rustc -vV`.
fn parse_version(text: &str) -> Option<Version> {
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    let release = value("release: ")?.to_owned();
    let llvm = value("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some(Version { release, llvm })
}

/// Is a release such as `1.96.0` or `1.97.0-nightly` at least [`OLDEST_RUSTC`]?
pub(crate) fn is_new_enough(release: &str) -> bool {
    let mut parts = release.split('.').map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST_RUSTC
}

/// The LLVM major of a bpf-linker, which it does not say itself: from the name of the shared
/// library it needs, else from the producer string of an LLVM linked in.
fn llvm_major(bytes: &[u8]) -> Option<u32> {
    [&b"libLLVM.so."[..], b"libLLVM-", b"LLVM"].iter().find_map(|mark| {
        bytes.windows(mark.len() + 3).find_map(|window| {
            let [tens, ones, end] = *window.strip_prefix(*mark)? else {
                return None;
            };
            let is_number = tens.is_ascii_digit() && ones.is_ascii_digit() && b".\0".contains(&end);
            is_number.then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
        })
    })
}

/// Variables by which an outer cargo, rustc wrapper or clippy would steer the inner cargo. What
/// says how to reach a registry stays.
fn is_of_outer_cargo(name: &[u8]) -> bool {
    let starts =
        |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    let network = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    let steering = ["CARGO", "__CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY_"];
    // What cargo tells a build script of its own: the inner crates' scripts watch some of it.
    let script = ["DEBUG", "HOST", "NUM_JOBS", "OPT_LEVEL", "OUT_DIR", "PROFILE", "TARGET"];
    script.iter().any(|own| name == own.as_bytes()) || starts(&steering) && !starts(&network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_compilers_version() {
        let text = "rustc 1.96.0 (x)\nhost: h\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let version = Version { release: "1.96.0".to_owned(), llvm: 22 };
        assert_eq!(parse_version(text), Some(version));
        assert_eq!(parse_version("rustc 1.96.0"), None);
    }

    #[test]
    fn compares_releases_by_number() {
        for (release, expected) in [
            ("1.89.0", true),
            ("1.100.0-nightly", true),
            ("2.0.0", true),
            ("1.88.9", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(release), expected, "{release}");
        }
    }

    #[test]
    fn reads_the_llvm_major_from_a_linker() {
        for (bytes, expected) in [
            (&b"\x7fELF..libgcc_s.so.1\0libLLVM.so.22.1\0"[..], Some(22)),
            (b"\0libLLVM-19.so\0", Some(19)),
            (b"\0libLLVM-21\0", Some(21)),
            (b"about LLVM 20 and \0LLVM23.0.1-rust\0", Some(23)),
            (b"a script", None),
            (b"", None),
        ] {
            assert_eq!(llvm_major(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn strips_the_outer_cargo_but_not_the_network() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "RUSTC_WORKSPACE_WRAPPER",
            "CLIPPY_ARGS",
            "HOST",
            "RUSTFLAGS",
        ] {
            assert!(is_of_outer_cargo(name.as_bytes()), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_X_INDEX",
            "PATH",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
        ] {
            assert!(!is_of_outer_cargo(name.as_bytes()), "{name}");
        }
    }
}
