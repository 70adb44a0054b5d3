//! Which instance a tenant is in, or goes to. Evidence first: what was recorded, then what this process has begun, then
//! what the ledgers hold. Only of what is nowhere a choice is made, and never while an instance that may hold it can't be
//! asked: no tenant is ever made in two.

use super::observed::{LedgerFacts, RowState, data_owner::DataOwner, unplaced::Unplaced};
use crate::domain::ident::{ObjectId, Uid};

/// One instance of the settings, as the search for a tenant's instance finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementCandidate {
    /// Its name.
    pub name: String,
    /// It takes new tenants.
    pub accepts: bool,
    /// It can be asked.
    pub open: bool,
    /// How many tenants it has, those included that are about to be made.
    pub tenants: usize,
    /// Whether its ledger had something of this tenant id when it was last read; `None` if it was not, since this leader
    /// leads.
    pub held: Option<bool>,
}

/// What is known of a Tenant that needs an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacementRequest<'a> {
    /// The instance that status or entry name: there its data was.
    pub recorded: Option<&'a str>,
    /// The instance to which this process has sent a change of it, possibly with an unknown outcome.
    pub begun: Option<usize>,
    /// Where this process meant to put it.
    pub intended: Option<usize>,
    /// The instance that its spec names.
    pub named: Option<&'a str>,
    /// It is being deleted: nothing new is made for it but a tombstone.
    pub deleting: bool,
}

/// Where to search for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// It is there, or will be.
    At(usize),
    /// It will be there, which can't be asked now.
    Out(usize),
    /// These have to say that they hold nothing of its id; then it goes to the chosen one.
    Ask {
        /// Which to ask, beside the chosen one.
        others: Vec<usize>,
        /// Where it goes.
        chosen: Result<usize, Unplaced>,
    },
    /// It has no place.
    Nowhere(Unplaced),
}

/// Resolves where to search for a tenant.
pub fn resolve_search(request: PlacementRequest<'_>, candidates: &[PlacementCandidate]) -> Search {
    let find = |name: &str| candidates.iter().position(|candidate| candidate.name == name);
    let known = || candidates.iter().map(|candidate| candidate.name.clone()).collect();
    let unknown =
        |name: &str, recorded| Search::Nowhere(Unplaced::Unknown { name: name.to_owned(), recorded, known: known() });
    if let Some(name) = request.recorded {
        return find(name).map_or_else(|| unknown(name, true), Search::At);
    }
    if let Some(begun) = request.begun.filter(|begun| *begun < candidates.len()) {
        return Search::At(begun);
    }
    let named = match request.named.map(|name| (name, find(name))) {
        Some((name, None)) => return unknown(name, false),
        Some((_, named @ Some(_))) => named,
        // The common case.
        None if candidates.len() == 1 => Some(0),
        None => None,
    };
    let chosen = match named {
        // What it holds says itself.
        Some(at) if request.deleting => return Search::At(at),
        Some(at) if candidates.get(at).is_some_and(|one| !one.open) => return Search::Out(at),
        Some(at) => match find_unasked(candidates).filter(|(held, _)| *held) {
            Some((held, name)) => return Search::Nowhere(Unplaced::Unasked { name, held }),
            None => accepting(at, candidates),
        },
        None => match find_unasked(candidates) {
            Some((held, name)) => return Search::Nowhere(Unplaced::Unasked { name, held }),
            None => choose(request, candidates),
        },
    };
    let asked = |(at, candidate): (usize, &PlacementCandidate)| (candidate.open && chosen != Ok(at)).then_some(at);
    let others: Vec<usize> = candidates.iter().enumerate().filter_map(asked).collect();
    match (&chosen, others.is_empty()) {
        (Ok(at), true) => Search::At(*at),
        (Err(unplaced), true) => Search::Nowhere(unplaced.clone()),
        (_, false) => Search::Ask { others, chosen },
    }
}

fn accepting(at: usize, candidates: &[PlacementCandidate]) -> Result<usize, Unplaced> {
    match candidates.get(at) {
        Some(candidate) if !candidate.accepts => Err(Unplaced::Closed(Some(candidate.name.clone()))),
        Some(_) | None => Ok(at),
    }
}

