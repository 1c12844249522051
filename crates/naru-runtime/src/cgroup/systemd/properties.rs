//! Limits as systemd's properties (systemd.resource-control(5); types: org.freedesktop.systemd1(5)).
//!
//! What is here, systemd writes by itself whenever it reloads, so it has to know it. What isn't (weights of BFQ, limits by an OCI
//! configuration's `unified`) stays as it was written: systemd leaves files alone that it has no setting for.

use super::super::limits::{cpu_weight, io_weight, swap_alone};
use crate::plan::{DeviceValue, Resources};
use naru_base::{Error, Result};
use naru_dbus::Value;

/// No limit.
const INFINITY: u64 = u64::MAX;
/// The highest processor or memory node that is believed.
const LIST_LIMIT: usize = 65_536;

/// A property of a unit.
pub(super) type Property = (&'static str, Value);

/// Those of a new scope, beside its limits.
pub(super) fn of_scope(slice: &str, description: &str, pid: u32) -> Vec<Property> {
    vec![
        ("Description", Value::text(description)),
        ("Slice", Value::text(slice)),
        // Everything below is ours; and every controller is there.
        ("Delegate", Value::Bool(true)),
        ("CPUAccounting", Value::Bool(true)),
        ("MemoryAccounting", Value::Bool(true)),
        ("IOAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
        // One that failed goes as well.
        ("CollectMode", Value::text("inactive-or-failed")),
        ("PIDs", Value::Array("u".into(), vec![Value::U32(pid)])),
    ]
}

/// The limits that `resources` has.
///
/// # Errors
/// A list of processors or memory nodes that is none.
pub(super) fn limits(resources: &Resources) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    let mut number = |name: &'static str, value: Option<u64>| {
        if let Some(value) = value {
            list.push((name, Value::U64(value)));
        }
    };
    number("MemoryMax", nonzero(resources.memory).map(or_infinity));
    number("MemorySwapMax", swap_alone(resources).map(or_infinity));
    number("MemoryLow", nonzero(resources.memory_reservation).map(or_infinity));
    number("CPUWeight", resources.cpu_shares.filter(|shares| *shares != 0).map(cpu_weight));
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = nonzero(resources.cpu_quota);
    if quota.is_some() || period.is_some() {
        number("CPUQuotaPeriodUSec", Some(period.unwrap_or(100_000)));
        number("CPUQuotaPerSecUSec", Some(quota_per_second(quota.unwrap_or(-1), period.unwrap_or(100_000))));
    }
    number("TasksMax", resources.pids_limit.map(|limit| if limit == 0 { INFINITY } else { or_infinity(limit) }));
    number("IOWeight", resources.blkio_weight.filter(|weight| *weight != 0).map(io_weight));
    for (name, text) in [("AllowedCPUs", &resources.cpuset_cpus), ("AllowedMemoryNodes", &resources.cpuset_mems)] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            list.push((name, Value::bytes(&bits(text)?)));
        }
    }
    let weights: Vec<DeviceValue> = resources
        .blkio_weight_device
        .iter()
        .map(|device| DeviceValue { value: io_weight(u16::try_from(device.value).unwrap_or(u16::MAX)), ..*device })
        .collect();
    by_device(&mut list, "IODeviceWeight", &weights);
    by_device(&mut list, "IOReadBandwidthMax", &resources.blkio_read_bps);
    by_device(&mut list, "IOWriteBandwidthMax", &resources.blkio_write_bps);
    by_device(&mut list, "IOReadIOPSMax", &resources.blkio_read_iops);
    by_device(&mut list, "IOWriteIOPSMax", &resources.blkio_write_iops);
    Ok(list)
}

/// The way from names and values to what calls take: `a(sv)`.
pub(super) fn to_value(properties: Vec<Property>) -> Value {
    let pair = |(name, value): Property| Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value))]);
    Value::Array("(sv)".into(), properties.into_iter().map(pair).collect())
}

fn nonzero(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// systemd keeps it as a percentage without fraction, so it is rounded up, as runc does: what is written to the file after it may be less.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    const PERCENT: u64 = 10_000;
    match u64::try_from(quota) {
        Ok(quota) => quota.saturating_mul(1_000_000).div_ceil(period).div_ceil(PERCENT).saturating_mul(PERCENT),
        Err(_) => INFINITY,
    }
}

fn by_device(list: &mut Vec<Property>, name: &'static str, values: &[DeviceValue]) {
    if values.is_empty() {
        return;
    }
    let one = |DeviceValue { major, minor, value }: &DeviceValue| {
        Value::Struct(vec![Value::text(format!("/dev/block/{major}:{minor}")), Value::U64(*value)])
    };
    list.push((name, Value::Array("(st)".into(), values.iter().map(one).collect())));
}

/// `0-3,8` as a mask, the lowest number in the lowest bit of the first byte.
fn bits(text: &str) -> Result<Vec<u8>> {
    let invalid = || Error::invalid(format!("invalid list of processors or memory nodes {text:?}"));
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LIST_LIMIT).ok_or_else(invalid);
    let mut mask = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        for bit in first..=last {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            if let Some(byte) = mask.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_systemds() {
        let resources = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            cpu_shares: Some(1024),
            cpu_quota: Some(25_000),
            cpu_period: Some(50_000),
            pids_limit: Some(-1),
            cpuset_cpus: Some("0-1,9".into()),
            blkio_read_bps: vec![DeviceValue { major: 8, minor: 0, value: 5 }],
            ..Resources::default()
        };
        let limits = limits(&resources).unwrap();
        let of = |name: &str| limits.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        assert_eq!(of("MemoryMax"), Some(Value::U64(64 << 20)));
        assert_eq!(of("MemorySwapMax"), Some(Value::U64(32 << 20)));
        assert_eq!(of("CPUWeight"), Some(Value::U64(100)));
        assert_eq!(of("CPUQuotaPerSecUSec"), Some(Value::U64(500_000)));
        assert_eq!(of("CPUQuotaPeriodUSec"), Some(Value::U64(50_000)));
        assert_eq!(of("TasksMax"), Some(Value::U64(INFINITY)));
        assert_eq!(of("AllowedCPUs"), Some(Value::bytes(&[3, 2])));
        assert_eq!(of("MemoryLow"), None);
        let Some(Value::Array(_, devices)) = of("IOReadBandwidthMax") else { panic!() };
        assert_eq!(devices, [Value::Struct(vec![Value::text("/dev/block/8:0"), Value::U64(5)])]);
    }

    #[test]
    fn quotas_are_rounded_up_to_a_percent() {
        assert_eq!(quota_per_second(25_000, 100_000), 250_000);
        assert_eq!(quota_per_second(1_234, 100_000), 20_000);
        assert_eq!(quota_per_second(-1, 100_000), INFINITY);
    }

    #[test]
    fn lists_are_masks() {
        assert_eq!(bits("0").unwrap(), [1]);
        assert_eq!(bits("7-8").unwrap(), [0x80, 1]);
        for bad in ["x", "3-1", "0-99999999", "", "1,"] {
            assert!(bits(bad).is_err(), "{bad}");
        }
    }
}
