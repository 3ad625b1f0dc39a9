//! What rows cost in bytes, and what reading costs in blocks.
