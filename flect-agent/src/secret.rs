//! Files with secrets.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a file is kept from users who neither own it nor are in its group.
///
/// # Errors
/// What is wrong and what to do, in words, without the file's name in front.
pub fn is_kept(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(format!(
        "everybody may use it (mode {mode:o}); run: chmod o= {}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::is_kept;

    #[test]
    fn what_everybody_may_use_is_not_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |mode: u32| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            is_kept(file.path())
        };
        for mode in [0o600, 0o640, 0o770, 0o400] {
            assert_eq!(with(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o644, 0o602, 0o601] {
            let complaint = with(mode).unwrap_err();
            assert!(complaint.contains(&format!("mode {mode:o}")), "{complaint}");
        }
        assert!(is_kept(std::path::Path::new("/nonexistent/file")).is_err());
    }
}
