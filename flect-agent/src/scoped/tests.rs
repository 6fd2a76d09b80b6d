use std::collections::HashSet;

use super::*;

fn context() -> Context {
    let prefix = Prefix::parse("{aa}").unwrap();
    Context {
        namespace: prefix.namespace(0),
        prefix,
        protocol: Protocol::Resp2,
    }
}

fn page(cursor: &str, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array(2, &mut out);
    encode::bulk(cursor, &mut out);
    encode::array(names.len(), &mut out);
    for name in names {
        encode::bulk(name, &mut out);
    }
    out
}

/// Runs a task against canned replies; answers the questions and the app's reply.
fn run(mut task: Task, replies: &[Vec<u8>]) -> (Vec<String>, String) {
    let context = context();
    let mut asked = Vec::new();
    let mut step = task.begin(&context);
    let mut replies = replies.iter();
    loop {
        match step {
            Step::Keep(changes) => panic!("{changes:?}"),
            Step::Again => return (asked, String::new()),
            Step::Done(reply) => return (asked, String::from_utf8(reply).unwrap()),
            Step::Ask { request, .. } => {
                asked.push(String::from_utf8(request).unwrap());
                step = task.resume(replies.next().expect("one reply too few"), &context);
            }
            Step::AskBoth { aside, request } => {
                let request = [aside, request].concat();
                asked.push(String::from_utf8(request).unwrap());
                step = task.resume(replies.next().expect("one reply too few"), &context);
            }
        }
    }
}

#[test]
fn keys_shows_own_names_once_and_without_prefix() {
    let task = Task::Keys(Keys::new(b"u*", &context().namespace));
    // The second page brings a name twice and strangers that no honest server would send.
    let (asked, reply) = run(
        task,
        &[
            page("7", &["{aa}:u1"]),
            page("0", &["{aa}:u1", "{ab}:u2", "u3", "{aa}/1:u4"]),
        ],
    );
    assert_eq!(reply, "*1\r\n$2\r\nu1\r\n");
    assert!(asked[0].contains("{aa}:u*"), "{}", asked[0]);
    assert!(asked[1].contains("$1\r\n7\r\n"), "{}", asked[1]);
}

#[test]
fn an_empty_page_is_followed_a_bounded_number_of_times() {
    let empty = page("9", &[]);
    let (asked, reply) = run(Task::Page(Page::at(b"0")), &vec![empty; 100]);
    assert_eq!(asked.len(), 65);
    assert!(asked[0].contains("$3\r\n100\r\n") && asked[1].contains("$4\r\n1000\r\n"));
    assert_eq!(reply, "*2\r\n$1\r\n9\r\n*0\r\n");
}

#[test]
fn a_large_count_is_looked_at_in_parts() {
    let mut task = Page::at(b"0");
    task.count = 2500;
    let (asked, reply) = run(Task::Page(task), &vec![page("9", &["{aa}:k"]); 100]);
    assert_eq!(asked.len(), 3);
    assert!(asked[2].contains("$3\r\n500\r\n"), "{}", asked[2]);
    assert_eq!(
        reply,
        "*2\r\n$1\r\n9\r\n*3\r\n$1\r\nk\r\n$1\r\nk\r\n$1\r\nk\r\n"
    );
    let mut task = Page::at(b"0");
    task.count = u64::MAX;
    let pages = [page("9", &["{aa}:k"]), page("0", &["{aa}:l"])];
    assert_eq!(run(Task::Page(task), &pages).0.len(), 2);
}

#[test]
fn dbsize_counts_each_name_once() {
    let task = Task::Count(Count::new(&context().namespace));
    let (_, reply) = run(
        task,
        &[
            page("5", &["{aa}:a", "{aa}:b"]),
            page("0", &["{aa}:b", "{aa}:c"]),
        ],
    );
    assert_eq!(reply, ":3\r\n");
}

