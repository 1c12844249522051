//! Who a process is: `user[:group]` and further groups, looked up in the container's own files.
//!
//! The rules and texts are docker's (moby/sys `user.GetExecUserPath`, `GetAdditionalGroups`). The files are an image's, so they are
//! read through the root's descriptor, with a limit, and lines that make no sense are skipped.

use crate::StartError;
use naru_base::Class;
use naru_fs::Root;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

/// The most that is read of `/etc/passwd` and `/etc/group`.
const FILE_LIMIT: usize = 8 << 20;
/// The most supplementary groups (NGROUPS_MAX).
const GROUP_LIMIT: usize = 65_536;
/// Ids above are refused, as docker does.
const ID_LIMIT: i64 = i32::MAX as i64;

/// A user as the kernel knows one, and where home is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: Uid,
    pub gid: Gid,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<Gid>,
    pub home: String,
}

/// Looks `spec` and `additional` up in the files below `root`.
pub(crate) fn look_up(root: &Root, spec: &str, additional: &[String]) -> Result<Identity, StartError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    resolve(spec, additional, &passwd, &group)
}

fn read(root: &Root, path: &str) -> Result<String, StartError> {
    match root.read(path, FILE_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.is_not_found() || e.is(Errno::NOTDIR) => Ok(String::new()),
        Err(e) => Err(StartError::system(format!("unable to read {path} of the container: {e}"))),
    }
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn resolve(spec: &str, additional: &[String], passwd: &str, group: &str) -> Result<Identity, StartError> {
    let (user_arg, group_arg) = spec.split_once(':').unwrap_or((spec, ""));
    let number = user_arg.parse::<i64>().ok();
    let found = users(passwd).find(|user| match (user_arg, number) {
        ("", _) => user.uid == 0,
        (_, Some(number)) => i64::from(user.uid) == number,
        (name, None) => user.name == name,
    });
    let (uid, mut gid, home) = match (&found, number) {
        (Some(user), _) => (user.uid, user.gid, user.home),
        (None, _) if user_arg.is_empty() => (0, 0, "/"),
        (None, Some(number)) => (in_range(number)?, 0, "/"),
        (None, None) => return Err(no_user(user_arg)),
    };
    let mut supplementary = Vec::new();
    if !group_arg.is_empty() {
        gid = group_id(group_arg, group)?;
    } else if let Some(user) = &found {
        let member = |g: &Group<'_>| g.members.split(',').any(|m| m == user.name);
        supplementary.extend(groups(group).filter(member).map(|g| g.gid));
    }
    let mut all = vec![gid];
    all.extend(supplementary);
    for name in additional {
        all.push(additional_id(name, group)?);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|gid| seen.insert(*gid));
    if all.len() > GROUP_LIMIT {
        return Err(StartError::invalid(format!("too many groups for user {user_arg}: {}", all.len())));
    }
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    let groups = all.into_iter().map(Gid::from_raw).collect();
    Ok(Identity { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups, home })
}

fn group_id(arg: &str, group: &str) -> Result<u32, StartError> {
    match arg.parse::<i64>() {
        // A number is itself whether the file lists it or not.
        Ok(number) => in_range(number),
        Err(_) => groups(group).find(|g| g.name == arg).map(|g| g.gid).ok_or_else(|| no_group(arg)),
    }
}

fn additional_id(arg: &str, group: &str) -> Result<u32, StartError> {
    if let Some(known) = groups(group).find(|g| g.name == arg) {
        return Ok(known.gid);
    }
    arg.parse::<i64>().map_err(|_| no_group(arg)).and_then(in_range)
}

fn in_range(number: i64) -> Result<u32, StartError> {
    u32::try_from(number)
        .ok()
        .filter(|_| number <= ID_LIMIT)
        .ok_or_else(|| StartError::invalid("uids and gids must be in range 0-2147483647"))
}

fn no_user(name: &str) -> StartError {
    StartError::new(Class::InvalidParameter, format!("unable to find user {name}: no matching entries in passwd file"))
}

fn no_group(name: &str) -> StartError {
    StartError::new(Class::InvalidParameter, format!("unable to find group {name}: no matching entries in group file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        broken:x:zz:1::/\n\
        short:x\n\
        daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        nohome:x:1002:1002::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:app,daemon\nstaff:x:50:app\napp:x:1001:\nbad:x:-:app\nappx:x:60:xapp\n";

    fn ids(spec: &str, additional: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let additional: Vec<String> = additional.iter().map(|s| (*s).to_owned()).collect();
        let found = resolve(spec, &additional, PASSWD, GROUP).map_err(|e| e.message)?;
        let groups = found.groups.iter().map(|g| g.as_raw()).collect();
        Ok((found.uid.as_raw(), found.gid.as_raw(), groups, found.home))
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(ids("", &[]), Ok((0, 0, vec![0], "/root".into())));
        assert_eq!(ids("app", &[]), Ok((1000, 1001, vec![1001, 10, 50], "/home/app".into())));
        assert_eq!(ids("1000", &[]), ids("app", &[]));
        assert_eq!(ids("4242", &[]), Ok((4242, 0, vec![0], "/".into())));
        assert_eq!(ids("nohome", &[]), Ok((1002, 1002, vec![1002], "/".into())));
    }

    #[test]
    fn an_explicit_group_means_no_memberships() {
        assert_eq!(ids("app:wheel", &[]), Ok((1000, 10, vec![10], "/home/app".into())));
        assert_eq!(ids("app:4711", &[]), Ok((1000, 4711, vec![4711], "/home/app".into())));
        assert_eq!(ids(":50", &[]), Ok((0, 50, vec![50], "/root".into())));
    }

    #[test]
    fn further_groups_by_name_or_number() {
        assert_eq!(ids("app:wheel", &["staff", "77", "wheel"]), Ok((1000, 10, vec![10, 50, 77], "/home/app".into())));
    }

    #[test]
    fn errors_are_dockers() {
        assert_eq!(ids("nope", &[]), Err("unable to find user nope: no matching entries in passwd file".into()));
        assert_eq!(ids("broken", &[]), Err("unable to find user broken: no matching entries in passwd file".into()));
        assert_eq!(ids("app:nope", &[]), Err("unable to find group nope: no matching entries in group file".into()));
        assert_eq!(ids("0", &["nope"]), Err("unable to find group nope: no matching entries in group file".into()));
        for out_of_range in ["-1", "2147483648", "0:-5", "99999999999"] {
            assert_eq!(ids(out_of_range, &[]), Err("uids and gids must be in range 0-2147483647".into()));
        }
    }

    #[test]
    fn without_files_numbers_serve() {
        let found = resolve("7:8", &[], "", "").unwrap();
        assert_eq!((found.uid.as_raw(), found.gid.as_raw(), found.home.as_str()), (7, 8, "/"));
        assert!(resolve("root", &[], "", "").is_err());
    }
}
