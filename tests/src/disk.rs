//! Small disks (tmpfs), to be filled up.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cluster::give_to_server;

/// A file system of its own over a folder; dropping it unmounts it.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts an empty disk of so many KiB, which belongs to the server's user, over a folder that
    /// is made if need be. None, with the reason printed, where the tests may not mount.
    pub fn mount(folder: &Path, kib: u32) -> Option<Self> {
        fs::create_dir_all(folder).expect("create the mount point");
        give_to_server(folder);
        let options = CString::new(format!("size={kib}k,mode=0700")).expect("options");
        // SAFETY: all four strings are zero-terminated and outlive the call.
        let done = unsafe {
            libc::mount(
                c"riskft-test".as_ptr(),
                c_path(folder).as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if done != 0 {
            let error = std::io::Error::last_os_error();
            eprintln!("skipped: a small disk cannot be mounted here ({error}); run as root");
            return None;
        }
        give_to_server(folder);
        Some(Disk { folder: folder.to_owned() })
    }

    /// Fills the disk up but for about `kib` KiB.
    pub fn fill_but(&self, kib: usize) {
        let mut ballast = fs::File::create(self.ballast()).expect("create the ballast");
        let mut length = 0;
        while ballast.write_all(&[1; 4096]).is_ok() {
            length += 4096;
        }
        ballast.set_len(u64::saturating_sub(length, kib as u64 * 1024)).expect("cut the ballast");
    }

    /// Removes what [`Disk::fill_but`] wrote.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.folder);
    }
}

/// Detached, for a server may still have files open there.
fn unmount(folder: &Path) {
    // SAFETY: a zero-terminated string that outlives the call.
    unsafe { libc::umount2(c_path(folder).as_ptr(), libc::MNT_DETACH) };
}

/// Unmounts what a killed test left mounted below a folder.
pub fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(place).starts_with(folder) {
            unmount(Path::new(place));
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes")
}
