//! `crsql_changes`: the state of all conflict-free tables as rows, and a door for others'.
