//! Limits (config-linux.md, "Control groups"): those that a plan has, and files for the rest.

use crate::spec::{self, RateDevice, Resources};
use naru_base::{Error, Result};
use naru_runtime::cgroup::Cgroup;
use naru_runtime::defaults;
use naru_runtime::plan::{self, DeviceRule, DeviceValue};

/// The limits in the plan's words.
///
/// # Errors
/// An impossible device rule.
pub(crate) fn limits(resources: &Resources) -> Result<plan::Resources> {
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let io = resources.block_io.clone().unwrap_or_default();
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let set = |number: Option<i64>| number.filter(|number| *number != 0);
    let rates = |list: &[RateDevice]| -> Vec<DeviceValue> {
        list.iter().map(|d| DeviceValue { major: d.major, minor: d.minor, value: d.rate }).collect()
    };
    let weights = io
        .weight_device
        .iter()
        .filter_map(|d| Some(DeviceValue { major: d.major, minor: d.minor, value: u64::from(d.weight?) }));
    #[allow(clippy::needless_update, reason = "limits that an OCI configuration has no word for stay as they are")]
    Ok(plan::Resources {
        memory: set(memory.limit),
        memory_swap: set(memory.swap),
        memory_reservation: set(memory.reservation),
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer,
        cpu_shares: cpu.shares.filter(|shares| *shares != 0),
        cpu_quota: set(cpu.quota),
        cpu_period: cpu.period.filter(|period| *period != 0),
        cpu_rt_runtime: set(cpu.realtime_runtime),
        cpu_rt_period: cpu.realtime_period.filter(|period| *period != 0),
        cpuset_cpus: text(&cpu.cpus),
        cpuset_mems: text(&cpu.mems),
        pids_limit: resources.pids.and_then(|pids| set(pids.limit)),
        blkio_weight: io.weight.filter(|weight| *weight != 0),
        blkio_weight_device: weights.collect(),
        blkio_read_bps: rates(&io.throttle_read_bps_device),
        blkio_write_bps: rates(&io.throttle_write_bps_device),
        blkio_read_iops: rates(&io.throttle_read_iops_device),
        blkio_write_iops: rates(&io.throttle_write_iops_device),
        devices: device_rules(&resources.devices)?,
        ..plan::Resources::default()
    })
}

/// Those asked for, and then what every container may use (config-linux.md, "Default Devices").
fn device_rules(rules: &[spec::DeviceRule]) -> Result<Vec<DeviceRule>> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = rules.iter().map(device_rule).collect::<Result<Vec<_>>>()?;
    let everything = all.iter().rev().find(|rule| rule.kind == 'a').is_some_and(|rule| rule.allow);
    if !everything {
        all.extend(defaults::default_device_rules().into_iter().filter(|rule| rule.allow));
    }
    Ok(all)
}

