//! The pip of this machine, and wheels built on the spot for it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use freehold_store::Settings;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::settings;

/// Whether there is a pip; a test without one says that it is skipped.
pub fn has_pip() -> bool {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    let has_pip = pip.is_ok_and(|output| output.status.success());
    if !has_pip {
        println!("skipped: python3 -m pip does not run here");
    }
    has_pip
}

/// Builds the smallest wheel that pip takes: `version` of `package`, with `content` at `path`.
pub fn build_wheel(folder: &Path, package: &str, version: &str, path: &str, content: &[u8]) {
    build_wheel_of(folder, package, version, &[(path, content)]);
}

/// The same with several files, by path.
pub fn build_wheel_of(folder: &Path, package: &str, version: &str, files: &[(&str, &[u8])]) {
    let wheel = File::create(folder.join(format!("{package}-{version}-py3-none-any.whl"))).unwrap();
    let mut writer = ZipWriter::new(wheel);
    let info = format!("{package}-{version}.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n");
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let own = [
        (format!("{info}/METADATA"), metadata.as_bytes()),
        (format!("{info}/WHEEL"), tags.as_bytes()),
        (format!("{info}/RECORD"), b"".as_slice()),
    ];
    let files = files.iter().map(|(path, content)| ((*path).to_owned(), *content));
    for (name, bytes) in files.chain(own) {
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// Settings under which pip finds the wheels of `folder` and nothing else.
pub fn only(folder: &Path) -> Settings {
    let mut settings = settings();
    let links = folder.to_str().unwrap();
    for (name, value) in
        [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", links), ("PIP_CONFIG_FILE", "/dev/null")]
    {
        settings.pip_env.push((name.to_owned(), value.to_owned()));
    }
    settings
}
