//! Ending the sessions of an app that may do less than when they began.

use super::Worker;

impl Worker {
    /// Whoever is in the app sees its connection close, and is judged anew when it comes again. What comes
    /// late from the old judgement is in front of this in the same queue.
    pub(super) fn dismiss(&mut self, app: &str) {
        for key in self.sessions.keys() {
            let session = self.sessions.get(key);
            if session.is_some_and(|session| session.app.name == app) {
                self.close_session(key);
            }
        }
    }
}
