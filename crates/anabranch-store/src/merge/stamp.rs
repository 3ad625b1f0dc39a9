//! Who last wrote a cell.
