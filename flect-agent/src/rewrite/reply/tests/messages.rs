//! Messages to subscribers, and invalidations.

use super::*;

#[test]
fn messages_name_channels_as_the_client_does() {
    use ReplyPlan::Pubsub;
    for kind in ['*', '>'] {
        let check = |input: &str, expect: &str, ack: Option<Ack>| {
            let input = lines(&format!("{kind}{input}"));
            for cuts in [vec![], every_byte(&input)] {
                let (out, summary) = run(&Pubsub, &input, &cuts, 3).unwrap();
                assert_eq!(
                    String::from_utf8(out).unwrap(),
                    String::from_utf8(lines(&format!("{kind}{expect}"))).unwrap()
                );
                assert_eq!(summary, ack);
            }
        };
        let ack = |kind, count| Some(Ack { kind, count });
        check(
            "3 $7 message $5 {s}:c $5 {s}:p ",
            "3 $7 message $1 c $5 {s}:p ",
            None,
        );
        check(
            "3 $8 smessage $5 {s}:c $1 p ",
            "3 $8 smessage $1 c $1 p ",
            None,
        );
        check(
            "4 $8 pmessage $6 {s}:c* $6 {s}:cc $1 p ",
            "4 $8 pmessage $2 c* $2 cc $1 p ",
            None,
        );
        check(
            "3 $9 subscribe $5 {s}:c :1 ",
            "3 $9 subscribe $1 c :1 ",
            ack(AckKind::Subscribe, 1),
        );
        check(
            "3 $10 psubscribe $5 {s}:c :2 ",
            "3 $10 psubscribe $1 c :2 ",
            ack(AckKind::Psubscribe, 2),
        );
        check(
            "3 $11 unsubscribe $-1 :0 ",
            "3 $11 unsubscribe $-1 :0 ",
            ack(AckKind::Unsubscribe, 0),
        );
        check(
            "3 $12 sunsubscribe $5 {s}:c :12 ",
            "3 $12 sunsubscribe $1 c :12 ",
            ack(AckKind::Sunsubscribe, 12),
        );
        check(
            "2 $10 invalidate *3 $5 {s}:a $7 {s}/3:b $8 {s}/12:c ",
            "2 $10 invalidate *3 $1 a $1 b $1 c ",
            None,
        );
        check("2 $10 invalidate _ ", "2 $10 invalidate _ ", None);
        check("2 $10 invalidate *-1 ", "2 $10 invalidate *-1 ", None);
        check("2 $4 pong $5 {s}:a ", "2 $4 pong $5 {s}:a ", None);
    }
}

#[test]
fn invalidations_of_the_agents_own_names_are_known() {
    let check = |message: &str, expect: bool| {
        let message = lines(message);
        assert_eq!(tells_of_agent(&message, &namespace(0)), Some(expect));
        assert_eq!(tells_of_agent(&message, &namespace(3)), Some(expect));
        // Whatever is said of a beginning is right of the whole.
        for end in 0..message.len() {
            let early = tells_of_agent(&message[..end], &namespace(0));
            assert!(early.is_none_or(|told| told == expect), "{end}");
        }
    };
    check(">2 $10 invalidate *1 $13 {s}/0:walk.12 ", true);
    check(
        "*3 $7 message $20 __redis__:invalidate *1 $13 {s}/0:walk.12 ",
        true,
    );
    for others in [
        ">2 $10 invalidate *1 $5 {s}:a ",
        ">2 $10 invalidate *1 $10 {s}:{s}/0: ",
        ">2 $10 invalidate *1 $7 {s}/3:a ",
        ">2 $10 invalidate *1 $3 {s} ",
        ">2 $10 invalidate *1 $13 {t}/0:walk.12 ",
        ">2 $10 invalidate _ ",
        "*3 $7 message $5 {s}:c $7 {s}/0:a ",
        "*3 $7 message $20 __redis__:invalidate *1 $5 {s}:a ",
        "*3 $7 message $20 __redis__:invalidate $-1 ",
    ] {
        check(others, false);
    }
}
