//! What kind of filesystem a directory is on, by `statfs`: whether events for all changes arrive there, whether open
//! writers can be seen, and whether it is on a local disk.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareKind {
    /// A disk of this machine, by its filesystem's name.
    Local(&'static str),
    /// Memory of this machine.
    Memory,
    /// A container's layers. Changes made beneath it give no events.
    Overlay,
    /// A network filesystem or one served by another program, by its name: others change it without an event.
    Remote(&'static str),
    /// One that radsort does not know, by its `f_type`.
    Unknown(u64),
}

/// `f_type` of statfs(2), from linux/magic.h and the filesystems' own headers.
const KINDS: &[(u64, ShareKind)] = &[
    (0xef53, ShareKind::Local("ext4")),
    (0x5846_5342, ShareKind::Local("xfs")),
    (0x9123_683e, ShareKind::Local("btrfs")),
    (0x2fc1_2fc1, ShareKind::Local("zfs")),
    (0xf2f5_2010, ShareKind::Local("f2fs")),
    (0xca45_1a4e, ShareKind::Local("bcachefs")),
    (0x4d44, ShareKind::Local("vfat")),
    (0x2011_bab0, ShareKind::Local("exfat")),
    (0x7366_746e, ShareKind::Local("ntfs3")),
    (0x3153_464a, ShareKind::Local("jfs")),
    (0x5265_4973, ShareKind::Local("reiserfs")),
    (0x9660, ShareKind::Local("iso9660")),
    (0x1501_3346, ShareKind::Local("udf")),
    (0x0102_1994, ShareKind::Memory),
    (0x8584_58f6, ShareKind::Memory),
    (0x794c_7630, ShareKind::Overlay),
    (0x6969, ShareKind::Remote("nfs")),
    (0xff53_4d42, ShareKind::Remote("cifs")),
    (0xfe53_4d42, ShareKind::Remote("smb2")),
    (0x517b, ShareKind::Remote("smb")),
    (0x6573_5546, ShareKind::Remote("fuse")),
    (0x0102_1997, ShareKind::Remote("9p")),
    (0x00c3_6400, ShareKind::Remote("ceph")),
    (0x5346_414f, ShareKind::Remote("afs")),
    (0x0bd0_0bd0, ShareKind::Remote("lustre")),
    (0x0116_1970, ShareKind::Remote("gfs2")),
    (0x7461_636f, ShareKind::Remote("ocfs2")),
    (0x786f_4256, ShareKind::Remote("vboxsf")),
    (0xbacb_acbc, ShareKind::Remote("vmhgfs")),
    (0x4750_4653, ShareKind::Remote("gpfs")),
];

impl ShareKind {
    /// The kind of the filesystem that an open file or directory is on.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let kind = rustix::fs::fstatfs(file)?.f_type;
        // f_type is a signed word; the magics are 32 bits.
        Ok(Self::from_magic(u64::from(kind as u32)))
    }

    fn from_magic(magic: u64) -> Self {
        let known = KINDS
            .iter()
            .find(|(known, _)| *known == magic)
            .map(|(_, kind)| *kind);
        known.unwrap_or(Self::Unknown(magic))
    }

    /// Whether events tell of every change; otherwise the directory must be polled.
    pub fn has_events(self) -> bool {
        matches!(self, Self::Local(_) | Self::Memory)
    }

    /// Whether open writers can be seen (by a lease): all of them are on this machine and use this mount.
    pub fn shows_writers(self) -> bool {
        matches!(self, Self::Local(_) | Self::Memory | Self::Overlay)
    }

    /// Whether ledger, index and keys may be there: what is flushed is on a disk of this machine. (Memory and overlays pass,
    /// for trying things out.)
    pub fn is_local(self) -> bool {
        self.shows_writers()
    }
}

impl fmt::Display for ShareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(name) | Self::Remote(name) => f.write_str(name),
            Self::Memory => f.write_str("tmpfs"),
            Self::Overlay => f.write_str("overlay"),
            Self::Unknown(magic) => write!(f, "unknown (0x{magic:x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_are_polled_and_disks_are_not() {
        for (magic, name, events, writers) in [
            (0xef53, "ext4", true, true),
            (0x0102_1994, "tmpfs", true, true),
            (0x794c_7630, "overlay", false, true),
            (0x6969, "nfs", false, false),
            (0xff53_4d42, "cifs", false, false),
            (0x6573_5546, "fuse", false, false),
            (0x12, "unknown (0x12)", false, false),
        ] {
            let kind = ShareKind::from_magic(magic);
            assert_eq!(
                (
                    kind.to_string().as_str(),
                    kind.has_events(),
                    kind.shows_writers()
                ),
                (name, events, writers)
            );
        }
    }

    #[test]
    fn a_directory_is_asked() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(ShareKind::of(&proc).unwrap(), ShareKind::Unknown(0x9fa0));
    }
}
