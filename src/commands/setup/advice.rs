//! The commands by which a person lets the service into a directory that others use.

use std::path::Path;

use super::account::Account;
use crate::watch::ShareKind;

/// What to do so that `account` can read (and, to move files out, write) everything in `dir`, now and later.
pub fn letting_in(
    dir: &Path,
    kind: Option<ShareKind>,
    writes: bool,
    account: &Account,
) -> Vec<String> {
    let Account { name, uid, gid, .. } = account;
    let (letters, file_mode, directory_mode) = if writes {
        ("rwX", "0660", "2770")
    } else {
        ("rX", "0640", "2750")
    };
    let path = in_shell(dir);
    match kind {
        Some(ShareKind::Remote(share)) if share.contains("cifs") || share.contains("smb") => vec![
            format!(
                "# in /etc/fstab, among the options of this {share} mount; then mount it anew:"
            ),
            format!(
                "uid={name},gid={name},file_mode={file_mode},dir_mode={}",
                &directory_mode.replacen('2', "0", 1)
            ),
        ],
        Some(ShareKind::Remote(share)) if share.starts_with("nfs") => vec![
            format!(
                "# on the {share} server (root here is nobody there), where user {uid} and group {gid} mean {name}:"
            ),
            format!(
                "chgrp -R {gid} EXPORT && chmod -R g+{letters} EXPORT && find EXPORT -type d -exec chmod g+s {{}} +"
            ),
        ],
        _ => vec![
            "# by an access list, which leaves owner and group as they are (package acl):".into(),
            format!(
                "setfacl -R -m u:{name}:{letters} {path} && setfacl -R -d -m u:{name}:{letters} {path}"
            ),
            "# or by the group, which new files inherit:".into(),
            format!(
                "chgrp -R {name} {path} && chmod -R g+{letters} {path} && find {path} -type d -exec chmod g+s {{}} +"
            ),
            "# and where Samba shares it, in the share's section of smb.conf:".into(),
            format!("force group = {name}"),
            format!("create mask = {file_mode}"),
            format!("directory mask = {directory_mode}"),
        ],
    }
}

/// A path as one word of a shell command.
pub fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_kind_of_share() {
        let account = Account {
            name: "radsort".into(),
            uid: 990,
            gid: 991,
            groups: vec![991],
        };
        let advice = |kind, writes| {
            letting_in("/mnt/X ray".as_ref(), Some(kind), writes, &account).join("\n")
        };
        let local = advice(ShareKind::Local("ext4"), true);
        assert!(
            local.contains("setfacl -R -m u:radsort:rwX '/mnt/X ray'"),
            "{local}"
        );
        assert!(
            local.contains("force group = radsort\ncreate mask = 0660"),
            "{local}"
        );
        let nfs = advice(ShareKind::Remote("nfs"), false);
        assert!(
            nfs.contains("chgrp -R 991 EXPORT && chmod -R g+rX EXPORT"),
            "{nfs}"
        );
        let cifs = advice(ShareKind::Remote("cifs"), true);
        assert!(
            cifs.contains("uid=radsort,gid=radsort,file_mode=0660,dir_mode=0770"),
            "{cifs}"
        );
    }
}
