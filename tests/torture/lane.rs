//! The ways from the drop directory to the library.

use radsort::filing::failpoints::FAILPOINTS;

/// How files get from the drop directory to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Rename,
    AcrossFilesystems,
    Copy,
    Observe,
}

impl Lane {
    /// What its files go through, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::AcrossFilesystems => "across filesystems",
            Self::Copy => "copy",
            Self::Observe => "observe",
        }
    }

    /// Its lines in the `[[watch]]` section.
    pub fn watch(self) -> &'static str {
        match self {
            Self::Rename | Self::AcrossFilesystems => "recursive = true",
            Self::Copy => "recursive = true\naction = \"copy\"",
            Self::Observe => "recursive = true\naction = \"observe\"",
        }
    }

    /// Whether files leave the drop directory.
    pub fn moves(self) -> bool {
        matches!(self, Self::Rename | Self::AcrossFilesystems)
    }

    /// The failpoints that a file passes that is given back.
    pub fn failpoints_back() -> Vec<&'static str> {
        let back = FAILPOINTS.iter().filter(|(_, way)| *way == "undo");
        back.map(|(name, _)| *name).collect()
    }

    /// The failpoints that a file can pass here.
    pub fn failpoints(self) -> Vec<&'static str> {
        let claims = ["claim", "unclaim"];
        FAILPOINTS
            .iter()
            .filter(|(name, way)| match self {
                // Files with a second name are copied in every lane.
                Self::Rename | Self::AcrossFilesystems => *way != "undo",
                Self::Copy => {
                    ["all", "copy"].contains(way)
                        && !claims.iter().any(|claim| name.ends_with(claim))
                }
                Self::Observe => ["before-intent", "before-filed", "after-filed"].contains(name),
            })
            .map(|(name, _)| *name)
            .collect()
    }
}
