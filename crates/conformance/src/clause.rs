//! The normative clauses of 5.13, as data: section, who it binds, MUST, SHOULD or MAY, what it says.
