//! Merges, foreign headers, several connections.
