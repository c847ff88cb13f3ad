//! The commands by which a person lets the service into a directory that others use.

use std::path::{Path, PathBuf};

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
    // `chgrp -R` and `find` do not follow a link that they are given.
    let path = in_shell(real(dir));
    let group = in_shell(account.group());
    match kind {
        Some(ShareKind::Remote(share)) if share.contains("cifs") || share.contains("smb") => vec![
            format!(
                "# in /etc/fstab, among the options of this {share} mount; then mount it anew:"
            ),
            format!(
                "uid={name},gid={group},file_mode={file_mode},dir_mode={}",
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
            by_access_list(dir, writes, name),
            format!(
                "# or by the group, which new files inherit (whoever writes there by another group must then join {group}: \
                 usermod -aG {group} USER):"
            ),
            format!(
                "chgrp -R {group} {path} && chmod -R g+{letters} {path} && find {path} -type d -exec chmod g+s {{}} +"
            ),
            "# and where Samba shares it, in the share's section of smb.conf:".into(),
            format!("force group = {group}"),
            format!("create mask = {file_mode}"),
            format!("directory mask = {directory_mode}"),
        ],
    }
}

/// The command that lets a user in by an access list, now and for what is made there later.
pub fn by_access_list(dir: &Path, writes: bool, name: &str) -> String {
    let letters = if writes { "rwX" } else { "rX" };
    let path = in_shell(real(dir));
    format!("setfacl -R -m u:{name}:{letters} {path} && setfacl -R -d -m u:{name}:{letters} {path}")
}

/// What gives the state back to the service, and to nobody else: it holds the key of the pseudonyms.
pub fn giving_back(state: &Path, account: &Account) -> Vec<String> {
    let path = in_shell(real(state));
    let (name, group) = (&account.name, in_shell(account.group()));
    vec![format!(
        "chown -R {name}:{group} {path} && chmod -R u=rwX,go= {path}"
    )]
}

/// Where a path leads when links are followed, as far as this user can see.
pub fn real(path: &Path) -> PathBuf {
    let led = path.ancestors().find_map(|above| {
        let seen = above.canonicalize().or_else(|_| {
            // What the link names may be away, or closed to this user.
            let target = above.read_link()?;
            Ok::<_, std::io::Error>(above.parent().unwrap_or(above).join(target))
        });
        Some((seen.ok()?, path.strip_prefix(above).ok()?))
    });
    // By its components: joining nothing would leave a slash at the end.
    led.map_or_else(
        || path.to_owned(),
        |(seen, below)| seen.join(below).components().collect(),
    )
}

/// A path, or a name, as one word of a shell command.
pub fn in_shell(word: impl AsRef<Path>) -> String {
    let text = word.as_ref().display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_link_leads_to_its_target_even_while_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        std::fs::create_dir(at.join("there")).unwrap();
        std::os::unix::fs::symlink(at.join("there"), at.join("link")).unwrap();
        std::os::unix::fs::symlink("away", at.join("dangling")).unwrap();
        for (path, leads) in [
            ("there", "there"),
            ("link", "there"),
            ("link/new/er", "there/new/er"),
            ("dangling", "away"),
            ("dangling/in", "away/in"),
        ] {
            assert_eq!(real(&at.join(path)).as_os_str(), at.join(leads).as_os_str());
        }
        let command = by_access_list(&at.join("link"), true, "radsort");
        assert!(command.ends_with("/there"), "{command}");
    }

    #[test]
    fn the_state_is_given_to_the_service_alone() {
        let account = Account {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
        };
        assert_eq!(
            giving_back("/var/lib/its state".as_ref(), &account),
            ["chown -R root:root '/var/lib/its state' && chmod -R u=rwX,go= '/var/lib/its state'"]
        );
    }

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
        assert!(local.contains("\ncreate mask = 0660"), "{local}");
        let nfs = advice(ShareKind::Remote("nfs"), false);
        assert!(
            nfs.contains("chgrp -R 991 EXPORT && chmod -R g+rX EXPORT"),
            "{nfs}"
        );
        let cifs = advice(ShareKind::Remote("cifs"), true);
        assert!(
            cifs.contains("uid=radsort,gid=") && cifs.contains(",file_mode=0660,dir_mode=0770"),
            "{cifs}"
        );
    }
}
