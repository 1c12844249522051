//! `logout`: forgets the credentials for a registry.

use super::login::registry_key;
use crate::config::HUB;
use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::Matches;

/// Runs the command.
pub fn logout(context: &mut Context, m: &Matches) -> Outcome {
    let key = registry_key(m.arg(0)).to_owned();
    let shown = if key == HUB { HUB } else { &key };
    context.printer.line(format!("Removing login credentials for {shown}"))?;
    // Other programs may have kept the credentials under the whole address.
    for key in [key.clone(), format!("https://{key}"), format!("http://{key}")] {
        if let Err(e) = context.config_mut().erase(&key) {
            context.printer.err(format!("WARNING: could not erase credentials:\n{key}: {e}"));
        }
    }
    Ok(0)
}
