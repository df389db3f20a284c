//! Scenarios that broke earlier drafts.