/// An instance that can't be asked and may hold something of the id; one that did, before one of which nobody knows.
fn find_unasked(candidates: &[PlacementCandidate]) -> Option<(bool, String)> {
    let closed = |held| move |candidate: &&PlacementCandidate| !candidate.open && candidate.held == held;
    let find = |held| candidates.iter().find(closed(held)).map(|candidate| candidate.name.clone());
    find(Some(true)).map(|name| (true, name)).or_else(|| find(None).map(|name| (false, name)))
}

/// The emptiest that can be used and takes new tenants, the first in the settings of several; where it was meant to go
/// before, it stays meant to go. One that is out only if no other is left.
fn choose(request: PlacementRequest<'_>, candidates: &[PlacementCandidate]) -> Result<usize, Unplaced> {
    let fit = |candidate: &PlacementCandidate| candidate.open && (candidate.accepts || request.deleting);
    let fits = || candidates.iter().enumerate().filter(|(_, candidate)| fit(candidate));
    let intended = fits().map(|(at, _)| at).find(|at| Some(*at) == request.intended);
    let emptiest = || fits().min_by_key(|(_, candidate)| candidate.tenants).map(|(at, _)| at);
    let out = || candidates.iter().position(|candidate| candidate.accepts || request.deleting);
    intended.or_else(emptiest).or_else(out).ok_or(Unplaced::Closed(None))
}

/// What ledgers hold of a tenant id for one Tenant, the strongest claim first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A row of its own.
    Own,
    /// The data that its spec asks to take over.
    Asked,
    /// Anything else that is not just a tombstone.
    Other,
}

fn claim(requester: Requester<'_>, facts: &LedgerFacts) -> Option<Claim> {
    let Requester { object, previous, .. } = requester;
    let row = facts.row.as_ref();
    if row.is_some_and(|row| row.uid == object.uid) {
        return Some(Claim::Own);
    }
    let kept = |previous: &Uid| row.is_some_and(|row| row.state == RowState::Retained && row.uid == *previous);
    if previous.is_some_and(|previous| kept(previous) || facts.archive_of(previous).is_some()) {
        return Some(Claim::Asked);
    }
    row.filter(|row| row.state != RowState::Dropped).map(|_| Claim::Other)
}

/// A Tenant, and the earlier one with the data that it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The Tenant.
    pub object: &'a ObjectId,
    /// Its cluster.
    pub cluster_id: &'a str,
    /// UID of the Tenant with the data that it asks for.
    pub previous: Option<&'a Uid>,
}

/// What the ledger of one instance holds of a tenant id.
#[derive(Clone, Copy, Debug)]
pub struct InstanceAnswer<'a> {
    /// Place of the instance among the candidates.
    pub at: usize,
    /// What it holds.
    pub facts: &'a LedgerFacts,
}

/// Decides after everybody was asked: the instance that holds something of the id, if one does. A Tenant that names its
/// instance takes data over nowhere else.
///
/// # Errors
/// When it names another one than the one that holds the id. That one is named to a Tenant of the same namespace only.
pub fn resolve_holder(
    request: PlacementRequest<'_>,
    requester: Requester<'_>,
    candidates: &[PlacementCandidate],
    answers: &[InstanceAnswer<'_>],
) -> Result<Option<usize>, Unplaced> {
    let name_of = |at: usize| candidates.get(at).map(|candidate| candidate.name.as_str());
    let own_choice = |at: usize| request.named.is_none() || request.named == name_of(at);
    let claims = answers.iter().filter_map(|InstanceAnswer { at, facts }| {
        let previous = requester.previous.filter(|_| own_choice(*at));
        claim(Requester { previous, ..requester }, facts).map(|claim| (claim, *at))
    });
    match claims.min() {
        Some((Claim::Other, at)) if !own_choice(at) => {
            let row = answers.iter().find(|answer| answer.at == at).and_then(|answer| answer.facts.row.as_ref());
            let (namespace, cluster_id) = (requester.object.namespace.as_str(), requester.cluster_id);
            let known = row.is_some_and(|row| row.owner() == DataOwner { cluster_id, namespace });
            Err(Unplaced::Taken { holder: name_of(at).filter(|_| known).map(str::to_owned) })
        }
        Some((Claim::Own | Claim::Asked | Claim::Other, at)) => Ok(Some(at)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
