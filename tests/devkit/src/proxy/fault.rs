//! The faults of one request, and random faults by a seed.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::ApiRequest;

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with this status; not executed. 429 and 503 have a `Retry-After` of one second.
    Refused(u16),
    /// Executed, but answered with this status.
    Masked(u16),
    /// Executed twice, as by a client that did not get the first answer; the second answer is returned.
    Twice,
    /// Another client changes an annotation of the object just before.
    Rival,
    /// The connection ends before the request got through; not executed.
    Cut,
    /// Executed; the connection ends in place of the answer.
    LostReply,
    /// Delayed for so long before it is forwarded.
    Held(Duration),
    /// Executed; the end of the answer's body is missing.
    Clipped,
    /// Executed at once; the answer is delayed by so much.
    Late(Duration),
    /// A watch that fails after this time.
    Watch(Duration, WatchFault),
}

/// How a watch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The connection ends in the middle.
    Cut,
    /// An ERROR event with 410 is sent, and the watch ends.
    Expired,
    /// Nothing is sent any more, though the connection stays open, as with a lost peer.
    Silent,
}

impl Fault {
    /// The name under which it is counted.
    pub(super) fn kind(self) -> String {
        match self {
            Fault::Refused(code) => format!("refused with {code}"),
            Fault::Masked(code) => format!("executed, but {code}"),
            Fault::Twice => "executed twice".into(),
            Fault::Rival => "a rival's write before".into(),
            Fault::Cut => "cut".into(),
            Fault::LostReply => "reply lost".into(),
            Fault::Held(_) => "held back".into(),
            Fault::Clipped => "reply clipped".into(),
            Fault::Late(_) => "reply late".into(),
            Fault::Watch(_, WatchFault::Cut) => "watch cut".into(),
            Fault::Watch(_, WatchFault::Expired) => "watch expired".into(),
            Fault::Watch(_, WatchFault::Silent) => "watch silent".into(),
        }
    }
}

/// Random faults. The fault of the n-th request of one kind on one object depends on the seed alone, however the requests
/// of different objects interleave, so that a seed reproduces a run.
#[derive(Debug)]
pub struct RandomFaults {
    seed: u64,
    percent: u64,
    late: Duration,
    asked: Mutex<BTreeMap<String, u64>>,
}

impl RandomFaults {
    /// Faults for that percentage of the requests. The seed is `$variable`, else random; it is printed. `late` should be
    /// longer than the client waits.
    pub fn new(variable: &str, percent: u64, late: Duration) -> anyhow::Result<RandomFaults> {
        let seed = match std::env::var(variable) {
            Ok(text) => text.parse().map_err(|_| anyhow::anyhow!("${variable} is no number: {text:?}"))?,
            Err(_) => RandomState::new().hash_one(std::process::id()) % 1_000_000,
        };
        println!("random faults: repeat them with {variable}={seed}");
        Ok(RandomFaults { seed, percent, late, asked: Mutex::default() })
    }

    /// The fault of this request, if any.
    pub fn decide(&self, asked: &ApiRequest) -> Option<Fault> {
        // Other names are different in every run.
        let named = matches!(asked.resource.as_str(), "tenants" | "agentconfigs" | "secrets");
        let name = asked.name.as_deref().filter(|_| named).unwrap_or_default();
        let subresource = asked.subresource.as_deref().unwrap_or_default();
        let key = format!("{} {} {name} {subresource}", asked.verb, asked.resource);
        let nth = {
            let mut counts = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            *count
        };
        let mut random = key.bytes().fold(mix(self.seed ^ nth), |sum, byte| mix(sum ^ u64::from(byte)));
        if random % 100 >= self.percent {
            return None;
        }
        random = mix(random);
        let of =
            |faults: &[Fault]| usize::try_from(random % faults.len() as u64).ok().and_then(|n| faults.get(n)).copied();
        let after = Duration::from_millis(random >> 8 & 0x7ff);
        let [cut, expired, silent] =
            [WatchFault::Cut, WatchFault::Expired, WatchFault::Silent].map(|fault| Fault::Watch(after, fault));
        let [overload, broken, expired_list] = [429, 500, 410].map(Fault::Refused);
        let late = Fault::Late(self.late);
        match asked.verb {
            "watch" => of(&[cut, expired, silent, expired_list, overload, broken, Fault::Cut]),
            "list" => of(&[overload, broken, expired_list, Fault::Cut, Fault::Clipped, late]),
            "get" => of(&[overload, broken, Fault::Masked(504), Fault::Cut, Fault::Clipped, late]),
            "create" => of(&[overload, broken, Fault::Masked(504), Fault::Cut, Fault::LostReply, Fault::Twice, late]),
            "delete" => {
                of(&[overload, Fault::Masked(504), Fault::Cut, Fault::LostReply, Fault::Twice, Fault::Rival, late])
            }
            _ => of(&[
                overload,
                broken,
                Fault::Refused(409),
                Fault::Masked(504),
                Fault::Cut,
                Fault::LostReply,
                Fault::Twice,
                Fault::Rival,
                Fault::Clipped,
                late,
            ]),
        }
    }
}

/// One step of splitmix64: neighbouring numbers give unrelated ones.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
