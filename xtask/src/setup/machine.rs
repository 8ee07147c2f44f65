//! What is on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bpf::{self, Compiler};

/// The oldest kernel that the data plane is tested with (`cargo xtask vm`), as (major, minor).
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Capabilities that the lab needs: (name, bit in the kernel's `linux/capability.h`).
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)];

/// A program, or a file by its whole path, and Debian's package of it.
pub(crate) type Package = (&'static str, &'static str);
/// What the lab calls, and the tests in it.
pub(crate) const LAB_TOOLS: &[Package] =
    &[("ip", "iproute2"), ("ethtool", "ethtool"), ("tmux", "tmux")];

/// What building calls: the client of etcd comes with its protocol's text. The compiler of that needs
/// texts of its own, which Debian has in another package: a file of it stands for all.
pub(crate) const BUILD_TOOLS: &[Package] = &[
    ("protoc", "protobuf-compiler"),
    ("/usr/include/google/protobuf/descriptor.proto", "libprotobuf-dev"),
];

/// What the tests of metrics, of the page, of the coordinator's state, and of clocks that jump call.
pub(crate) const WATCHERS: &[Package] = &[
    ("promtool", "prometheus"),
    ("chromium", "chromium"),
    ("etcd", "etcd-server"),
    ("faketime", "faketime"),
];

/// All that `setup` decides on, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The compiler for the BPF target.
    pub(crate) compiler: Option<Compiler>,
    /// That compiler's own `cargo-clippy`.
    pub(crate) clippy: Option<PathBuf>,
    /// A bpf-linker of the compiler's LLVM major.
    pub(crate) linker: Option<PathBuf>,
    /// Where the development files of the compiler's LLVM major are.
    pub(crate) llvm: Option<PathBuf>,
    /// What the task at hand calls.
    pub(crate) tools: Vec<Tool>,
    /// apt, if this is a Debian or its like.
    pub(crate) apt: Option<Apt>,
    /// Is there rustup?
    pub(crate) rustup: bool,
    pub(crate) rights: Rights,
    pub(crate) kernel: Kernel,
}

/// What apt's lists are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Apt {
    /// Has this run of setup updated them?
    pub(crate) fresh: bool,
    /// Do they hold a BPF `core` that is new enough? Looked up only if there is no compiler.
    pub(crate) offers_core: bool,
}

/// A program that a task calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// Debian's package of it.
    pub(crate) package: &'static str,
    pub(crate) path: Option<PathBuf>,
}

/// How this user can do what needs root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    Root,
    Sudo,
    None,
}

/// The running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// Does it describe its types (/sys/kernel/btf/vmlinux)?
    pub(crate) btf: bool,
    /// The bit set of this process's effective capabilities.
    pub(crate) capabilities: u64,
}

impl Machine {
    /// Looks. Starts nothing but `rustc -vV`, `llvm-config`, and apt's look-up if no compiler is there.
    pub(crate) fn look(root: &Path, tools: &[Package]) -> Self {
        let compiler = bpf::compilers()
            .into_iter()
            .find(|compiler| bpf::LINKER_LLVM.contains(&compiler.version.llvm));
        let llvm = compiler.as_ref().map(|compiler| compiler.version.llvm);
        let apt = on_path("apt-get")
            .map(|_| Apt { fresh: false, offers_core: compiler.is_none() && apt_offers_core() });
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            clippy: compiler.as_ref().and_then(Compiler::clippy),
            linker: llvm.and_then(|llvm| bpf::linker(root, llvm)),
            llvm: llvm.and_then(llvm_prefix),
            compiler,
            tools: tools
                .iter()
                .map(|&(name, package)| Tool { name, package, path: on_path(name) })
                .collect(),
            apt,
            rustup: on_path("rustup").is_some(),
            rights: rights(&status),
            kernel: Kernel {
                release: fs::read_to_string("/proc/sys/kernel/osrelease")
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
                capabilities: capabilities(&status),
            },
        }
    }

    /// (thing, what is known of it), for people.
    pub(crate) fn inventory(&self) -> Vec<(&'static str, String)> {
        let place = |path: &Option<PathBuf>| match path {
            Some(path) => format!("found at {}", path.display()),
            None => "missing".to_owned(),
        };
        let compiler = self.compiler.as_ref().map_or_else(
            || "missing".to_owned(),
            |c| {
                format!(
                    "{} (LLVM {}, {}) found at {}",
                    c.version.release,
                    c.version.llvm,
                    c.core,
                    c.rustc.display()
                )
            },
        );
        let mut things = vec![
            ("rustc (BPF)", compiler),
            ("clippy", place(&self.clippy)),
            ("bpf-linker", place(&self.linker)),
        ];
        things.extend(self.tools.iter().map(|tool| (short(tool.name), place(&tool.path))));
        let btf = if self.kernel.btf { "with" } else { "without" };
        things.push(("kernel", format!("{} {btf} BTF", self.kernel.release)));
        things
    }

    /// Why the lab cannot run here, one line a reason: nothing that setup could install.
    pub(crate) fn lacks(&self) -> Vec<String> {
        lacks(&self.kernel, self.rights)
    }
}