fn device_rule(rule: &spec::DeviceRule) -> Result<DeviceRule> {
    let invalid = |why: &str| Error::invalid(format!("device rule {rule:?}: {why}"));
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| invalid("impossible device number")),
    };
    let kind = match rule.r#type.as_deref() {
        None | Some("" | "a") => 'a',
        Some("c" | "u") => 'c',
        Some("b") => 'b',
        Some(_) => return Err(invalid("unknown type")),
    };
    let access = rule.access.clone().filter(|access| !access.is_empty()).unwrap_or_else(|| "rwm".to_owned());
    if !access.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(invalid("access is of r, w and m"));
    }
    Ok(DeviceRule { allow: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
}

/// Values for files of a group that a plan has no word for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CgroupFiles {
    /// For the v2 tree, by name.
    unified: Vec<(String, String)>,
    /// Controller, file on v1, file on v2 (none if there is no such thing), value.
    others: Vec<(&'static str, String, Option<String>, String)>,
}

impl CgroupFiles {
    /// # Errors
    /// Something that no cgroup can do.
    pub(crate) fn new(resources: &Resources) -> Result<Self> {
        let mut files = Self { unified: resources.unified.clone().into_iter().collect(), ..Self::default() };
        for limit in &resources.hugepage_limits {
            let size = &limit.page_size;
            let (v1, v2) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
            files.others.push(("hugetlb", v1, Some(v2), limit.limit.to_string()));
        }
        if let Some(burst) = resources.cpu.as_ref().and_then(|cpu| cpu.burst) {
            files.others.push(("cpu", "cpu.cfs_burst_us".into(), Some("cpu.max.burst".into()), burst.to_string()));
        }
        if let Some(idle) = resources.cpu.as_ref().and_then(|cpu| cpu.idle) {
            files.others.push(("cpu", "cpu.idle".into(), Some("cpu.idle".into()), idle.to_string()));
        }
        if let Some(network) = &resources.network {
            if let Some(class) = network.class_id.filter(|class| *class != 0) {
                files.others.push(("net_cls", "net_cls.classid".into(), None, class.to_string()));
            }
            for priority in &network.priorities {
                let line = format!("{} {}", priority.name, priority.priority);
                files.others.push(("net_prio", "net_prio.ifpriomap".into(), None, line));
            }
        }
        for (device, limit) in &resources.rdma {
            let number =
                |name: &str, limit: Option<u32>| limit.map(|limit| format!(" {name}={limit}")).unwrap_or_default();
            let line = format!(
                "{device}{}{}",
                number("hca_handle", limit.hca_handles),
                number("hca_object", limit.hca_objects)
            );
            files.others.push(("rdma", "rdma.max".into(), Some("rdma.max".into()), line));
        }
        Ok(files)
    }

    /// Writes them into `cgroup`.
    ///
    /// # Errors
    /// The host has no such controller, or refuses a value.
    pub(crate) fn write(&self, cgroup: Option<&Cgroup>) -> Result<()> {
        let Some(cgroup) = cgroup else { return Ok(()) };
        for (controller, v1, v2, value) in &self.others {
            cgroup.write_file(controller, Some(v1), v2.as_deref(), value)?;
        }
        for (name, value) in &self.unified {
            let controller = name.split('.').next().unwrap_or_default();
            cgroup.write_file(controller, None, Some(name), value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_not_set_and_minus_one_is_no_limit() {
        let resources: Resources = serde_json::from_str(
            r#"{"memory":{"limit":0,"swap":-1},"pids":{"limit":0},"cpu":{"shares":2,"quota":-1},"blockIO":{"weight":0}}"#,
        )
        .unwrap();
        let limits = limits(&resources).unwrap();
        assert_eq!((limits.memory, limits.memory_swap, limits.pids_limit), (None, Some(-1), None));
        assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.blkio_weight), (Some(2), Some(-1), None));
    }

    #[test]
    fn default_devices_are_allowed_after_what_was_asked_for() {
        let deny = spec::DeviceRule { access: Some("rwm".into()), ..spec::DeviceRule::default() };
        let allow = spec::DeviceRule { allow: true, ..deny.clone() };
        let rules = device_rules(std::slice::from_ref(&deny)).unwrap();
        assert!(!rules[0].allow && rules.iter().skip(1).all(|rule| rule.allow) && rules.len() > 5);
        assert_eq!(device_rules(&[deny, allow]).unwrap().len(), 2);
        assert!(device_rules(&[]).unwrap().is_empty());
        let bad = spec::DeviceRule { access: Some("x".into()), ..spec::DeviceRule::default() };
        assert!(device_rules(&[bad]).is_err());
    }

    #[test]
    fn further_files() {
        let resources: Resources = serde_json::from_str(
            r#"{"unified":{"memory.high":"1000"},"hugepageLimits":[{"pageSize":"2MB","limit":5}],"network":{"classID":7}}"#,
        )
        .unwrap();
        let files = CgroupFiles::new(&resources).unwrap();
        assert_eq!(files.unified, [("memory.high".to_owned(), "1000".to_owned())]);
        assert_eq!(files.others.len(), 2);
    }
}
