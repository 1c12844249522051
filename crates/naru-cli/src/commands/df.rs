//! `system df`: what the engine keeps on disk.

use super::{images, ps, volume};
use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::types::{BuildCache, DiskUsage};
use crate::when;
use naru_base::human::human_since;
use naru_base::size::{human_size, human_size_with_precision};

const SUMMARY: Listing<'_> = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
    quiet: "{{.Type}}",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    row_type: "*formatter.diskUsageContext",
};

const IMAGES: Listing<'_> = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    raw: "",
    quiet: "",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    row_type: "*formatter.imageContext",
};

const CONTAINERS: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    raw: "",
    quiet: "",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    row_type: "*formatter.ContainerContext",
};

const VOLUMES: Listing<'_> = Listing {
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    raw: "",
    quiet: "",
    headers: volume::HEADERS,
    row_type: "*formatter.volumeContext",
};

const CACHE: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    raw: "",
    quiet: "",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    row_type: "*formatter.buildCacheContext",
};

/// Runs the command.
pub fn df(context: &mut Context, m: &Matches) -> Outcome {
    let verbose = m.bool("verbose");
    let format = Format::new(&SUMMARY, m.str("format"), false)?;
    let usage: DiskUsage = context.get("/system/df")?;
    if verbose && m.str("format").is_empty() {
        return details(context, &usage);
    }
    format.print(&mut context.printer, summary(&usage))?;
    Ok(0)
}

fn summary(usage: &DiskUsage) -> [Row; 4] {
    let active_images = usage.images.iter().filter(|i| i.containers > 0);
    let used: i64 =
        active_images.clone().filter(|i| i.size != -1 && i.shared_size != -1).map(|i| i.size - i.shared_size).sum();
    let running = |c: &&crate::types::Container| {
        let state = c.state.to_lowercase();
        ["running", "paused", "restarting"].iter().any(|s| state.contains(s))
    };
    let container_size: i64 = usage.containers.iter().map(|c| c.size_rw).sum();
    let idle_size: i64 = usage.containers.iter().filter(|c| !running(c)).map(|c| c.size_rw).sum();
    let volume_size = |active: bool| -> i64 {
        let sizes = usage.volumes.iter().filter_map(|v| v.usage_data.as_ref());
        sizes.filter(|u| u.size != -1 && (!active || u.ref_count == 0)).map(|u| u.size).sum()
    };
    let active_volumes =
        usage.volumes.iter().filter(|v| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0)).count();
    let cache_size: i64 = usage.build_cache.iter().filter(|c| !c.shared).map(|c| c.size).sum();
    let cache_used: i64 = usage.build_cache.iter().filter(|c| !c.shared && c.in_use).map(|c| c.size).sum();
    [
        row("Images", usage.images.len(), active_images.count(), usage.layers_size, usage.layers_size - used, true),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(running).count(),
            container_size,
            idle_size,
            true,
        ),
        row("Local Volumes", usage.volumes.len(), active_volumes, volume_size(false), volume_size(true), true),
        row(
            "Build Cache",
            usage.build_cache.len(),
            usage.build_cache.iter().filter(|c| c.in_use).count(),
            cache_size,
            cache_size - cache_used,
            false,
        ),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: i64, free: i64, percent: bool) -> Row {
    let free_text = human_size(free as f64);
    let reclaimable = if percent && size > 0 {
        format!("{free_text} ({}%)", (free as f64 * 100.0 / size as f64) as i64)
    } else {
        free_text
    };
    Row::new()
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", human_size(size as f64))
        .with("Reclaimable", reclaimable)
}

fn details(context: &mut Context, usage: &DiskUsage) -> Outcome {
    let now = when::now();
    let printer = &mut context.printer;
    printer.raw(b"Images space usage:\n\n")?;
    let rows = usage.images.iter().flat_map(|i| images::rows(i, false, false, now));
    Format::new(&IMAGES, "", false)?.print(printer, rows)?;
    printer.raw(b"\nContainers space usage:\n\n")?;
    let format = Format::new(&CONTAINERS, "", false)?;
    format.print(printer, usage.containers.iter().map(|c| ps::row(c, &format, false, now)))?;
    printer.raw(b"\nLocal Volumes space usage:\n\n")?;
    Format::new(&VOLUMES, "", false)?.print(printer, usage.volumes.iter().map(volume::row))?;
    let total: i64 = usage.build_cache.iter().filter(|c| !c.shared).map(|c| c.size).sum();
    printer.raw(format!("\nBuild cache usage: {}\n\n", human_size(total as f64)).as_bytes())?;
    Format::new(&CACHE, "", false)?.print(printer, usage.build_cache.iter().map(|c| cache_row(c, now)))?;
    Ok(0)
}

fn cache_row(c: &BuildCache, now: i64) -> Row {
    let since = |text: &str| {
        when::parse_rfc3339(text).map(|t| format!("{} ago", human_since(now, t.as_second()))).unwrap_or_default()
    };
    let id = c.id.get(..12).unwrap_or(&c.id);
    Row::new()
        .with("ID", if c.in_use { format!("{id}*") } else { id.to_owned() })
        .with("CacheType", &*c.kind)
        .with("Size", human_size_with_precision(c.size as f64, 3))
        .with("CreatedSince", since(&c.created_at))
        .with("LastUsedSince", since(c.last_used_at.as_deref().unwrap_or_default()))
        .with("UsageCount", c.usage_count.to_string())
        .with("Shared", c.shared.to_string())
}
