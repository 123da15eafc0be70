//! The document machine: what is admitted, when it is shown, and to whom.
