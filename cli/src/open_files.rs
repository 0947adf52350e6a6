//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as a process should want: a validator's engine has one open for each attempt to make a
/// block, up to 256 behind the last final one and all after it, which is three days without a block.
const WANTED: u64 = 65_536;

/// Raises the limit to what is wanted, or to what the system allows: its usual 1,024 is less than a
/// busy process needs.
pub(crate) fn allow_many() {
    let now = getrlimit(Resource::Nofile);
    let allowed = now.maximum.map_or(WANTED, |most| most.min(WANTED));
    if now.current.is_some_and(|current| current < allowed) {
        let raised = Rlimit {
            current: Some(allowed),
            maximum: now.maximum,
        };
        // It stays as it was where the system does not let us.
        let _raised = setrlimit(Resource::Nofile, raised);
    }
}
