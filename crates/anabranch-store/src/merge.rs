//! One incoming change against one row: the rule of the core, applied to the store.
