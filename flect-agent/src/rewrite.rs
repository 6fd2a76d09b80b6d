//! Putting a store's names into requests and taking them out of replies.
