//! A kernel of Debian's: found among apt's packages, downloaded and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::quietly;

/// A line of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Release {
    /// Debian 12's own: without TCX.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's own, and Debian 12's from its backports or security updates.
    #[value(name = "6.12")]
    V6_12,
}

impl Release {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` says, and as its directory of modules is called.
    pub(crate) release: String,
    /// The bootable file.
    pub(crate) image: PathBuf,
    /// The directory of its modules.
    pub(crate) modules: PathBuf,
}

/// The kernel below `directory`; downloaded if there is none yet. Removing the directory gets a
/// newer one.
pub(crate) fn get(release: Release, directory: &Path) -> Result<Kernel> {
    let unpacked = directory.join("kernel");
    if let Ok(kernel) = find(&unpacked) {
        return Ok(kernel);
    }
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let log = directory.join("kernel.log");
    let package = newest(&offered(release)?, release).with_context(|| {
        format!(
            "apt knows no linux-image-{}*-cloud-amd64: run `apt-get update`; Debian 12 has 6.12 in \
             bookworm-security and bookworm-backports",
            release.name()
        )
    })?;
    let mut download = Command::new("apt-get");
    download.args(["download", &package]).current_dir(directory);
    quietly(&format!("download {package}"), &mut download, &log)
        .context("apt's lists may be old: run `apt-get update`")?;
    let archive = archive(directory, &package)?;
    // Under another name until all of it is there: a half must not pass for a whole.
    let half = directory.join("kernel.part");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(&archive).arg(&half);
    quietly(&format!("unpack {package}"), &mut unpack, &log)?;
    fs::rename(&half, &unpacked).context("renaming the unpacked kernel")?;
    fs::remove_file(&archive).context("removing the kernel's package")?;
    find(&unpacked)
}

/// The names of all packages of this line of kernels.
fn offered(release: Release) -> Result<String> {
    let pattern = format!("^linux-image-{}\\..*-cloud-amd64$", release.name().replace('.', "\\."));
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", &pattern])
        .output()
        .context("cannot run apt-cache: the kernels are Debian's packages")?;
    if !output.status.success() {
        bail!("apt-cache: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The newest of the packages that apt-cache lists, one a line, by the numbers in its name.
fn newest(list: &str, release: Release) -> Option<String> {
    let start = format!("linux-image-{}.", release.name());
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with(&start) && name.ends_with("-cloud-amd64"))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn archive(directory: &Path, package: &str) -> Result<PathBuf> {
    let start = format!("{package}_");
    entry(directory, |name| name.starts_with(&start)).context("apt-get has downloaded nothing")
}

fn find(unpacked: &Path) -> Result<Kernel> {
    let image = entry(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))
        .context("the package has no kernel")?;
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|place| unpacked.join(place).join(&release))
        .into_iter()
        .find(|place| place.is_dir())
        .context("the package has no modules")?;
    Ok(Kernel { release, image, modules })
}

fn entry(directory: &Path, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .flatten()
        .find(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_signed_kernel_of_its_line() {
        let list = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 (signed)\n\
                    linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 (signed)\n\
                    linux-image-6.1.0-57-cloud-amd64-unsigned - Linux 6.1\n\
                    linux-image-6.12-cloud-amd64 - meta\n\
                    linux-image-6.12.9+deb12-cloud-amd64 - Linux 6.12 (signed)\n\
                    linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 (signed)\n";
        let newest = |release| newest(list, release);
        assert_eq!(newest(Release::V6_1).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        let expected = "linux-image-6.12.117+deb12-cloud-amd64";
        assert_eq!(newest(Release::V6_12).as_deref(), Some(expected));
        assert_eq!(super::newest("", Release::V6_1), None);
    }
}