#[test]
fn randomkey_goes_once_around() {
    let none = || Task::RandomKey(RandomKey::new(&context().namespace));
    let (asked, reply) = run(none(), &[page("0", &[]), page("3", &[]), page("0", &[])]);
    assert_eq!((asked.len(), reply.as_str()), (3, "$-1\r\n"));
    let (_, reply) = run(none(), &[page("0", &[]), page("0", &["{aa}:x"])]);
    assert_eq!(reply, "$1\r\nx\r\n");
    // The end of a small table alone would always choose from the same few.
    let mut chosen = HashSet::new();
    for _ in 0..100 {
        let pages = [
            page("0", &["{aa}:z"]),
            page("0", &["{aa}:x", "{aa}:y", "{aa}:z"]),
        ];
        chosen.insert(run(none(), &pages).1);
    }
    assert_eq!(chosen.len(), 3, "{chosen:?}");
}

#[test]
fn flush_deletes_own_names_only() {
    let task = Task::Flush(Flush::all_databases(&context().prefix));
    let (asked, reply) = run(
        task,
        &[
            page("5", &["{aa}:a", "{bb}:a", "{aa}/2:b", "{aa}/0:walk"]),
            page("6", &[]),
            page("0", &["{aa}:c"]),
            b":1\r\n".to_vec(),
        ],
    );
    assert_eq!(reply, "+OK\r\n");
    let unlinked = "*3\r\n$6\r\nUNLINK\r\n$6\r\n{aa}:a\r\n$8\r\n{aa}/2:b\r\n";
    assert!(asked[1].starts_with(unlinked), "{}", asked[1]);
    assert!(asked[1].contains("SCAN"), "{}", asked[1]);
    assert_eq!(asked[3], "*2\r\n$6\r\nUNLINK\r\n$6\r\n{aa}:c\r\n");
}

#[test]
fn info_tells_nothing_of_the_neighbours() {
    let info = "# Server\r\nredis_version:7.2.4\r\nconfig_file:/etc/secret\r\n\r\n# Clients\r\nconnected_clients:99\r\n\r\n# Commandstats\r\ncmdstat_get:calls=5\r\n\r\n# Keyspace\r\ndb0:keys=1000,expires=7,avg_ttl=0\r\n";
    let mut first = Vec::new();
    encode::bulk(info, &mut first);
    let own = Own {
        clients: 2,
        ..Own::default()
    };
    let task = Task::Info(Info::new(Vec::new(), own, &context().prefix));
    let sample = |count, average| format!("*2\r\n:{count}\r\n:{average}\r\n").into_bytes();
    let page = page("0", &["{aa}:a", "{aa}/3:a", "{bb}:a"]);
    let (asked, reply) = run(task, &[first, page, sample(1, 500), sample(0, 0)]);
    assert!(asked[2].contains("{aa}/3:a") && !asked[2].contains("{bb}"));
    let (_, text) = reply.split_once("\r\n").unwrap();
    assert_eq!(
        text,
        "# Server\r\nredis_version:7.2.4\r\nconfig_file:\r\n\r\n# Clients\r\nconnected_clients:2\r\n\r\n# Commandstats\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\ndb3:keys=1,expires=1,avg_ttl=500\r\n\r\n"
    );
}

#[test]
fn config_get_shows_what_is_on_the_list() {
    let mut reply = Vec::new();
    encode::array(12, &mut reply);
    for word in [
        "module.setting",
        "1",
        "hash-seed",
        "secret",
        "maxmemory",
        "0",
        "requirepass",
        "hunter2",
        "dir",
        "/srv",
        "slowlog-max-len",
        "7",
    ] {
        encode::bulk(word, &mut reply);
    }
    let task = Settings::new(vec![b"*".to_vec()], View::default());
    let (_, reply) = run(Task::Settings(task), &[reply]);
    // Nothing is known of this store's own settings, and what is the operator's business is as on a fresh
    // server.
    assert_eq!(
        reply,
        "*8\r\n$9\r\nhash-seed\r\n$0\r\n\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n\
         $11\r\nrequirepass\r\n$0\r\n\r\n$3\r\ndir\r\n$5\r\n/data\r\n"
    );
}

