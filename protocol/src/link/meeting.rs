//! Whether two replicas may have a link, and which of two connections between them is it.

use super::hello::{Hello, Side};
use super::{Bye, ByeReason};
use crate::ids::ReplicaId;

/// Checks who the peer says it is, once a version is shared.
///
/// # Errors
/// Why there is no link, in words for both operators.
pub fn check_hello(ours: &Hello, theirs: &Hello) -> Result<(), Bye> {
    let refuse = |reason, detail: String| Err(Bye { reason, detail });
    if ours.cluster != theirs.cluster {
        return refuse(ByeReason::Cluster, "the two regions belong to different clusters".to_owned());
    }
    if ours.challenge == theirs.challenge {
        return refuse(ByeReason::Secret, "the challenge came back as it was sent".to_owned());
    }
    if ours.stream.replica == theirs.stream.replica {
        let number = ours.stream.replica.0;
        return refuse(ByeReason::SameReplica, format!("both regions are replica {number}"));
    }
    Ok(())
}

/// Whether a new connection between this replica and a peer takes the place of the one they have. Both
/// may have dialled at once, and both must keep the same one: that of the lower replica. Of two that the
/// same side has dialled the newer is kept, since that side has given the other one up.
#[must_use]
pub fn replaces(me: ReplicaId, peer: ReplicaId, old: Side, new: Side) -> bool {
    let of_lower = if me < peer { Side::Dialler } else { Side::Listener };
    old == new || new == of_lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, StreamId};
    use crate::link::Role;

    fn hello(replica: u16) -> Hello {
        let stream = StreamId { replica: ReplicaId(replica), incarnation: Incarnation(1) };
        let challenge = [u8::try_from(replica).expect("small"); 32];
        Hello { versions: (1, 1), cluster: 7, stream, role: Role::Leader, schema: [0; 16], challenge }
    }

    #[test]
    fn l6_a_stranger_a_twin_and_an_echo_get_no_link() {
        let ours = hello(1);
        let refused = |theirs: Hello| check_hello(&ours, &theirs).map_err(|bye| bye.reason);
        assert_eq!(refused(hello(2)), Ok(()));
        assert_eq!(refused(Hello { cluster: 8, ..hello(2) }), Err(ByeReason::Cluster));
        assert_eq!(refused(Hello { challenge: ours.challenge, ..hello(2) }), Err(ByeReason::Secret));
        assert_eq!(refused(Hello { challenge: [9; 32], ..hello(1) }), Err(ByeReason::SameReplica));
        // What that leads to is found out once both have proved who they are.
        assert_eq!(refused(Hello { schema: [1; 16], ..hello(2) }), Ok(()));
    }

    #[test]
    fn l6_both_sides_keep_the_same_connection() {
        let (low, high) = (ReplicaId(1), ReplicaId(2));
        let other = |side| if side == Side::Dialler { Side::Listener } else { Side::Dialler };
        for (old, new) in [(Side::Dialler, Side::Listener), (Side::Listener, Side::Dialler)] {
            assert_eq!(replaces(low, high, old, new), replaces(high, low, other(old), other(new)));
            // Whichever of the two came first, the same one is left.
            assert_ne!(replaces(low, high, old, new), replaces(low, high, new, old));
        }
        assert!(replaces(low, high, Side::Dialler, Side::Dialler));
    }
}
