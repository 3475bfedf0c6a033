//! What came out, clause by clause: as text and as JSON.
