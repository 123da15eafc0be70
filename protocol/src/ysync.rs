//! The y-protocols messages: sync, awareness, auth.
