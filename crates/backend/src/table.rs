/// The tables of replicated state. Nothing else knows their names.
///
/// A table's place in this list is no part of what is on disk; its [name](Table::name) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Every change of every key in revision order; only ever appended to, and thinned out by compaction.
    Rev,
    /// Every change of every key in key order, the newest first.
    Index,
    /// Leases.
    Lease,
    /// Whether authentication is on, and its revision.
    Auth,
    /// Users.
    AuthUsers,
    /// Roles.
    AuthRoles,
    /// Members of the cluster.
    Member,
    /// Ids of members that were removed and must not come back.
    RemovedMember,
    /// The cluster's version and settings.
    Cluster,
    /// Alarms that are raised.
    Alarm,
    /// Positions and formats: how far the log is applied, how far the history is compacted.
    Meta,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Rev,
        Self::Index,
        Self::Lease,
        Self::Auth,
        Self::AuthUsers,
        Self::AuthRoles,
        Self::Member,
        Self::RemovedMember,
        Self::Cluster,
        Self::Alarm,
        Self::Meta,
    ];

    /// What the table is called on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rev => "rev",
            Self::Index => "index",
            Self::Lease => "lease",
            Self::Auth => "auth",
            Self::AuthUsers => "auth_users",
            Self::AuthRoles => "auth_roles",
            Self::Member => "member",
            Self::RemovedMember => "removed_member",
            Self::Cluster => "cluster",
            Self::Alarm => "alarm",
            Self::Meta => "meta",
        }
    }

    /// The table's place in [`ALL`](Self::ALL).
    pub(crate) const fn at(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_in_its_place_and_has_a_name_of_its_own() {
        for (at, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.at(), at);
            assert_eq!(Table::ALL.iter().filter(|other| other.name() == table.name()).count(), 1);
        }
    }
}
