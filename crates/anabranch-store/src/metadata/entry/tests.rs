//! Random entries come back, damaged bytes are refused, and what is regular is small.