#[test]
fn a_move_without_a_source_moves_nothing() {
    let task = || Task::Rename(Rename::move_key(b"{aa}:a", b"{aa}/1:a"));
    let (asked, reply) = run(task(), &[b"-ERR no such key\r\n".to_vec()]);
    assert_eq!(reply, ":0\r\n");
    assert!(asked[0].starts_with("*3\r\n$8\r\nRENAMENX"));
    assert_eq!(run(task(), &[b":1\r\n".to_vec()]).1, ":1\r\n");
}

#[test]
fn refusals_do_not_name_the_agents_user() {
    let task = Task::Count(Count::new(&context().namespace));
    let refusal =
        b"-NOPERM User flect.housekeeper has no permissions to run the 'scan' command\r\n";
    let (_, reply) = run(task, &[refusal.to_vec()]);
    assert_eq!(
        reply,
        "-NOPERM this command is not available to the store\r\n"
    );
    let task = Task::Count(Count::new(&context().namespace));
    let (_, reply) = run(task, &[b"-LOADING wait\r\n".to_vec()]);
    assert_eq!(reply, "-LOADING wait\r\n");
}

#[test]
fn a_script_that_asks_for_names_runs_anew_with_them() {
    let words = ["EVAL", "text", "0"].map(|word| word.as_bytes().to_vec());
    let task = || {
        let prefix = context().prefix;
        let run = Run::new(words.to_vec(), &ReplyPlan::Verbatim, false, &prefix);
        Task::Run(Box::new(run))
    };
    let wanted = b"-FLECTWALK 3a752a. script: 0, on @user_script:1.\r\n".to_vec();
    let replies = [
        wanted.clone(),
        page("0", &["{aa}:u1", "{ab}:u2"]),
        b":1\r\n".to_vec(),
    ];
    let (asked, reply) = run(task(), &replies);
    assert_eq!(reply, ":1\r\n");
    assert!(asked[0].ends_with("$6\r\n{aa}:\0\r\n"), "{}", asked[0]);
    assert!(asked[1].contains("{aa}:u*"), "{}", asked[1]);
    assert!(
        asked[2].ends_with("{aa}:\x003::u*1:13::u1\r\n"),
        "{}",
        asked[2]
    );
    // A script that asks on and on.
    let again = [wanted, page("0", &[])].into_iter().cycle().take(100);
    let (asked, reply) = run(task(), &again.collect::<Vec<_>>());
    assert!(reply.contains("too many names") && asked.len() < 20);
}

#[test]
fn loaded_scripts_are_noted_for_other_nodes() {
    let scripts = std::sync::Arc::new(crate::scripts::Scripts::default());
    let known = scripts.prepare(b"return 1", &context().prefix, 16, false);
    let (app, server) = (known.app, known.server);
    let task = Task::Script(Script::load(scripts, known.clone()));
    let (asked, reply) = run(task, &[b"$1\r\nx\r\n".to_vec(), b":1\r\n".to_vec()]);
    assert!(reply.contains("e0e1f9fabfc9d4800c877a703b823ac0578ff8db"));
    assert!(asked[1].contains("flect:scripts:{aa}"));
    let elsewhere = std::sync::Arc::new(crate::scripts::Scripts::default());
    let task = Task::Script(Script::find(elsewhere.clone(), app));
    let mut found = b"*2\r\n$-1\r\n$40\r\n".to_vec();
    found.extend_from_slice(server.as_bytes());
    found.extend_from_slice(b"\r\n");
    run(task, &[found]);
    assert_eq!(elsewhere.find(app), Some(server));
    // The user may lack the right for a moment: the script is unknown then.
    let task = Task::Script(Script::find(elsewhere, crate::scripts::Sha::of(b"x")));
    assert_eq!(run(task, &[b"-NOPERM no\r\n".to_vec()]).1, "");
}

#[test]
fn what_changes_libraries_is_not_left_half_done() {
    use super::functions::Command;
    let has_effects = |command| {
        let task = Functions::new(command, &context().prefix, 16, false);
        Task::Functions(Box::new(task)).has_effects()
    };
    assert!(has_effects(Command::Flush));
    assert!(has_effects(Command::Delete(b"lib".to_vec())));
    assert!(!has_effects(Command::Dump));
    assert!(!has_effects(Command::Stats));
}
