//! RESP, the wire protocol of Valkey: finding requests and replies in bytes.
