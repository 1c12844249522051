//! `update`: other limits for a container.

use crate::args::{Flag, Parsed, value};
use crate::container::load_in;
use crate::convert::{CgroupFiles, limits, parse};
use crate::global::Global;
use crate::log;
use crate::spec::Resources;
use crate::state::Status;
use naru_base::{Error, Result};
use naru_runtime::plan;
use std::io::Read;

pub(super) const FLAGS: &[Flag] = &[
    value("resources", "file with linux.resources, - for standard input").or("r"),
    value("blkio-weight", "relative weight, 10 to 1000"),
    value("cpu-period", "microseconds"),
    value("cpu-quota", "microseconds per period"),
    value("cpu-burst", "microseconds that may be saved up"),
    value("cpu-share", "relative weight"),
    value("cpu-rt-period", "microseconds"),
    value("cpu-rt-runtime", "microseconds"),
    value("cpu-idle", "1 for the idle policy"),
    value("cpuset-cpus", "processors"),
    value("cpuset-mems", "memory nodes"),
    value("memory", "bytes"),
    value("memory-reservation", "bytes"),
    value("memory-swap", "bytes of memory and swap, -1 for no limit"),
    value("kernel-memory", "ignored: the kernel has no such limit any more"),
    value("kernel-memory-tcp", "ignored"),
    value("pids-limit", "processes, -1 for no limit"),
    value("l3-cache-schema", "not supported"),
    value("mem-bw-schema", "not supported"),
];

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    if parsed.get("l3-cache-schema").or(parsed.get("mem-bw-schema")).is_some_and(|text| !text.is_empty()) {
        return Err(Error::not_implemented("Intel RDT is not supported"));
    }
    let (state, ..) = load_in(global, parsed.id()?, &[Status::Created, Status::Running, Status::Paused])?;
    let (resources, files) = match parsed.get("resources") {
        Some(path) => from_file(path)?,
        None => from_flags(parsed)?,
    };
    let mut cgroup = state.cgroup()?;
    cgroup.update(&resources)?;
    files.write(Some(&cgroup))?;
    cgroup.take_warnings().iter().for_each(|text| log::warn(global, text));
    Ok(0)
}

fn from_file(path: &str) -> Result<(plan::Resources, CgroupFiles)> {
    let text = match path {
        "-" => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map(|_| text)
        }
        path => std::fs::read(path),
    };
    let text = text.map_err(|e| Error::invalid(format!("read resources {path}: {e}")))?;
    let resources: Resources = parse(path, &text)?;
    Ok((limits(&resources)?, CgroupFiles::new(&resources)?))
}

fn from_flags(parsed: &Parsed) -> Result<(plan::Resources, CgroupFiles)> {
    let bytes = |name: &str| match parsed.get(name) {
        None | Some("") => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => {
            let invalid = |_| Error::invalid(format!("invalid value {text:?} for flag -{name}"));
            naru_base::size::parse_bytes(text).map_err(invalid).map(Some)
        }
    };
    let text = |name: &str| parsed.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let resources = plan::Resources {
        memory: bytes("memory")?,
        memory_reservation: bytes("memory-reservation")?,
        memory_swap: bytes("memory-swap")?,
        cpu_shares: parsed.number("cpu-share")?,
        cpu_quota: parsed.number("cpu-quota")?,
        cpu_period: parsed.number("cpu-period")?,
        cpu_rt_runtime: parsed.number("cpu-rt-runtime")?,
        cpu_rt_period: parsed.number("cpu-rt-period")?,
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        pids_limit: parsed.number("pids-limit")?,
        blkio_weight: parsed.number("blkio-weight")?,
        ..plan::Resources::default()
    };
    let cpu =
        crate::spec::Cpu { burst: parsed.number("cpu-burst")?, idle: parsed.number("cpu-idle")?, ..Default::default() };
    let files = CgroupFiles::new(&Resources { cpu: Some(cpu), ..Resources::default() })?;
    Ok((resources, files))
}
