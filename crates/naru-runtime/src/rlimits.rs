//! Resource limits: those that can't be raised are lowered to what can be had, with a warning.

use crate::StartError;
use crate::plan;
use crate::report::{At, Failure, Op};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

const CAP_SYS_RESOURCE: u32 = 24;
/// Files that whoever opens many needs besides them, when it can have them.
const BESIDES: u64 = 4096;

/// This process' limit of open files before [`open_more_files`].
static OWN: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have `more` files open besides what it has now, as far as its hard limit goes. What it starts later has the
/// limit that it had itself before.
///
/// # Errors
/// `EMFILE` when its hard limit is too low, else as setrlimit(2).
pub fn open_more_files(more: u64) -> Result<(), Errno> {
    let own = getrlimit(Resource::Nofile);
    let Some(soft) = own.current else { return Ok(()) };
    let (needed, most) = (more.saturating_add(256), own.maximum.unwrap_or(u64::MAX));
    if needed > most {
        return Err(Errno::MFILE);
    }
    let wanted = more.saturating_add(BESIDES).min(most);
    if wanted <= soft {
        return Ok(());
    }
    OWN.get_or_init(|| own);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: own.maximum })
}

/// Limits as they will be set.
#[derive(Debug, Default)]
pub(crate) struct Limits(Vec<(Resource, Rlimit)>);

/// Compares what is asked for with what this process may give.
pub(crate) fn prepare(wanted: &[plan::Rlimit], warnings: &mut Vec<String>) -> Result<Limits, StartError> {
    let own_files = OWN.get().map(|own| (Resource::Nofile, *own));
    if wanted.is_empty() {
        return Ok(Limits(own_files.into_iter().collect()));
    }
    let own = naru_sys::credentials::capget().map_err(|e| StartError::system(format!("capabilities: {e}")))?;
    let may_raise = own.effective >> CAP_SYS_RESOURCE & 1 == 1;
    let limits = wanted.iter().map(|limit| {
        let resource =
            resource(&limit.name).ok_or_else(|| StartError::invalid(format!("invalid rlimit \"{}\"", limit.name)))?;
        if limit.soft > limit.hard {
            return Err(StartError::invalid(format!("rlimit {}: soft limit is above hard limit", limit.name)));
        }
        let current = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (mut soft, mut hard) = (limit.soft, limit.hard);
        let most = if may_raise { ceiling(resource) } else { Some(current) };
        if let Some(most) = most.filter(|most| hard > *most) {
            (soft, hard) = (soft.min(most), most);
            warnings.push(format!(
                "rlimit {}: this host permits {most} instead of {}",
                limit.name,
                if limit.hard == u64::MAX { "unlimited".to_owned() } else { limit.hard.to_string() }
            ));
        }
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        Ok((resource, Rlimit { current: finite(soft), maximum: finite(hard) }))
    });
    let mut all: Vec<_> = limits.collect::<Result<_, _>>()?;
    // Unless it is asked for.
    all.extend(own_files.filter(|_| all.iter().all(|(resource, _)| *resource != Resource::Nofile)));
    Ok(Limits(all))
}

/// What even the privileged can't have more of: `fs.nr_open`.
fn ceiling(resource: Resource) -> Option<u64> {
    if resource != Resource::Nofile {
        return None;
    }
    std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok())
}

/// Names of setrlimit(2) in lower case, without or with `RLIMIT_`.
fn resource(name: &str) -> Option<Resource> {
    let name = name.to_ascii_lowercase();
    Some(match name.strip_prefix("rlimit_").unwrap_or(&name) {
        "cpu" => Resource::Cpu,
        "fsize" => Resource::Fsize,
        "data" => Resource::Data,
        "stack" => Resource::Stack,
        "core" => Resource::Core,
        "rss" => Resource::Rss,
        "nproc" => Resource::Nproc,
        "nofile" => Resource::Nofile,
        "memlock" => Resource::Memlock,
        "as" => Resource::As,
        "locks" => Resource::Locks,
        "sigpending" => Resource::Sigpending,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        _ => return None,
    })
}

/// Lifts the hard limits as far as they are to go, while we are privileged on the host: in a user namespace nobody may. After clone.
pub(crate) fn raise(limits: &Limits) -> Result<(), Failure> {
    for (index, (resource, limit)) in limits.0.iter().enumerate() {
        let own = getrlimit(*resource);
        let beyond = match (own.maximum, limit.maximum) {
            (Some(own), Some(wanted)) => wanted > own,
            (own, None) => own.is_some(),
            (None, Some(_)) => false,
        };
        if beyond {
            setrlimit(*resource, Rlimit { current: own.current, maximum: limit.maximum }).at(Op::Call, index)?;
        }
    }
    Ok(())
}

/// Sets them. After clone.
pub(crate) fn set(limits: &Limits) -> Result<(), Failure> {
    for (index, (resource, limit)) in limits.0.iter().enumerate() {
        setrlimit(*resource, *limit).at(Op::Call, index)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, soft: u64, hard: u64) -> plan::Rlimit {
        plan::Rlimit { name: name.to_owned(), soft, hard }
    }

    #[test]
    fn what_can_be_had_is_taken_as_it_is() {
        let mut warnings = Vec::new();
        let limits = prepare(&[limit("core", 0, 0)], &mut warnings).unwrap();
        assert_eq!(limits.0[0].1, Rlimit { current: Some(0), maximum: Some(0) });
        assert!(warnings.is_empty());
    }

    #[test]
    fn more_than_permitted_is_clamped_and_told() {
        let own = naru_sys::credentials::capget().unwrap();
        let hard = getrlimit(Resource::Nofile).maximum;
        let mut warnings = Vec::new();
        let limits = prepare(&[limit("RLIMIT_NOFILE", 1024, 1 << 40)], &mut warnings).unwrap();
        if own.effective >> CAP_SYS_RESOURCE & 1 == 1 {
            assert!(limits.0[0].1.maximum < Some(1 << 40));
            assert!(warnings[0].starts_with("rlimit RLIMIT_NOFILE: this host permits"));
        } else {
            assert_eq!(limits.0[0].1, Rlimit { current: Some(1024), maximum: hard });
            assert!(warnings[0].starts_with("rlimit RLIMIT_NOFILE: this host permits"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(prepare(&[limit("nope", 0, 0)], &mut Vec::new()).is_err());
        assert!(prepare(&[limit("core", 2, 1)], &mut Vec::new()).is_err());
    }
}
