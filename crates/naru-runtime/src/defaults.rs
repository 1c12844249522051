//! What docker gives every container unless told otherwise, as parts of a plan.
