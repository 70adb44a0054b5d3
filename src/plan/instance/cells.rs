//! Whether a cell can work: its roles, its privileges on the database, its memberships and ADMIN options. A restore or an upgrade
//! of Postgres loses some of them without a word.

use crate::domain::ident::CellNumber;

/// A cell that is not as it was made. Cells that are in order are not read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct CellFacts {
    /// Its number.
    pub cell: CellNumber,
    /// Roles that do not exist.
    pub gone: Vec<String>,
    /// The owner role may create schemas in the database.
    pub creates: bool,
    /// Both logins may connect to the database.
    pub connects: bool,
    /// Both logins are members of the access group.
    pub members: bool,
    /// The base role may become the owner role.
    pub held: bool,
    /// Roles of the cell and of its tenants on which the base or the owner role has no ADMIN option (16 and later).
    pub unadministered: i64,
}

impl CellFacts {
    /// Whether the base role can repair something of it.
    pub fn is_repairable(&self) -> bool {
        self.gone.is_empty() && !(self.creates && self.connects && self.members)
    }

    /// What only an administrator can repair, and how; `None` if there is nothing.
    pub fn find_fault(&self) -> Option<String> {
        let cell = self.cell;
        if !self.gone.is_empty() {
            let gone = self.gone.join(", ");
            return Some(format!(
                "roles of cell {cell} do not exist ({gone}); restore them, as pg_dumpall --roles-only saves them"
            ));
        }
        let lost = (!self.held || self.unadministered > 0).then(|| {
            format!(
                "cell {cell}: base or the owner role may not administer {} of its roles, so that tenants can't be suspended, \
                 deleted or served by a new login; run the bootstrap file again, as the administrator who ran it before the \
                 upgrade or as a superuser",
                self.unadministered.max(1)
            )
        });
        let broken =
            [(self.creates, "create schemas"), (self.connects, "connect"), (self.members, "reach its tenants")];
        let broken: Vec<_> = broken.into_iter().filter(|(good, _)| !good).map(|(_, what)| what).collect();
        let waiting =
            (!broken.is_empty()).then(|| format!("cell {cell} can't {}; it is repaired", broken.join(" or ")));
        match (lost, waiting) {
            (Some(lost), Some(waiting)) => Some(format!("{lost}; {waiting}")),
            (lost, waiting) => lost.or(waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_base_can_not_repair_is_reported_with_the_remedy() {
        let good = CellFacts {
            cell: CellNumber(3),
            gone: Vec::new(),
            creates: true,
            connects: true,
            members: true,
            held: true,
            unadministered: 0,
        };
        assert_eq!((good.is_repairable(), good.find_fault()), (false, None));
        let restored = CellFacts { creates: false, connects: false, ..good.clone() };
        let reported = restored.find_fault().unwrap();
        assert!(
            restored.is_repairable() && reported.contains("create schemas or connect; it is repaired"),
            "{reported}"
        );
        let upgraded = CellFacts { unadministered: 12, ..good.clone() };
        let reported = upgraded.find_fault().unwrap();
        assert!(
            !upgraded.is_repairable() && reported.contains("12 of its roles") && reported.contains("bootstrap"),
            "{reported}"
        );
        let gone = CellFacts { gone: vec!["at_own_3".to_owned()], creates: false, ..good };
        assert!(!gone.is_repairable() && gone.find_fault().unwrap().contains("at_own_3"));
    }
}
