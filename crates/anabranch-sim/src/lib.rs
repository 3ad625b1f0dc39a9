//! Reference model, random histories and faulty disks.