/// The last part of a path.
fn short(name: &'static str) -> &'static str {
    name.rsplit('/').next().unwrap_or(name)
}

fn lacks(kernel: &Kernel, rights: Rights) -> Vec<String> {
    let (major, minor) = OLDEST_KERNEL;
    let mut lacks = Vec::new();
    if number(&kernel.release) < OLDEST_KERNEL {
        lacks.push(format!(
            "kernel {} is older than {major}.{minor}, which weir needs",
            kernel.release
        ));
    }
    if !kernel.btf {
        lacks.push(
            "the kernel has no /sys/kernel/btf/vmlinux: weir needs CONFIG_DEBUG_INFO_BTF"
                .to_owned(),
        );
    }
    let held = |bit: u32| kernel.capabilities >> bit & 1 == 1;
    let without: Vec<&str> =
        CAPABILITIES.iter().filter(|(_, bit)| !held(*bit)).map(|(name, _)| *name).collect();
    match rights {
        Rights::None => {
            lacks.push("the lab needs root, and there is no sudo: run this as root".to_owned());
        }
        Rights::Root if !without.is_empty() => {
            lacks.push(format!("root has no {} here (a container?)", without.join(", ")));
        }
        Rights::Root | Rights::Sudo => {}
    }
    lacks
}

/// The first two numbers of a release such as `6.18.44-fc`.
fn number(release: &str) -> (u32, u32) {
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// A program on `PATH`, or where Debian keeps administrators' programs out of a user's `PATH`. The
/// whole path of a file is looked for there alone.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// The prefix of this LLVM major, if its headers and libraries for development are installed.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let of_debian = format!("/usr/lib/llvm-{major}/bin/llvm-config");
    [of_debian, format!("llvm-config-{major}"), "llvm-config".to_owned()].iter().find_map(
        |config| {
            let version = answer(config, &["--version"])?;
            let prefix = PathBuf::from(answer(config, &["--prefix"])?);
            let headers = PathBuf::from(answer(config, &["--includedir"])?).join("llvm-c/Core.h");
            (version.starts_with(&format!("{major}.")) && headers.is_file()).then_some(prefix)
        },
    )
}

fn apt_offers_core() -> bool {
    let policy = answer("apt-cache", &["policy", "libstd-rust-web-dev-bpf"]).unwrap_or_default();
    policy
        .lines()
        .any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(bpf::is_new_enough))
}

/// What a program says, without white space around it, if it succeeds.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// From the text of /proc/self/status.
fn rights(status: &str) -> Rights {
    let effective = field(status, "Uid:").and_then(|ids| ids.split_whitespace().nth(1));
    if effective == Some("0") {
        Rights::Root
    } else if on_path("sudo").is_some() {
        Rights::Sudo
    } else {
        Rights::None
    }
}

/// From the text of /proc/self/status.
fn capabilities(status: &str) -> u64 {
    field(status, "CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t0\t0\t0\nCapEff:\t000001fffeffffff\n";

    #[test]
    fn reads_the_effective_user_and_capabilities() {
        assert_eq!(rights(STATUS), Rights::Root);
        assert_ne!(rights("Uid:\t0\t1000\t0\t0\n"), Rights::Root);
        assert_eq!(capabilities(STATUS), 0x1ff_feff_ffff);
        assert_eq!(capabilities(""), 0);
    }

    #[test]
    fn reads_a_kernels_number() {
        for (release, expected) in [("6.18.44-fc-v669", (6, 18)), ("6.6-rc1", (6, 6)), ("", (0, 0))]
        {
            assert_eq!(number(release), expected, "{release}");
        }
    }

    #[test]
    fn says_in_a_line_each_what_the_lab_lacks() {
        let capabilities = capabilities(STATUS);
        let good = Kernel { release: "6.6.1".to_owned(), btf: true, capabilities };
        assert!(lacks(&good, Rights::Root).is_empty());
        assert!(lacks(&Kernel { capabilities: 0, ..good.clone() }, Rights::Sudo).is_empty());
        for (kernel, rights, expected) in [
            (
                Kernel { release: "5.10.0-3-amd64".to_owned(), ..good.clone() },
                Rights::Root,
                "kernel 5.10.0-3-amd64 is older than 6.1",
            ),
            (Kernel { btf: false, ..good.clone() }, Rights::Root, "/sys/kernel/btf/vmlinux"),
            (
                Kernel { capabilities: 1 << 12, ..good.clone() },
                Rights::Root,
                "no CAP_SYS_ADMIN, CAP_BPF",
            ),
            (good.clone(), Rights::None, "as root"),
        ] {
            let lacks = lacks(&kernel, rights);
            assert_eq!(lacks.len(), 1, "{lacks:?}");
            assert!(lacks[0].contains(expected), "{lacks:?}");
        }
    }
}
