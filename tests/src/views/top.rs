pub const TRIALS: [(&str, super::Body); 0] = [];
