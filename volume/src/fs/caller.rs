//! Who calls, and what only an owner may.

use super::FsError;
use crate::value::{Attributes, Type};

/// All bits of a mode: permissions, set-user-id, set-group-id and sticky.
pub const MODE_BITS: u16 = 0o7777;
/// Runs as who owns the file.
const SET_UID: u16 = 0o4000;
/// Runs as the group of the file; in a directory, what is made gets the directory's group.
pub(super) const SET_GID: u16 = 0o2000;
/// Only who owns an entry, or the directory, may take it away.
const STICKY: u16 = 0o1000;
/// The group may run it.
const GROUP_EXECUTE: u16 = 0o0010;

/// What a caller may beyond others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Nothing.
    Plain,
    /// Whatever an owner may, of any file.
    Superuser,
}

/// Who calls. A mask of the mode (`umask`) is applied before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// Further groups that the user is in.
    pub groups: Vec<u32>,
    /// Whether it may more than others.
    pub privilege: Privilege,
}

impl Caller {
    /// Who may everything.
    pub const SUPERUSER: Self = Self {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        privilege: Privilege::Superuser,
    };

    /// Whether it is privileged.
    pub(super) fn is_superuser(&self) -> bool {
        self.privilege == Privilege::Superuser
    }

    /// Whether it may do what the owner may.
    pub(super) fn owns(&self, attributes: &Attributes) -> bool {
        self.is_superuser() || self.uid == attributes.uid
    }

    /// Whether it is in a group, or needs not be.
    pub(super) fn may_use_group(&self, gid: u32) -> bool {
        self.is_superuser() || self.is_in(gid)
    }

    /// Whether it is in a group.
    pub(super) fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether it may take an entry that names `victim` from a directory.
    pub(super) fn may_take(
        &self,
        directory: &Attributes,
        victim: &Attributes,
    ) -> Result<(), FsError> {
        let free = directory.mode & STICKY == 0;
        if free || self.owns(victim) || self.uid == directory.uid {
            Ok(())
        } else {
            Err(FsError::NotPermitted)
        }
    }

    /// The mode and the group of what it makes in a directory.
    pub(super) fn mode_of_new(&self, directory: &Attributes, kind: Type, mode: u16) -> (u16, u32) {
        let inherits = directory.mode & SET_GID != 0;
        let gid = if inherits { directory.gid } else { self.gid };
        let mode = match kind {
            Type::Symlink => 0o777,
            Type::Directory => (mode & (0o777 | STICKY)) | (directory.mode & SET_GID),
            Type::File | Type::Fifo | Type::Socket | Type::Character | Type::Block => {
                let runs_as_group = mode & GROUP_EXECUTE != 0 && !self.may_use_group(gid);
                let stripped = if inherits && runs_as_group {
                    SET_GID
                } else {
                    0
                };
                mode & MODE_BITS & !stripped
            }
        };
        (mode, gid)
    }

    /// The mode of an inode after its owner was set, by whomever: a file no longer runs as its owner.
    pub(super) fn mode_after_chown(&self, before: &Attributes) -> u16 {
        if before.kind.type_of() == Type::Directory {
            return before.mode;
        }
        let kept = before.mode & !SET_UID;
        if kept & GROUP_EXECUTE != 0 || !self.may_use_group(before.gid) {
            kept & !SET_GID
        } else {
            kept
        }
    }

    /// The mode of a file after its content changed: it no longer runs as its owner, or what others write
    /// would.
    pub(super) fn mode_after_write(&self, file: &Attributes) -> u16 {
        if self.is_superuser() {
            file.mode
        } else {
            self.mode_after_chown(file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::InodeNumber;
    use crate::value::{Kind, Time};

    const OWNER: u32 = 10;
    const GROUP: u32 = 20;

    fn caller(uid: u32, gid: u32) -> Caller {
        Caller {
            uid,
            gid,
            groups: vec![77],
            privilege: Privilege::Plain,
        }
    }

    fn inode(kind: Kind, mode: u16) -> Attributes {
        Attributes {
            kind,
            mode,
            uid: OWNER,
            gid: GROUP,
            links: 1,
            size: 0,
            allocated: 0,
            accessed: Time::default(),
            modified: Time::default(),
            changed: Time::default(),
            born: Time::default(),
            generation: 1,
        }
    }

    fn directory(mode: u16) -> Attributes {
        let parent = InodeNumber::ROOT;
        inode(Kind::Directory { parent, entries: 0 }, mode)
    }

    #[test]
    fn a_sticky_directory_lets_only_owners_take() {
        let victim = Attributes {
            uid: 11,
            ..inode(Kind::File, 0o644)
        };
        let sticky = directory(0o1777);
        assert_eq!(caller(11, 1).may_take(&sticky, &victim), Ok(()));
        assert_eq!(caller(OWNER, 1).may_take(&sticky, &victim), Ok(()));
        assert_eq!(Caller::SUPERUSER.may_take(&sticky, &victim), Ok(()));
        let refused = caller(12, GROUP).may_take(&sticky, &victim);
        assert_eq!(refused, Err(FsError::NotPermitted));
        let free = directory(0o777);
        assert_eq!(caller(12, 1).may_take(&free, &victim), Ok(()));
    }

    #[test]
    fn a_set_group_id_directory_gives_its_group() {
        let shared = directory(0o2775);
        let member = caller(1, 77);
        assert_eq!(
            member.mode_of_new(&shared, Type::Directory, 0o755),
            (0o2755, GROUP)
        );
        assert_eq!(
            member.mode_of_new(&shared, Type::File, 0o2755),
            (0o755, GROUP)
        );
        assert_eq!(
            member.mode_of_new(&shared, Type::File, 0o2745),
            (0o2745, GROUP)
        );
        let inside = caller(1, GROUP);
        assert_eq!(
            inside.mode_of_new(&shared, Type::File, 0o2755),
            (0o2755, GROUP)
        );
        let plain = directory(0o755);
        assert_eq!(member.mode_of_new(&plain, Type::File, 0o6755), (0o6755, 77));
        assert_eq!(
            member.mode_of_new(&plain, Type::Directory, 0o7755),
            (0o1755, 77)
        );
        assert_eq!(member.mode_of_new(&plain, Type::Symlink, 0), (0o777, 77));
    }

    #[test]
    fn a_changed_file_no_longer_runs_as_its_owner() {
        let tool = inode(Kind::File, 0o6755);
        assert_eq!(caller(1, 1).mode_after_write(&tool), 0o755);
        assert_eq!(Caller::SUPERUSER.mode_after_write(&tool), 0o6755);
        assert_eq!(Caller::SUPERUSER.mode_after_chown(&tool), 0o755);
        // Without the group's execute bit it is no set-group-id.
        let marked = inode(Kind::File, 0o2644);
        assert_eq!(caller(1, GROUP).mode_after_write(&marked), 0o2644);
        assert_eq!(caller(1, 1).mode_after_write(&marked), 0o644);
        assert_eq!(caller(1, 1).mode_after_chown(&directory(0o2775)), 0o2775);
    }
}
