//! Float -> int8, per output channel.
