//! Files of keys and certificates: bounded, and of keys not for everybody's eyes.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The bytes of a file with a key, `n_bytes_max` at most. The owner may read it, and a group made
/// for that; a key that everybody on this machine can read protects nothing. What is checked is the
/// very file that is read.
///
/// # Errors
/// It cannot be read, is too long, or everybody can read or change it.
pub fn key(path: &Path, n_bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    check_readers(&file)?;
    read(file, n_bytes_max)
}

/// The bytes of a file that everybody may read, `n_bytes_max` at most.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn public(path: &Path, n_bytes_max: u64) -> Result<Vec<u8>, String> {
    read(File::open(path).map_err(|error| error.to_string())?, n_bytes_max)
}

fn read(file: File, n_bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(n_bytes_max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > n_bytes_max {
        return Err(format!("more than {n_bytes_max} bytes, expected at most that"));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn check_readers(file: &File) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe or a device is nobody's file.
    if metadata.is_file() && mode & 0o007 != 0 {
        return Err(format!(
            "mode {mode:04o}: everybody on this machine can read the key or change it, expected \
             0600 or 0640 (chmod o= FILE)"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_readers(_file: &File) -> Result<(), String> {
    Ok(())
}
